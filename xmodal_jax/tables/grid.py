"""What a table of runs is: the cells that differ from a config, the figures shown, and those published."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Grid:
    """cells: base config -> {cell: {dotted config key: value}}; columns: {header: metric of results.json}.

    Among a cell's changes "arguments" stands for further arguments of the config file, where whole sections differ; "file" for
    another config file; "start" for the cell whose run of the same seed it starts from, its argument init.
    Figures are given in percent, but in the columns of `plain`.
    tables: cells -> {title: {row label: cell}}; published: {cell: {header: figure as printed}}.
    against: (cell, metric): every row also tells how much less it has than this cell, seed by seed, with a 95 % interval.
    of_models: {header: {cell: text}}, columns of what is known of the published models, of the table without training.
    once: cells of which one seed is enough. split: of the data that figures are of.
    drawings: {cell: {metric: [value per seed]}} -> SVG texts of the report; more: the same -> further `Table`s.
    """

    title: str
    config: str  # config file that the cells start from
    cells: Callable
    columns: dict  # or base config -> such a dictionary
    note: str = ""
    tables: Callable = lambda cells: {"All cells": {cell: cell for cell in cells}}
    plain: tuple = ()
    published: dict = dataclasses.field(default_factory=dict)
    against: tuple = ()
    of_models: dict = dataclasses.field(default_factory=dict)
    once: tuple = ()
    split: str = "val"
    drawings: Callable = lambda values: ()
    more: Callable = lambda values: ()


def of_known(tables, cells):
    """The tables without the rows whose cell there is not, and without empty ones."""
    known = {title: {label: cell for label, cell in rows.items() if cell in cells} for title, rows in tables.items()}
    return {title: rows for title, rows in known.items() if rows}

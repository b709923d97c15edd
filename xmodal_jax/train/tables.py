"""Tables of runs: every cell is a config that differs from a base in a few keys, trained for several seeds, resumed where
it was stopped, and written beside each other with mean and spread."""

import dataclasses
import json
import os

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from xmodal_jax.draw.blocks import Table
from xmodal_jax.draw.report import write_report
from xmodal_jax.train import progress
from xmodal_jax.train.loop import check_workdir, train


@dataclasses.dataclass(frozen=True)
class Grid:
    """cells: {row name: {dotted config key: value}}; columns: {header: metric of results.json}."""

    title: str
    config: str  # config file that the cells start from
    cells: dict
    columns: dict
    note: str = ""


CROSSMODAL_BYTES = Grid(
    title="Crossmodal byte language model: what third-modality text and dictionary senses add",
    config="configs/pretrain.py",
    cells={
        "none": {"examples.third": 0.0, "examples.gloss": 0.0},
        "third": {"examples.third": 0.5, "examples.gloss": 0.0},
        "dictionary": {"examples.third": 0.0, "examples.gloss": 0.5},
        "both": {"examples.third": 0.5, "examples.gloss": 0.5},
    },
    columns={
        "sense, right image": "sense_accuracy/right_image",
        "wrong image": "sense_accuracy/wrong_image",
        "no image": "sense_accuracy/no_image",
        "swapped follows": "sense_accuracy/swapped_follows",
        "masked word": "masked/right_image/word",
        "masked word, no image": "masked/no_image/word",
        "i2t R@1": "retrieval/i2t_r1",
        "answers": "generation/answer_accuracy",
    },
    note="Claims 5 (third) and 6-7 (dictionary) of US 12,393,789 B2, each switched off in turn.",
)
TABLES = {"crossmodal_bytes": CROSSMODAL_BYTES}


def run(grid, config, workdir, seeds):
    """Train every cell for `seeds` seeds below `workdir`; returns {cell: {metric: [value per seed]}}.

    A finished cell is read from its results.json; an unfinished one goes on from its checkpoint. Writes table.md,
    table.json and report.html, anew after each cell.
    """
    values = {cell: {} for cell in grid.cells}
    for seed in range(seeds):
        for cell, changes in grid.cells.items():
            folder = os.path.join(workdir, f"{cell}-{seed}")
            cell_config = changed(config, {**changes, "seed": config.seed + seed})
            results = finished(folder, cell_config)
            if results is None:
                logging.info("cell %s, seed %d of %d", cell, seed + 1, seeds)
                results = train(cell_config, folder)
            if results is None:  # SIGTERM: the cell was saved, and goes on next time
                return values
            for name, value in results.items():
                values[cell].setdefault(name, []).append(value)
            write(grid, values, workdir, config)
    return values


def finished(folder, config):
    """The results of a cell that was trained to its end with this config, or None."""
    path = os.path.join(folder, "results.json")
    if not os.path.exists(path):
        return None
    check_workdir(config, folder)
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def changed(config, changes):
    """A copy of `config` with dotted keys set."""
    copy = ConfigDict(config.to_dict())
    copy.update_from_flattened_dict(changes)
    return copy


def write(grid, values, workdir, config):
    """table.md, table.json and report.html of what is known so far."""
    headers = ["", *grid.columns]
    rows = [[cell, *(spread(values[cell].get(metric)) for metric in grid.columns.values())] for cell in grid.cells]
    lines = [f"| {' | '.join(headers)} |", f"|{' --- |' * len(headers)}", *(f"| {' | '.join(row)} |" for row in rows)]
    text = f"# {grid.title}\n\n" + "\n".join(lines) + f"\n\n{grid.note}\n"
    progress.replace_text(os.path.join(workdir, "table.md"), text)
    progress.replace_text(os.path.join(workdir, "table.json"), json.dumps(values, indent=2) + "\n")
    write_report(
        os.path.join(workdir, "report.html"),
        title=grid.title,
        config=config.to_dict(),
        tables=[Table(grid.title, headers, rows, grid.note)],
    )
    logging.info("\n%s", text)


def spread(values):
    """ "97.3 +- 0.4" in percent over seeds, or a dash."""
    if not values:
        return "-"
    mean = f"{100 * np.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * np.std(values, ddof=1):.1f}"

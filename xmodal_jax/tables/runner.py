"""Tables of runs: every cell is a config that differs from a base in a few keys, trained for several seeds, resumed where
it was stopped, and written beside each other with mean and spread, and beside published figures."""

import dataclasses
import itertools
import json
import os

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from xmodal_jax.config import choose
from xmodal_jax.draw.blocks import Table
from xmodal_jax.draw.report import write_report
from xmodal_jax.files import replace_text
from xmodal_jax.systems.training import train
from xmodal_jax.train import progress
from xmodal_jax.train.report import SAMPLES
from xmodal_jax.train.signals import stop_by_signals
from xmodal_jax.train.workdir import check_workdir

FIRST = 0  # seed whose samples are shown
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # 97.5 % of t with 1, 2, ... degrees of freedom


def run(grid, config, workdir, seeds, chosen=(), make=None):
    """Train every cell (or those chosen) for `seeds` seeds below `workdir`; returns {cell: {metric: [value per seed]}}.

    make: (further arguments[, another config file]) -> config; of the grids that have cells with "arguments" or "file".

    A finished cell is read from its results.json; an unfinished one goes on from its checkpoint. Writes table.md,
    table.json and report.html, anew after each cell.
    """
    cells = grid.cells(config)
    for name in chosen:
        choose(cells, name, "--cells")
    cells = {name: changes for name, changes in cells.items() if not chosen or name in chosen}
    values = {cell: {} for cell in cells}
    with stop_by_signals() as is_stopped:  # of the whole table: noticed between cells too
        for seed, (cell, changes) in itertools.product(range(seeds), cells.items()):
            if seed and cell in grid.once:
                continue
            folder = os.path.join(workdir, f"{cell}-{seed}")
            cell_config = config_of(changes, config, make, workdir, seed)
            results = finished(folder, cell_config)
            if results is None:
                logging.info("cell %s, seed %d of %d", cell, seed + 1, seeds)
                results = train(cell_config, folder, grid.split, is_stopped)
            if results is None:  # stopped: the cell was saved, and goes on next time
                break
            for name, value in (results | costs(folder, cell_config)).items():
                values[cell].setdefault(name, []).append(value)
            write(grid, values, workdir, config)
    return values


def config_of(changes, config, make, workdir, seed):
    """The config of one run of a cell; of data in folds each seed holds out another one."""
    given = {**changes, "seed": config.seed + seed}
    if folds := config.data.get("folds", 0):
        given["data.fold"] = (config.data.fold + seed) % folds
    arguments, file, start = (given.pop(name, None) for name in ("arguments", "file", "start"))
    if start:
        arguments = ",".join(filter(None, [arguments, f"init={os.path.join(workdir, f'{start}-{seed}')}"]))
    return changed(config if arguments is None and file is None else make(arguments or "", *[file] * bool(file)), given)


def finished(folder, config):
    """The results of a cell that was trained to its end with this config, or None."""
    path = os.path.join(folder, "results.json")
    if not os.path.exists(path):
        return None
    check_workdir(config, folder)
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def costs(folder, config):
    """{"cost/...": what a run's step costs: parameters in millions, GFLOP an example, MiB on a device, ms}."""
    found = progress.read_costs(folder)
    scales = {"parameters": 1e-6, "flops_per_example": 1e-9, "memory_bytes": 2**-20}
    out = {f"cost/{name}": scale * found[name] for name, scale in scales.items() if found.get(name) is not None}
    return out | ({"cost/step_ms": 1000 * config.batch_size / rate} if (rate := found.get("examples_per_s")) else {})


def changed(config, changes):
    """A copy of `config` with dotted keys set."""
    copy = ConfigDict(config.to_dict())
    copy.update_from_flattened_dict(changes)
    return copy


def write(grid, values, workdir, config):
    """table.md, table.json and report.html of what is known so far."""
    if callable(grid.columns):
        grid = dataclasses.replace(grid, columns=grid.columns(config))
    tables = [table_of(grid, title, rows, values) for title, rows in grid.tables(values).items()] + list(grid.more(values))
    shown = samples_of(values, workdir)
    text = f"# {grid.title}\n" + "".join(map(markdown, tables)) + f"\n{grid.note}\n" + (markdown(shown) if shown else "")
    replace_text(os.path.join(workdir, "table.md"), text)
    replace_text(os.path.join(workdir, "table.json"), json.dumps(values, indent=2) + "\n")
    write_report(
        os.path.join(workdir, "report.html"),
        title=grid.title,
        config=config.to_dict(),
        tables=[*tables, *([shown] if shown else [])],
        drawings=grid.drawings(values),
    )
    logging.info("\n%s", text)


def table_of(grid, title, rows, values):
    """One `Table`: a row of our figures for every cell, and what was published for it underneath."""
    lines = []
    for label, cell in rows.items():
        found = {header: values[cell].get(metric) for header, metric in grid.columns.items()}
        line = [label, *(spread(given, 1 if header in grid.plain else 100) for header, given in found.items())]
        lines.append([*line, *([lost(values, cell, *grid.against)] if grid.against else [])])
        if cell in grid.published:
            given = grid.published[cell]
            lines.append(["  published", *(given.get(column, "") for column in grid.columns)])
    return Table(title, ["", *grid.columns, *([f"less than {grid.against[0]}"] if grid.against else [])], lines, grid.note)


def samples_of(values, workdir, count=3):
    """What every finished cell of the first seed wrote about the same few examples, as a `Table`, or None."""
    rows, references = [], []
    for cell in values:
        path = os.path.join(workdir, f"{cell}-{FIRST}", SAMPLES)
        if os.path.exists(path):
            samples = [sample for sample in progress.read_jsonl(path) if sample["kind"] == "caption"][:count]
            references = references or ["a reference", *(sample["references"][0] for sample in samples)]
            rows.append([cell, *(sample["answer"] for sample in samples)])
    if not rows or len(references) < 2:
        return None
    return Table("Samples", ["", *(f"example {number + 1}" for number in range(len(references) - 1))], [references, *rows])


def lost(values, cell, other, metric):
    """ "0.42 (-0.10 to 0.94)": how much less a cell has than another, the mean over seeds paired, and its 95 % interval."""
    pairs = list(zip(values.get(other, {}).get(metric, ()), values[cell].get(metric, ()), strict=False))
    if not pairs or cell == other:
        return "-"
    differences = np.array([theirs - own for theirs, own in pairs])
    mean = differences.mean()
    if len(pairs) < 2:
        return f"{mean:.2f}"
    half = STUDENT[min(len(pairs), len(STUDENT)) - 2] * differences.std(ddof=1) / np.sqrt(len(pairs))
    return f"{mean:.2f} ({mean - half:.2f} to {mean + half:.2f})"


def markdown(table):
    """A `Table` as Markdown."""
    lines = [table.headers, ["---"] * len(table.headers), *table.rows]
    return f"\n## {table.title}\n\n" + "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def spread(values, factor=100):
    """ "97.3 ± 0.4", times the factor, over seeds; a dash for none."""
    if not values:
        return "-"
    digits = 1 if factor > 1 else 2
    mean = f"{factor * np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {factor * np.std(values, ddof=1):.{digits}f}"

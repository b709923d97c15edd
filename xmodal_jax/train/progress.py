"""What a run tells: a console line with ETA, `metrics.jsonl`, TensorBoard; and the tables printed before step 1."""

import json
import os
import time

import jax
import numpy as np
from absl import logging

from xmodal_jax.files import replace_text
from xmodal_jax.train import peers
from xmodal_jax.train.mesh import path_of


class Progress:
    """Writes metrics as they arrive; on resume, lines of steps that will be run again are dropped first.

    Only the first process writes files. Lines that cannot be read are kept aside, in metrics.unreadable.
    """

    def __init__(self, workdir, total_steps, first_step, tensorboard=True):
        self.path = os.path.join(workdir, "metrics.jsonl")
        self.total_steps, self.writes = total_steps, jax.process_index() == 0
        self.started, self.started_step = time.monotonic(), first_step
        self.board = None
        if not self.writes:
            return
        if first_step and not os.path.exists(self.path):
            logging.warning("%s is missing: the figures up to step %d are lost, the run itself is not.", self.path, first_step)
        rows, unreadable = lines_of(self.path)
        if unreadable:
            with open(os.path.join(workdir, "metrics.unreadable"), "ab") as file:
                file.writelines(line + b"\n" for line in unreadable)
            logging.warning("what could not be read of it is kept as metrics.unreadable")
        self.kept = [row for row in rows if first_step and is_metrics(row) and row["step"] <= first_step]
        replace_text(self.path, "".join(json.dumps(row) + "\n" for row in self.kept))
        self.file = open(self.path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115  closed by close()
        if tensorboard:
            from tensorboardX import SummaryWriter  # here: its import takes half a second

            self.board = SummaryWriter(os.path.join(workdir, "tensorboard"), purge_step=first_step + 1)

    def write(self, step, values):
        """One line of metrics for a finished step."""
        if not self.writes:
            return
        values = {name: round_off(value) for name, value in values.items()}
        self.file.write(json.dumps({"step": step, **values}) + "\n")
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, np.nan if value is None else value, step)

    def lacks_evaluation(self, step):
        """Whether no line of an evaluation of the state at `step` was kept; all processes ask, and are told the same."""
        return peers.first_says(
            "reading metrics.jsonl",
            lambda: not any(row["step"] == step and "train/loss" not in row for row in self.kept),
        )

    def sync(self):
        """Have on the disk what was written: before a checkpoint that relies on it."""
        if self.writes:
            self.file.flush()
            os.fsync(self.file.fileno())

    def line(self, step, values, losses):
        """The console line of a log step."""
        rate = (step - self.started_step) / max(time.monotonic() - self.started, 1e-9)
        eta = duration((self.total_steps - step) / max(rate, 1e-9))
        shown = " ".join(f"{name} {values[f'train/{name}']:.3f}" for name in losses if f"train/{name}" in values)
        rates = (("examples_per_s", "examples/s"), ("tokens_per_s", "tokens/s"), ("tflops_per_s", "TFLOP/s"))
        speed = " ".join(f"{values[name]:.3g} {unit}" for name, unit in rates if name in values)
        logging.info("step %*d/%d  %s  %s  ETA %s", len(str(self.total_steps)), step, self.total_steps, shown, speed, eta)

    def close(self):
        if self.writes:
            self.file.close()
            if self.board is not None:
                self.board.close()


def before(workdir, names):
    """{NAME_before: figure} of the metrics of an evaluation before step 1, where the run had one."""
    first = next(iter(read_metrics(workdir)), {"step": None})
    return {f"{name}_before": first[name] for name in names if first["step"] == 0 and name in first}


def read_metrics(workdir):
    """The lines of a run's metrics.jsonl."""
    return [row for row in read_jsonl(os.path.join(workdir, "metrics.jsonl")) if is_metrics(row)]


def is_metrics(row):
    """Whether a line says what was measured at which step."""
    return type(row.get("step")) is int


def read_jsonl(path):
    """Objects of a JSONL file that is still being written; lines that hold none are left out, and said."""
    return lines_of(path)[0]


def lines_of(path):
    """(objects of the lines of a JSONL file, lines that hold none, as bytes); none of either where there is no file.

    A last line cut off by a kill is dropped.
    """
    try:
        with open(path, "rb") as file:
            *lines, last = file.read().split(b"\n")
    except FileNotFoundError:
        return [], []
    rows, unreadable = [], []
    for number, line in enumerate([*lines, last], 1):
        try:
            row = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            row = None
        if number > len(lines) and row is None:
            if line:
                logging.warning("%s: a line cut short is dropped.", path)
        elif isinstance(row, dict):
            rows.append(row)
        else:
            if not unreadable:
                logging.warning("%s:%d cannot be read, and is left out, as are others like it.", path, number)
            unreadable.append(line)
    return rows, unreadable


def round_off(value):
    """A JSON number with float32's digits, None where it is not finite."""
    value = float(value)
    return float(np.format_float_positional(value, 9, fractional=False)) if np.isfinite(value) else None


def duration(seconds):
    """1:02:03 or 2:03."""
    minutes, seconds = divmod(int(max(0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def parameter_table(params, depth=2):
    """Lines "part  parameters  bytes", grouped by the first `depth` names of their paths, and the total."""
    groups = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = "/".join(path_of(path).split("/")[:depth])
        count, size = groups.get(name, (0, 0))
        groups[name] = count + leaf.size, size + leaf.size * leaf.dtype.itemsize
    groups["total"] = tuple(map(sum, zip(*groups.values(), strict=True)))
    width = max(map(len, groups))
    return [f"{name:{width}}  {count:>12,}  {size / 2**20:>9.2f} MiB" for name, (count, size) in groups.items()]


COSTS = "costs.json"


def write_costs(workdir, numbers):
    """Write what a run's step costs, beside its metrics: numbers that differ from machine to machine are no results."""
    if jax.process_index() == 0:
        replace_text(os.path.join(workdir, COSTS), json.dumps(numbers, indent=2) + "\n")


def read_costs(workdir):
    """{"parameters", "flops_per_example", "memory_bytes" (None where unknown), "examples_per_s", the median}; {} of a run that
    wrote none."""
    path = os.path.join(workdir, COSTS)
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        found = json.load(file)
    rates = [row["examples_per_s"] for row in read_metrics(workdir) if "examples_per_s" in row]
    return found | ({"examples_per_s": float(np.median(rates))} if rates else {})


def memory_of(compiled):
    """Bytes that the compiled step needs on one device: arguments and temporaries; None where the platform does not tell."""
    memory = compiled.memory_analysis()
    return None if memory is None else memory.argument_size_in_bytes + memory.temp_size_in_bytes


def memory_line(compiled):
    """What the compiled step needs on one device, as the compiler reports it."""
    memory = compiled.memory_analysis()
    if memory is None:
        return "memory analysis: not offered by this platform"
    parts = {
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
    }
    return "memory per device: " + ", ".join(f"{name} {size / 2**20:.1f} MiB" for name, size in parts.items())

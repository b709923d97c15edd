"""Our times beside eager PyTorch's: the sides of a case take turns, and each turn gives one ratio."""

import contextlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time

from absl import logging

from xmodal_jax import malloc
from xmodal_jax.config import choose
from xmodal_jax.draw.blocks import Table
from xmodal_jax.errors import UserError
from xmodal_jax.measure.beside.cases import CASES

OURS, PLAIN, SAME = "ours", "PyTorch", "PyTorch, our allocator"
KEPT = "ours, allocator kept"  # stands beside the default job, which PyTorch has no counterpart of
JOB = "default-job"


def measure(names, rounds, runs, keep=lambda found: None):
    """Time cases -> {"cases": {name: {"sides": {side: ...}, "ratios": [rounds], "ratio": their median, "mark"}}, "cpus"}.

    Args:
      names: of CASES and "default-job", all where there are none; rounds: turns of every side; runs: counted in a turn.
      keep: called with what is found after each case.
    Raises:
      UserError: an unknown case; no PyTorch here.
    """
    for name in names:
        choose({**CASES, JOB: None}, name, "--cases")
    if importlib.util.find_spec("torch") is None:
        raise UserError("--beside=pytorch needs PyTorch: pip install 'xmodal_jax[beside]'.")
    found = {"cpus": os.cpu_count(), "huge_pages": malloc.huge_pages(), "cases": {}}
    for name in names or [*CASES, JOB]:
        found["cases"][name] = measure_case(name, rounds, runs)
        keep(found)
    return found


def measure_case(name, rounds, runs):
    """The sides of one case, in turn."""
    first, second = (KEPT, PLAIN)[name != JOB], (SAME,) * (name != JOB)
    sides = {side: {"seconds": [], "page_faults": []} for side in (OURS, first, *second)}
    with contextlib.ExitStack() as stack:
        children = {side: stack.enter_context(started(name, side)) for side in sides}
        for side, child in children.items():
            sides[side]["allocator"] = answer(child, name, side)["allocator"]
        start = time.monotonic()
        for number in range(rounds):
            for side, child in children.items():
                child.stdin.write(f"{runs}\n")
                child.stdin.flush()
                told = answer(child, name, side)
                sides[side]["seconds"].append(statistics.median(told["seconds"]))
                sides[side]["page_faults"].append(told["page_faults"])
            times = ", ".join(f"{side} {1e3 * values['seconds'][-1]:.4g} ms" for side, values in sides.items())
            left = (time.monotonic() - start) / (number + 1) * (rounds - number - 1)
            logging.info("%s, round %d of %d: %s; %.0f s left", name, number + 1, rounds, times, left)
    ratios = [ours / theirs for ours, theirs in zip(sides[OURS]["seconds"], sides[first]["seconds"], strict=True)]
    mark = CASES[name].mark if name in CASES else None
    return {"sides": sides, "of": first, "ratios": ratios, "ratio": statistics.median(ratios), "mark": mark}


@contextlib.contextmanager
def started(name, side):
    """The process of one side, warmed up as soon as it answers; it ends with its input."""
    environment = malloc.as_before(os.environ) if side in (PLAIN, KEPT) else dict(os.environ)
    command = [sys.executable, "-m", f"{__package__}.child", name, "ours" if side in (OURS, KEPT) else "pytorch"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment) as child:
        try:
            yield child
        finally:
            child.stdin.close()
            child.kill()


def answer(child, name, side):
    """The next line of JSON of a side."""
    line = child.stdout.readline()
    if not line:
        raise RuntimeError(f"{side} of {name} ended: {child.stderr.read()[-2000:]}")
    return json.loads(line)


def tables(found):
    """The result of `measure` to be read."""
    rows = []
    for name, case in found["cases"].items():
        for side, told in case["sides"].items():
            ratios = ", ".join(f"{ratio:.2f}" for ratio in case["ratios"])
            ratio = (
                (f"{case['ratio']:.2f}", ratios, f"{case['mark']:.2g}" if case["mark"] else "") if side == OURS else ("",) * 3
            )
            ms, faults = 1e3 * statistics.median(told["seconds"]), statistics.median(told["page_faults"])
            rows.append((name, side, f"{ms:.4g} ms", f"{faults:.0f}", told["allocator"], *ratio))
    headers = ("case", "side", "time", "page faults", "allocator", "ratio", "of each round", "mark")
    note = f"{found['cpus']} CPUs, float32. A ratio is ours over the side below it; times and ratios are medians."
    return [Table("Beside eager PyTorch", headers, rows, note)]

"""One side of one case in a process of its own: `python -m xmodal_jax.measure.beside.child CASE SIDE`.

Reads numbers of runs, a line each, and answers each with a line of JSON: seconds of every run, page faults a run, and the name
of the allocator. Between them it is idle, so that sides can take turns without being started anew.
"""

import json
import sys
import time

from xmodal_jax import malloc
from xmodal_jax.measure.beside.cases import CASES
from xmodal_jax.measure.pages import page_faults

WARMUP = 2  # runs


def main(case, side):
    if side == "pytorch":
        from xmodal_jax.measure.beside import pytorch_side as made_by
    else:
        from xmodal_jax.measure.beside import jax_side as made_by
    run = made_by.default_job() if case == "default-job" else made_by.make(CASES[case])
    for _ in range(WARMUP):
        run()
    print(json.dumps({"allocator": malloc.in_use()}), flush=True)
    for line in sys.stdin:
        print(json.dumps(timed(run, int(line))), flush=True)


def timed(run, count):
    """{"seconds": [count], "page_faults": of a run}."""
    seconds, before = [], page_faults()
    for _ in range(count):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "page_faults": (page_faults() - before) / count}


if __name__ == "__main__":
    main(*sys.argv[1:])

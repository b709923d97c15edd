"""Jobs spread over processes that import only what the jobs need.

A process of `multiprocessing` runs the caller's main module again or forks: with JAX, seconds of imports each, or threads
that hang. A worker here is a fresh interpreter that reads pickled jobs and writes pickled results.
"""

import contextlib
import os
import pickle
import queue
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor


def usable_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def spread(make: Callable, argument, jobs: Sequence, processes: int) -> Iterator[Iterator]:
    """An iterator over the results of all jobs in order, computed in that many processes from now on.

    Args:
      make: a function at the top of a module; `make(argument)` is called once in each process and gives the function
        from a job to its result. With one process it is called here, and jobs run as the iterator comes to them.
      argument, jobs: pickled on the way, as are the results.
    """
    if processes <= 1:
        yield map(make(argument), jobs)
        return
    path = os.pathsep.join(part or os.getcwd() for part in sys.path)
    workers = []
    try:
        for _ in range(processes):
            command = [sys.executable, "-m", "xmodal_jax.metrics.workers"]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            workers.append(subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, **pipes))
        idle: queue.SimpleQueue = queue.SimpleQueue()
        start = pickle.dumps((make, argument))
        for worker in workers:
            idle.put((worker, start))

        def run(job):
            worker, before = idle.get()
            try:
                worker.stdin.write(before + pickle.dumps(job))
                worker.stdin.flush()
                result, error = pickle.load(worker.stdout)
            except (EOFError, BrokenPipeError, pickle.UnpicklingError):
                raise RuntimeError(f"a worker process ended early, with status {worker.wait()}") from None
            finally:
                idle.put((worker, b""))
            if error is not None:
                raise error
            return result

        with ThreadPoolExecutor(processes) as threads:
            try:
                yield threads.map(run, jobs)
            finally:
                threads.shutdown(cancel_futures=True)
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def _serve() -> None:
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a job prints must not stand among the results
    jobs = sys.stdin.buffer
    make, argument = pickle.load(jobs)
    work = make(argument)
    while True:
        try:
            job = pickle.load(jobs)
        except EOFError:
            return
        try:
            answer = work(job), None
        except Exception as error:
            answer = None, error
        pickle.dump(answer, results)
        results.flush()


if __name__ == "__main__":
    _serve()

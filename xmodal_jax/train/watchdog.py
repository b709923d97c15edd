"""Who is waited for: a thread that names in the log what stands still. It ends nothing: a slow run is a run."""

import contextlib
import multiprocessing
import os
import threading
import time

from absl import logging


class Watchdog:
    """Watches one thing at a time.

    patience: seconds after which a wait is told; ten times as long as the longest wait of its kind that came to an end, where
    that is more. who: () -> what else is known of those that may be waited for.
    """

    def __init__(self, patience, who=lambda: ""):
        self.patience, self.who = patience, who
        self.longest, self.waiting, self.ended = {}, None, threading.Event()
        if patience > 0:
            threading.Thread(target=self._watch, daemon=True).start()

    @contextlib.contextmanager
    def over(self, kind, what):
        """Within, `what`, of one kind ("batch", "step"), is waited for."""
        start = time.monotonic()
        self.waiting = kind, what, start
        try:
            yield
        finally:
            self.waiting = None
            self.longest[kind] = max(self.longest.get(kind, 0.0), time.monotonic() - start)

    def _watch(self):
        told, again = None, 0.0
        while not self.ended.wait(min(1.0, self.patience / 4)):
            waiting = self.waiting
            if waiting is None:
                continue
            kind, what, start = waiting
            waited = time.monotonic() - start
            if waiting is not told:
                told, again = waiting, max(self.patience, 10 * self.longest.get(kind, 0.0))
            if waited >= again:
                logging.warning("%s has not come for %.0f s. %s", what, waited, f"{workers()}{self.who()}".strip())
                again *= 2

    def close(self):
        self.ended.set()


def workers():
    """What the processes that make batches are doing, for people: "" where there are none."""
    found = [f"{one.name}, process {one.pid}: {state_of(one.pid)}" for one in multiprocessing.active_children()]
    return f"The loader's workers: {'; '.join(found)}. " if found else ""


def state_of(pid):
    """The state of a process as Linux tells it."""
    try:
        with open(f"/proc/{int(pid)}/status", encoding="utf-8") as file:
            state = next(line.split(":", 1)[1].strip() for line in file if line.startswith("State:"))
    except (OSError, StopIteration, TypeError):
        return "ended" if not os.path.isdir(f"/proc/{pid}") and os.path.isdir("/proc/self") else "unknown"
    return {"T": "stopped by a signal (SIGCONT lets it go on)", "Z": "dead"}.get(state[:1], state)

"""Long work in native code that Ctrl-C and SIGTERM end early, without losing what it has so far."""

import multiprocessing
import os
import signal
import sys
import threading


def until_stopped(work):
    """Run work() -> None, or the signal that ended the wait for it, SIGINT or SIGTERM; what it raises is raised here.

    It runs in a thread of its own: in native code, such as a compiler, a signal is answered by a main thread that waits. After
    a signal it goes on until the process ends, see `end_by`.
    """
    told, failed, finished = [], [], threading.Event()

    def run():
        try:
            work()
        except BaseException as error:
            failed.append(error)
        finally:
            finished.set()

    signals = signal.SIGINT, signal.SIGTERM
    before = [signal.signal(one, lambda number, _: told.append(number)) for one in signals]
    threading.Thread(target=run, daemon=True).start()
    try:
        while not (told or finished.wait(0.1)):
            pass
    finally:
        for one, handler in zip(signals, before, strict=True):
            signal.signal(one, handler)
    if told:
        return told[0]
    if failed:
        raise failed[0]
    return None


BROKEN_OFF = object()  # what a command returns that a signal ended early, all saved


def leave():
    """End the process with status 0, without the interpreter's own end: that does not always survive native code which still
    computes what a signal broke off (seen once: a segmentation fault)."""
    for child in multiprocessing.active_children():
        child.terminate()
        child.join(5)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def end_by(number):
    """End the process as signal `number` would have ended it, whatever its threads are at."""
    sys.stdout.flush()
    sys.stderr.flush()
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)

"""SIGTERM and Ctrl-C: a run saves and ends; a second Ctrl-C ends it at once."""

import contextlib
import os
import signal
import threading

import jax
from jax.experimental import multihost_utils

SIGNALS = signal.SIGTERM, signal.SIGINT


class Stopped(BaseException):
    """What was under way was broken off by a signal."""


class Stop:
    """step -> whether to save and end there.

    asked: the same as a function, which is asked beside signals.
    """

    def __init__(self, asked=lambda step: False):
        self.asked, self.told, self.breaks = asked, False, False

    def __call__(self, step):
        return self.told or self.asked(step)

    @contextlib.contextmanager
    def breaking(self):
        """Within, a signal raises Stopped at once: for what changes nothing, and takes long."""
        if self.told:
            raise Stopped
        self.breaks = True
        try:
            yield
        finally:
            self.breaks = False

    def answer(self, number, frame):
        """What a signal does."""
        if self.told and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.told = True
        if self.breaks:
            raise Stopped


@contextlib.contextmanager
def stop_by_signals():
    """A Stop of SIGTERM, by which pre-emptible machines ask for an end, and of Ctrl-C.

    With several processes JAX agrees on one step for all of them, whichever was told first; what is under way there is not
    broken off. JAX knows SIGTERM alone: Ctrl-C is handed on as one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield Stop()
        return
    if jax.process_count() > 1:
        before = {signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: os.kill(os.getpid(), signal.SIGTERM))}
        stop = Stop(multihost_utils.reached_preemption_sync_point)
    else:
        stop = Stop()
        before = {number: signal.signal(number, stop.answer) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

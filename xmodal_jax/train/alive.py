"""Of several processes: one that is lost is named within seconds, and the others end, each by one paragraph.

Every process tells the coordinator's store of keys each BEAT that it lives; the first one hears all of them and says which has
fallen silent; the first one itself is missed by the others, as the store goes with it. A process that ends by an error says so
before it goes. JAX finds out too, but ends its processes by a native abort that names nobody.
"""

import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
import time

from xmodal_jax.errors import tell

BEAT = 1.0  # seconds
SILENCE = 7.0  # seconds after which a process counts as lost
PATIENT = 25.0  # the same before it is in its loop: reading a large file of captions can hold all its threads up
JAX_SILENCE = 100  # seconds, of JAX's own watch
PREFIX, VERDICT = "xmodal/alive/", "xmodal/lost"
MEANT = "The run goes on from its last checkpoint when the same command is started again."


class Alive:
    """What one process does to be heard and to hear the others; `watch` starts it."""

    def __init__(self, client, index, count, address):
        self.client, self.index, self.count, self.address = client, index, count, address
        self.state, self.ended = "starting", False
        self.answers = 0  # of the store
        self.heard = {}  # process -> (what it said last, how often since)

    def watch(self):
        for work in (self._beat, self._miss_the_first) if self.index else (self._beat,):
            threading.Thread(target=work, daemon=True).start()

    def _beat(self):
        number = 0
        while not self.ended:
            number += 1
            try:
                self.client.key_value_set(f"{PREFIX}{self.index}", f"{self.state} {number}", allow_overwrite=True)
                if self.index == 0:
                    self._hear(dict(self.client.key_value_dir_get(PREFIX)))
                if verdict := self._verdict():
                    return self._end(verdict)
                self.answers += 1
            except Exception:  # the store does not answer: the first process is gone, or the network
                if self.ended:
                    return None
            time.sleep(BEAT)
        return None

    def _hear(self, said):
        """The first process looks for one that has fallen silent.

        Silence is counted in beats of one's own: who is held up, or stopped and let go on, must not blame the others.
        """
        for process in range(1, self.count):
            word = said.get(f"{PREFIX}{process}", "starting")
            before, beats = self.heard.get(process, (None, 0))
            beats = beats + 1 if word == before else 0
            self.heard[process] = word, beats
            state = word.split()[0]
            if state != "done" and beats * BEAT > (SILENCE if state == "running" else PATIENT):
                self.say(
                    f"Process {process} of {self.count} of this run was lost: it has not been heard for {beats * BEAT:.0f} s. "
                    f"It was ended or stopped, or its machine cannot be reached; its own log says more. {MEANT}"
                )

    def _miss_the_first(self):
        """The other processes look whether the store still answers."""
        answers = beats = 0
        while not self.ended:
            time.sleep(BEAT)
            beats = beats + 1 if self.answers == answers else 0
            answers = self.answers
            if beats * BEAT > (SILENCE if self.state == "running" else PATIENT):
                self._end(self.first_lost(f"it has not been heard for {beats * BEAT:.0f} s"))

    def first_lost(self, how):
        return (
            f"Process 0 of {self.count} of this run, which the others meet at, was lost: {how}. It was ended or stopped, or "
            f"its machine ({self.address}) cannot be reached; its own log says more. {MEANT}"
        )

    def _verdict(self):
        try:
            return self.client.key_value_try_get(VERDICT)
        except Exception as error:
            if "NOT_FOUND" in str(error):
                return None
            raise

    def say(self, paragraph):
        """Have all processes end by this paragraph, unless they do by another one."""
        try:
            self.client.key_value_set(VERDICT, paragraph)
        except Exception:
            return  # said already, or nobody is there

    def _end(self, paragraph):
        if self.ended:
            return
        self.ended = True
        tell(paragraph)
        if self.index == 0:
            time.sleep(3 * BEAT)  # the store goes with this process
        sys.stdout.flush()
        os._exit(2)

    def leave(self, reason=None):
        """This process ends, by itself or for a reason that the others are told; returns once they can know."""
        self.ended = True
        if reason is None:
            with contextlib.suppress(Exception):
                self.client.key_value_set(f"{PREFIX}{self.index}", "done", allow_overwrite=True)
            return
        self.say(f"Process {self.index} of {self.count} of this run ended by an error: {reason} {MEANT}")
        if self.index == 0:
            time.sleep(3 * BEAT)


here = None  # of this process, where it is one of several


def start():
    """Begin to be heard and to hear. Called once, after joining the other processes."""
    global here
    from jax._src import distributed  # there is no public name for its client; orbax takes it from there as well

    state = distributed.global_state
    here = Alive(state.client, state.process_id, state.num_processes, state.coordinator_address)
    here.watch()
    if state.process_id:
        explain_abort(here, state.coordinator_address)


def running():
    """This process is in its loop: from now on silence means that it is lost."""
    if here is not None:
        here.state = "running"


def explain_abort(alive, address):
    """Where the first process is lost JAX aborts this one from a native thread at once: that gets its paragraph too."""

    def aborted(number):
        if alive.ended or is_there(address):
            return  # to abort(), which goes on
        alive.ended = True
        tell(alive.first_lost("the connection to it broke"))
        os._exit(2)

    alive.aborted = ctypes.CFUNCTYPE(None, ctypes.c_int)(aborted)  # kept for as long as the process lives
    ctypes.CDLL(None).signal(signal.SIGABRT, alive.aborted)


def is_there(address):
    """Whether something listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2):
            return True
    except (OSError, ValueError):
        return False

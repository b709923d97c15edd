"""What processes of a run agree on, and how a lost one is named: by threads that share a store of keys, as processes do."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import jax
import pytest

from xmodal_jax.errors import UserError
from xmodal_jax.train import alive, checkpoints, checksums, peers


class Store:
    """JAX's store of keys, as far as it is used."""

    def __init__(self):
        self.values, self.changed, self.is_there = {}, threading.Condition(), True

    def key_value_set(self, key, value, allow_overwrite=False):
        self._answer()
        with self.changed:
            if key in self.values and not allow_overwrite:
                raise jax.errors.JaxRuntimeError("ALREADY_EXISTS: ...")
            self.values[key] = value
            self.changed.notify_all()

    def blocking_key_value_get(self, key, milliseconds):
        with self.changed:
            if not self.changed.wait_for(lambda: key in self.values, milliseconds / 1000):
                raise jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED: ...")
            return self.values[key]

    def key_value_try_get(self, key):
        self._answer()
        if key not in self.values:
            raise jax.errors.JaxRuntimeError("NOT_FOUND: ...")
        return self.values[key]

    def key_value_dir_get(self, prefix):
        self._answer()
        return [(key, value) for key, value in self.values.items() if key.startswith(prefix)]

    def _answer(self):
        if not self.is_there:
            raise jax.errors.JaxRuntimeError("UNAVAILABLE: ...")


@pytest.fixture
def in_processes(monkeypatch):
    """f(count, function) -> [what function() gave or raised in process 0, 1, ...]."""
    here, store = threading.local(), Store()
    monkeypatch.setattr(peers, "store", lambda: store)
    monkeypatch.setattr(jax, "process_index", lambda: here.index)

    class Turns:
        def __next__(self):
            here.turn = getattr(here, "turn", -1) + 1
            return here.turn

    monkeypatch.setattr(peers, "TURNS", Turns())

    def run(count, function):
        monkeypatch.setattr(jax, "process_count", lambda: count)
        store.values.clear()
        found = [None] * count

        def one(index):
            here.index = index
            try:
                found[index] = function()
            except Exception as error:
                found[index] = error

        threads = [threading.Thread(target=one, args=(index,)) for index in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found

    return run


def test_processes_hear_what_each_has_met(in_processes):
    assert in_processes(3, lambda: peers.gathered("it", [jax.process_index(), "x"])) == [[[0, "x"], [1, "x"], [2, "x"]]] * 3


def test_a_process_that_does_not_come_is_named_in_time(in_processes):
    def gather():
        return None if jax.process_index() == 2 else peers.gathered("reading", 1, patience=0.05)

    *others, _ = in_processes(3, gather)
    assert all(isinstance(error, UserError) and "Process 2 is not done with reading" in str(error) for error in others)


@pytest.mark.parametrize("error", [UserError("no such thing"), OSError(5, "Input/output error")])
def test_an_error_of_the_one_that_decides_is_everyones(in_processes, error):
    def fail():
        raise error

    found = in_processes(3, lambda: peers.first_says("it", fail))
    assert all(isinstance(one, UserError) and str(error) in str(one) for one in found)
    assert in_processes(2, lambda: peers.first_says("it", lambda: jax.process_index())) == [0, 0]


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), checksums.Damaged("file d has another checksum")])
def test_what_one_process_meets_in_reading_all_come_to_the_same_end(in_processes, monkeypatch, error):
    monkeypatch.setattr(checkpoints, "PAUSES", (0, 0))

    def verify(place, first, stride):
        if jax.process_index() == 1:
            raise error
        return True

    monkeypatch.setattr(checksums, "verify", verify)
    ends = in_processes(3, lambda: checkpoints.attempt("checkpoints/6", lambda place: "read"))
    expected = checkpoints.DAMAGED if isinstance(error, checksums.Damaged) else checkpoints.PASSING
    assert {(end, message.partition(":")[0]) for end, _, message in ends} == {(expected, "process 1")}


@pytest.fixture
def ended(monkeypatch):
    """[(exit status, paragraph)] of the processes that would have ended."""
    found, told = [], []
    monkeypatch.setattr(alive, "BEAT", 0.02)
    monkeypatch.setattr(alive, "SILENCE", 0.3)
    monkeypatch.setattr(alive, "tell", told.append)
    monkeypatch.setattr(alive.os, "_exit", lambda status: found.append((status, told[-1])))
    return found


def started(store, index, count=3, state="running"):
    one = alive.Alive(store, index, count, "host:1")
    one.state = state
    one.watch()
    return one


def until(is_so):
    for _ in range(1000):
        if is_so():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to that")


def test_one_that_falls_silent_is_named_by_all_others(ended):
    store = Store()
    running = [started(store, index) for index in range(3)]
    until(lambda: len(store.values) == 3)
    running[2].ended = True  # its threads end, as it does
    until(lambda: len(ended) == 2)
    assert all(status == 2 and "Process 2 of 3 of this run was lost: it has not" in paragraph for status, paragraph in ended)


def test_one_that_fails_says_why(ended):
    store = Store()
    running = [started(store, index) for index in range(3)]
    running[1].leave("the disk is full.")
    until(lambda: len(ended) == 2)
    assert all("Process 1 of 3 of this run ended by an error: the disk is full." in paragraph for _, paragraph in ended)


def test_one_that_is_done_is_not_missed(ended):
    store = Store()
    running = [started(store, index) for index in range(2)]
    running[1].leave()
    time.sleep(0.6)
    assert not ended and store.values[f"{alive.PREFIX}1"] == "done"
    running[0].ended = True


def test_the_first_one_is_missed_by_the_others(ended):
    store = Store()
    running = [started(store, index) for index in (1, 2)]
    store.is_there = False
    until(lambda: len(ended) == 2)
    assert all("Process 0 of 3 of this run, which the others meet at, was lost" in paragraph for _, paragraph in ended)
    assert all(one.ended for one in running)


MEMBER = """
import os, sys, time, jax
from xmodal_jax.train import alive
address, index = sys.argv[1], int(sys.argv[2])
jax.distributed.initialize(address, 3, index, coordinator_bind_address=address)
alive.start()
alive.running()
print("joined", flush=True)
time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 2])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_process_is_named_by_the_others_which_end(victim, number):
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{door.getsockname()[1]}"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": os.environ | {"JAX_PLATFORMS": "cpu"}}
    members = [subprocess.Popen([sys.executable, "-c", MEMBER, address, str(index)], **pipes) for index in range(3)]
    try:
        assert [member.stdout.readline() for member in members] == ["joined\n"] * 3
        members[victim].send_signal(number)
        for member in members[:victim] + members[victim + 1 :]:
            told = " ".join(member.communicate(timeout=60)[1].split())
            assert member.returncode == 2 and f"Error: Process {victim} of 3 of this run" in told, told
    finally:
        for member in members:
            member.kill()


def test_whether_the_first_one_is_there():
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        address = f"127.0.0.1:{door.getsockname()[1]}"
        assert alive.is_there(address)
    assert not alive.is_there(address) and not alive.is_there("nonsense")

"""The folder of a run: its config, its lock, what it learned from; folders that cannot be used."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from tests.train import small_config
from xmodal_jax import cli, files, joining
from xmodal_jax.errors import UserError
from xmodal_jax.train import checksums, fingerprint, loop, watchdog, workdir
from xmodal_jax.train.lock import locked
from xmodal_jax.train.progress import Progress, read_jsonl, read_metrics
from xmodal_jax.train.signals import Stop, Stopped


@pytest.mark.parametrize("text", ["", "[]", "5", "null", '{"model": ', "\xff\xfe", "[" * 100_000])
def test_a_broken_config_is_one_paragraph(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    for reading in (lambda: workdir.run_config(str(tmp_path)), lambda: workdir.check_workdir({}, str(tmp_path))):
        with pytest.raises(UserError, match="config.json is not what a run writes there") as caught:
            reading()
        assert len(str(caught.value)) < 600 + len(str(tmp_path))


def test_a_config_of_something_else_is_no_run(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="is not that of a run"):
        workdir.run_config(str(tmp_path))


def test_folders_that_cannot_be_used(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    config = small_config.get_config()
    for place, message in (
        (tmp_path / "file", "is a file"),
        (tmp_path / "file" / "run", "cannot be used"),
        ("/proc/run", "be used"),
    ):
        with pytest.raises(UserError, match=message), workdir.claimed(config, str(place)):
            pass
    monkeypatch.setattr(os, "access", lambda place, mode: False)  # of root everything is allowed
    with pytest.raises(UserError, match="nothing can be written there"), workdir.claimed(config, str(tmp_path)):
        pass


HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "a+")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""


def test_a_folder_is_one_runs_at_a_time_and_a_killed_one_leaves_it(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match="is in use: another process trains there"), locked(str(tmp_path)):
        pass
    holder.kill()
    holder.wait()
    mine = pytest.raises(UserError, match=rf"is in use: process {os.getpid()} on \S+, since")
    with locked(str(tmp_path)), mine, locked(str(tmp_path)):
        pass
    with locked(str(tmp_path)):
        pass


def test_a_disk_without_locks_is_said_and_used(tmp_path, monkeypatch, caplog):
    def none(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with locked(str(tmp_path)):
        assert any("this disk has no locks" in record.getMessage() for record in caplog.records)


class Source:
    def __init__(self, records):
        self.records = records

    def __len__(self):
        return len(self.records)

    def record(self, i):
        name, texts, *paths = self.records[i]
        return [name, texts], paths


def test_changed_data_are_told_and_with_strict_refused(tmp_path, caplog):
    picture, alone, folder = tmp_path / "1.png", tmp_path / "texts.txt", tmp_path / "run"
    picture.write_bytes(b"one")
    alone.write_text("a dog runs")
    rows = [("1", ["a dog"], str(picture)), ("2", ["a cat"]), ("3", ["a red car"])]

    def check(rows, message, **settings):
        caplog.clear()
        fingerprint.check(Source(rows), str(folder), **settings)
        told = [record.getMessage() for record in caplog.records]
        assert (not told) if message is None else any(message in line for line in told), told

    check(rows, None)
    check(rows, None, strict=True)
    check([rows[0], rows[2], rows[1]], 'the same examples in another order, the first is number 1, now ["3", ["a red car"]]')
    check([rows[0], ("2", ["two cats"]), rows[2]], '1 examples have other ids or texts, the first is number 1, now ["2", ["two')
    check(rows[:2], "3 examples then, 2 now")
    picture.write_bytes(b"other")
    check(rows, "the files of 1 examples have another size or time, the first is number 0")
    with pytest.raises(UserError, match="are not those that the run in .* began with"):
        check(rows, None, strict=True)
    picture.write_bytes(b"one")
    (folder / fingerprint.FILE).unlink()
    check(rows, None, files=[str(alone)])
    alone.write_text("two dogs run")
    check(rows, "the files of 1 examples have another size or time, the first is number 3", files=[str(alone)])
    (folder / fingerprint.FILE).write_bytes(b"\x93NUMPY")
    check(rows, "cannot be read")


def test_sources_tell_what_they_read(tmp_path):
    (tmp_path / "captions.jsonl").write_text('{"image": "a.png", "captions": ["a dog"], "split": "train"}\n')
    from PIL import Image

    from xmodal_jax.data.sources import SOURCES

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    value, paths = SOURCES["captions"](path=tmp_path).record(0)
    assert value[0] == "a.png" and value[1] == ["a dog"] and [os.path.basename(path) for path in paths] == ["a.png"]


def test_a_checkpoint_of_another_config_or_vocabulary_is_not_gone_on_from(tmp_path):
    (tmp_path / "vocabulary.txt").write_text("a\nb\n")
    origin = {"config": workdir.settings(small_config.get_config()), "kept": checksums.digest(tmp_path)}
    other = small_config.get_config()
    other.seed, other.log_every = 5, 77
    meta = json.loads(json.dumps({"next_step": 3} | origin))
    loop.check_origin(meta, origin, "run")
    loop.check_origin({"next_step": 3}, origin, "run")  # from before they carried it
    (tmp_path / "vocabulary.txt").write_text("a\nc\n")
    changed = {"kept": checksums.digest(tmp_path)}, {"config": workdir.settings(other)}
    for now, message in zip(changed, ("model/. has changed", "seed: 0 there, 5 now. It is left"), strict=True):
        with pytest.raises(UserError, match=f"in run is not of this run: .*{message}"):
            loop.check_origin(meta, origin | now, "run")


def test_bad_lines_of_metrics_are_said_and_kept_aside(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    good = [{"step": 0, "masked/word": 0.5}, {"step": 1, "train/loss": 2.0}, {"step": 2, "train/loss": 1.0}]
    bad = [b"5", b'{"step": 1, "train/loss": \xff}', b"[" * 100_000, b""]
    lines = [json.dumps(row).encode() for row in good]
    path.write_bytes(b"\n".join([lines[0], bad[0], lines[1], *bad[1:], lines[2], b'{"step": 3, "tr']))
    assert read_jsonl(path) == good == read_metrics(tmp_path)
    assert any("metrics.jsonl:2 cannot be read" in record.getMessage() for record in caplog.records)
    board = Progress(str(tmp_path), 4, 1, tensorboard=False)
    assert not board.lacks_evaluation(0) and board.lacks_evaluation(1)
    board.sync()
    board.close()
    assert read_jsonl(path) == good[:2]
    assert (tmp_path / "metrics.unreadable").read_bytes() == b"\n".join(bad) + b"\n"


def test_missing_metrics_are_told(tmp_path, caplog):
    Progress(str(tmp_path), 4, 2, tensorboard=False).close()
    assert any("metrics.jsonl is missing: the figures up to step 2 are lost" in r.getMessage() for r in caplog.records)


def test_a_folder_is_made_as_a_whole_or_not_at_all(tmp_path):
    with files.making(tmp_path / "new") as part:
        files.replace_text(os.path.join(part, "one"), "1")
        assert not (tmp_path / "new").exists()
    assert (tmp_path / "new" / "one").read_text() == "1"
    with pytest.raises(ZeroDivisionError), files.making(tmp_path / "broken") as part:
        files.replace_text(os.path.join(part, "one"), "1")
        raise ZeroDivisionError
    with files.adding(tmp_path / "new") as part:
        files.replace_text(os.path.join(part, "two"), "2")
    assert sorted(os.listdir(tmp_path)) == ["new"] and sorted(os.listdir(tmp_path / "new")) == ["one", "two"]


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    (tmp_path / os.path.basename(files.temporary("config.json"))).write_text("{")
    (tmp_path / os.path.basename(files.temporary("model"))).mkdir()
    for name in ("my.tmp", "notes.txt"):
        (tmp_path / name).write_text("")
    files.tidy(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["my.tmp", "notes.txt"]


def test_no_two_temporary_names_are_the_same():
    assert len({files.temporary("x") for _ in range(100)}) == 100


def test_a_signal_is_answered_at_the_next_step_or_at_once():
    stop = Stop()
    assert not stop(3)
    with pytest.raises(Stopped), stop.breaking():
        stop.answer(15, None)
    assert stop(4)
    with pytest.raises(Stopped), stop.breaking():
        raise AssertionError("nothing long is begun after a signal")
    with pytest.raises(KeyboardInterrupt):
        stop.answer(2, None)  # the second one
    assert Stop(lambda step: step == 5)(5)


def test_the_watchdog_names_what_stands_still_and_ends_nothing(caplog):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    os.kill(child.pid, 19)
    os.waitpid(child.pid, os.WUNTRACED)
    told = watchdog.state_of(child.pid)
    child.kill()
    child.wait()
    assert told.startswith("stopped by a signal")
    dog = watchdog.Watchdog(0.05, who=lambda: "Nobody else.")
    with dog.over("batch", "the batch of step 3"):
        for _ in range(1000):
            if caplog.records:
                break
            dog.ended.wait(0.01)
    dog.close()
    assert "the batch of step 3 has not come for" in caplog.records[0].getMessage()
    assert "Nobody else." in caplog.records[0].getMessage()


def test_what_a_machine_lacks_is_explained():
    for error, start in (
        (OSError(errno.EFBIG, "File too large"), "No space is left"),
        (MemoryError(), "There is not enough memory (MemoryError)"),
        (ValueError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), "There is not enough memory"),
        (OSError(errno.EIO, "Input/output error"), "The disk cannot be used now"),
        (OSError(errno.EROFS, "Read-only file system"), "The disk cannot be used now"),
    ):
        paragraph = cli.explain(error)
        assert paragraph.startswith(start) and "\n" not in paragraph


def test_the_coordinator_listens_at_its_own_address_alone(monkeypatch):
    monkeypatch.delenv("JAX_COORDINATOR_BIND_ADDRESS", raising=False)
    assert joining.door("127.0.0.1:4711") == "127.0.0.1:4711"
    assert joining.door("localhost:4711") in ("127.0.0.1:4711", "[::1]:4711")
    assert joining.door("203.0.113.7:4711") is None  # not of this machine
    assert joining.door(None) is None
    monkeypatch.setenv("JAX_COORDINATOR_BIND_ADDRESS", "0.0.0.0:1")
    assert joining.door("127.0.0.1:4711") is None


@pytest.mark.parametrize(
    ("places", "found"),
    [
        (["198.51.100.7"], "198.51.100.7:4711"),
        (["2001:db8::7"], "[2001:db8::7]:4711"),
        (["127.0.1.1"], None),  # as Debian has it of the machine's own name: other machines know it by another address
        (["198.51.100.7", "10.0.0.7"], None),  # which of them others take is not known here
    ],
)
def test_a_name_is_listened_at_where_it_means_one_address_to_all(monkeypatch, places, found):
    class Probe(contextlib.nullcontext):
        def __init__(self, family, kind):
            super().__init__(self)

        def bind(self, place):
            assert place == (places[0], 0)

    def infos(host, port, type):
        return [(socket.AF_INET6 if ":" in place else socket.AF_INET, type, 0, "", (place, 0)) for place in places]

    monkeypatch.delenv("JAX_COORDINATOR_BIND_ADDRESS", raising=False)
    monkeypatch.setattr(joining.socket, "getaddrinfo", infos)
    monkeypatch.setattr(joining.socket, "socket", Probe)
    assert joining.door("node7:4711") == found


def test_the_address_that_a_cluster_gives(monkeypatch):
    monkeypatch.delenv("JAX_COORDINATOR_PORT", raising=False)
    assert joining.address_in_cluster() is None
    task = {"JOB_ID": 5, "STEP_NODELIST": "node[07-09],other", "NTASKS": 4, "PROCID": 2, "LOCALID": 0}
    for name, value in task.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    assert joining.address_in_cluster() == f"node07:{65536 - 4096 + 5}"


def test_fingerprints_are_arrays_of_two_numbers_an_example():
    found = fingerprint.of(Source([("1", ["a"]), ("2", ["b"])]))
    assert found.dtype == np.uint64 and found.shape == (2, 2) and found[0, 0] != found[1, 0]
    assert not fingerprint.of([1, 2, 3]).any() and fingerprint.of([1, 2, 3], ["none"]).any(1).tolist() == [False] * 3 + [True]


def test_settings_that_are_no_more_are_left_out_at_the_value_that_means_what_is_done_now(tmp_path):
    for rounds, kept in ((1, False), (2, True)):
        (tmp_path / "config.json").write_text(json.dumps({"model": {"association_rounds": rounds, "width": 8}, "data": {}}))
        assert ("association_rounds" in workdir.run_config(str(tmp_path)).model) is kept

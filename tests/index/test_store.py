"""An index on disk: transactions are whole or not there, whoever is killed, and readers see what was committed."""

import os
import pathlib
import random
import subprocess
import sys
import time

import numpy as np
import pytest

from xmodal_jax.errors import UserError
from xmodal_jax.index import store
from xmodal_jax.index.store import Store, writing

HEAD, FIELDS = {"weights": "abc"}, {"vector": ("float32", (3,)), "regions": ("float16", (2, 3))}


def arrays(number):
    return {"vector": np.full(3, number, np.float32), "regions": np.full((2, 3), number, np.float16)}


def put(folder, numbers, drops=(), head=HEAD):
    """Commit {key: number} and drops."""
    with writing(folder, head, FIELDS) as writer:
        for key, number in numbers.items():
            writer.stage(key, (number, 7), arrays(number))
        writer.commit(numbers, drops)


def content(index):
    """{key: number} of an index, each of its arrays looked at."""
    found = {}
    for key, row in index.rows.items():
        (vector,), (regions,) = index.get("vector", [row]), index.get("regions", [row])
        assert index.key(row) == key and len({*vector, *regions.ravel(), index.stamp(row)[0]}) == 1
        found[key] = int(vector[0])
    assert len(index) == len(found)
    return found


@pytest.mark.parametrize("journal", [0, 3, 1000], ids=["no journal", "short", "long"])
def test_any_changes_are_those_of_a_dictionary(journal, rng, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "JOURNAL", journal)
    wanted, reader = {}, None
    for number in range(12):
        names = ["a", "b c", "ä/ö'\".png", os.fsdecode(b"\xff\xfe.jpg"), "한국.png", ""]
        puts = {str(name): 100 * number + i for i, name in enumerate(rng.permutation(names)[: rng.integers(4)])}
        drops = [name for name in wanted if name not in puts and rng.random() < 0.3]
        put(tmp_path, puts, drops)
        wanted = {name: value for name, value in wanted.items() if name not in drops} | puts
        reader = reader or Store(tmp_path)
        assert reader.refresh() in (True, False) and not reader.refresh()
        assert content(reader) == content(Store(tmp_path)) == wanted


def test_a_torn_journal_is_the_state_before(tmp_path):
    put(tmp_path, {"a": 1, "b": 2})
    place = Store(tmp_path).place
    put(tmp_path, {"a": 3, "c": 4}, ["b"])
    whole = pathlib.Path(place, "journal").read_bytes()
    for end in range(len(whole)):
        pathlib.Path(place, "journal").write_bytes(whole[:end])
        assert content(Store(tmp_path)) == {"a": 1, "b": 2}, end
    put(tmp_path, {"d": 5})  # written behind the last whole transaction
    assert content(Store(tmp_path)) == {"a": 1, "b": 2, "d": 5}


def test_what_was_staged_outlives_a_kill_unless_the_weights_differ(tmp_path):
    for head, kept in ((HEAD, {"a", "b"}), ({"weights": "other"}, set())):
        with writing(tmp_path, HEAD, FIELDS) as writer:
            writer.stage("a", (1, 7), arrays(1))
            writer.stage("b", (2, 7), arrays(2))
        with open(tmp_path / "staged", "ab") as file:
            file.write(b"\x10\0\0\0half")
        with writing(tmp_path, head, FIELDS) as writer:
            assert set(writer.staged) == kept and writer.store is None


def test_rows_of_other_weights_do_not_count(tmp_path):
    put(tmp_path, {"a": 1, "b": 2})
    put(tmp_path, {"c": 3}, head={"weights": "other"})
    assert content(Store(tmp_path)) == {"c": 3} and Store(tmp_path).head == {"weights": "other"}


def test_one_writes_and_nothing_is_made_up(tmp_path):
    with pytest.raises(UserError, match="no index"):
        Store(tmp_path / "none")
    with writing(tmp_path, HEAD, FIELDS), pytest.raises(UserError, match="another process"), writing(tmp_path, HEAD, FIELDS):
        pass
    with writing(tmp_path, HEAD, FIELDS) as writer, pytest.raises(ValueError, match="regions"):
        writer.stage("a", (1, 1), {"vector": np.zeros(3), "regions": np.zeros(3)})


STEPS = 40  # commits of the process that is killed


def change(folder, journal):
    """What the killed process does: commit n makes every key n, and adds or drops one key."""
    store.JOURNAL = journal
    for number in range(1, STEPS + 1):
        keys = [f"k{i}" for i in range(3 + number % 2)]
        put(folder, dict.fromkeys(keys, number), ["k3"] if number % 2 == 0 and number > 1 else [])
        print(number, flush=True)


@pytest.mark.parametrize("journal", [pytest.param(0, marks=pytest.mark.slow), 20])
def test_sigkill_at_random_moments_of_an_update(journal, tmp_path):
    draw = random.Random(journal)
    for turn in range(10):
        folder = str(tmp_path / str(turn))
        code = f"from tests.index.test_store import change; change({folder!r}, {journal})"
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        told = [int(process.stdout.readline()) for _ in range(draw.randrange(1, STEPS // 2))]
        time.sleep(draw.random() * 0.01)
        process.kill()
        told += [int(line) for line in process.stdout.read().split()]
        process.wait()
        found = content(Store(folder))
        (number,) = set(found.values())
        assert number >= told[-1] and set(found) == {f"k{i}" for i in range(3 + number % 2)}
        put(folder, {"k0": 99})
        assert content(Store(folder))["k0"] == 99

"""Checkpoints: arrays without elements; damage, mismatch and passing trouble, told apart; readers that touch nothing."""

import os
import random
import shutil

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from xmodal_jax.errors import UserError
from xmodal_jax.train import checkpoints, checksums
from xmodal_jax.train import mesh as layout


def shapes_of(state):
    place = NamedSharding(layout.make_mesh({}), P())
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), state)


def some_state(seed=0):
    rng = np.random.default_rng(seed)
    return {"params": {"kernel": rng.normal(size=(40, 9)).astype(np.float32), "bias": rng.normal(size=9).astype(np.float32)}}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A run with the checkpoints of steps 3 and 6, of `some_state(step)`."""
    run = tmp_path_factory.mktemp("two") / "run"
    saved = checkpoints.Checkpoints(run / "checkpoints")
    for step in (3, 6):
        saved.save(step, some_state(step), {"next_step": step})
    saved.close()
    return run


@pytest.fixture
def run(two, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "PAUSES", (0, 0))
    return shutil.copytree(two, tmp_path / "run")


def restored(run, target=None, step=None):
    opened = checkpoints.Checkpoints(run / "checkpoints")
    try:
        return opened.restore(shapes_of(some_state()) if target is None else target, step)
    finally:
        opened.close()


def read(run, step=None):
    return checkpoints.read(run / "checkpoints", {"params": shapes_of(some_state())["params"]}, step)


def assert_is_of(step, found):
    assert found[1] == {"next_step": step}
    jax.tree.map(np.testing.assert_array_equal, found[0], some_state(step))


def tree(run):
    return {str(path.relative_to(run)): path.is_file() and path.read_bytes() for path in run.rglob("*")}


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def files(run, step):
    return [path for path in sorted((run / "checkpoints" / str(step)).rglob("*")) if path.is_file()]


def test_arrays_without_elements_come_back_beside_others(rng, tmp_path):
    state = {"kernel": rng.normal(size=(3, 2)).astype(np.float32), "none": np.zeros((3, 2, 0), np.float32)}
    shapes = shapes_of(state)
    saved = checkpoints.Checkpoints(tmp_path, asynchronous=False)
    saved.save(3, {"params": state}, {"next_step": 3})
    for found, meta in (saved.restore({"params": shapes}), checkpoints.read(tmp_path, {"params": shapes})):
        assert meta == {"next_step": 3}
        jax.tree.map(np.testing.assert_array_equal, found["params"], state)
    saved.close()


def test_every_checkpoint_carries_checksums_of_all_that_is_read(two):
    for step in (3, 6):
        place = two / "checkpoints" / str(step)
        assert checksums.verify(place) is True
        largest = max(files(two, step), key=lambda path: path.stat().st_size)
        assert str(largest.relative_to(place)) in checksums.files_of(place)


def test_a_flipped_bit_anywhere_is_found_or_harmless(run, caplog):
    draw, noticed = random.Random(0), 0
    for path in files(run, 6):
        whole = path.read_bytes()
        flip(path, draw.randrange(8 * len(whole)))
        caplog.clear()
        found = read(run)
        told = any("step 6 is damaged" in record.getMessage() for record in caplog.records)
        assert_is_of(3 if told else 6, found)
        assert told or path.name in checksums.LATER
        noticed += told
        path.write_bytes(whole)
    assert noticed >= 8
    assert_is_of(6, read(run))


def test_damage_is_set_aside_and_the_one_before_is_taken_twice_over(run, two, caplog):
    for name in ("broken-6", "broken-6-2"):
        flip(max(files(run, 6), key=lambda path: path.stat().st_size), 999)
        assert_is_of(3, restored(run))
        assert any("step 6 is damaged (state/" in record.getMessage() for record in caplog.records)
        assert (run / name / "state").is_dir() and not (run / "checkpoints" / "6").exists()
        shutil.copytree(two / "checkpoints" / "6", run / "checkpoints" / "6")
    assert_is_of(6, restored(run))


def test_after_damage_of_all_nothing_begins_anew_until_it_is_moved_elsewhere(run):
    for step in (3, 6):
        os.remove(max(files(run, step), key=lambda path: path.stat().st_size))
    for _ in range(2):
        with pytest.raises(UserError, match="All checkpoints .* are damaged; they are kept as broken-3, broken-6. Nothing was"):
            restored(run)
    for name in ("broken-3", "broken-6"):
        shutil.rmtree(run / name)
    assert restored(run) is None


@pytest.mark.parametrize("way", ["shape", "type", "more", "less"])
def test_a_mismatch_says_what_differs_and_keeps_everything(run, way):
    other, before = some_state(), tree(run)
    expected = {
        "shape": r"params/kernel is float32 \[40, 9\] there, float32 \[41, 9\] here",
        "type": r"params/kernel is float32 \[40, 9\] there, float16 \[40, 9\] here",
        "more": "params/scale is missing in it",
        "less": "params/bias is more than this model has",
    }[way]
    if way == "shape":
        other["params"]["kernel"] = np.zeros((41, 9), np.float32)
    elif way == "type":
        other["params"]["kernel"] = np.zeros((40, 9), np.float16)
    elif way == "more":
        other["params"]["scale"] = np.zeros(1, np.float32)
    else:
        del other["params"]["bias"]
    with pytest.raises(UserError, match=f"is not of this model: {expected}. It is left as it is"):
        restored(run, shapes_of(other))
    assert tree(run) == before


@pytest.mark.parametrize("kind", [OSError(5, "Input/output error"), MemoryError("no memory")])
def test_passing_trouble_is_tried_again_and_moves_nothing(run, monkeypatch, kind):
    before, stored, tries = tree(run), checkpoints.stored, []

    def failing(*args):
        tries.append(args)
        if len(tries) <= often:
            raise kind
        return stored(*args)

    monkeypatch.setattr(checkpoints, "stored", failing)
    often = 1
    assert_is_of(6, restored(run))
    tries.clear()
    often = 9
    with pytest.raises(UserError, match=f"step 6 in .* cannot be read now: {type(kind).__name__}: .*Nothing shows that it"):
        restored(run)
    assert len(tries) == 2 and tree(run) == before


def test_trouble_in_reading_checksums_is_passing_too(run, monkeypatch):
    def failing(path):
        raise OSError(5, "Input/output error", path)

    monkeypatch.setattr(checksums, "checksum", failing)
    before = tree(run)
    for reading in (restored, read):
        with pytest.raises(UserError, match="cannot be read now: OSError"):
            reading(run)
    assert tree(run) == before


def test_readers_go_back_past_damage_and_write_nothing(run):
    os.truncate(max(files(run, 6), key=lambda path: path.stat().st_size), 100)
    before = tree(run)
    assert_is_of(3, read(run))
    with pytest.raises(UserError, match=r"step 6 .* damaged: state/.* has 100 bytes instead of \d+. There are"):
        read(run, 6)
    with pytest.raises(UserError, match="no checkpoint of step 5 in .*: there are those of steps 6, 3"):
        read(run, 5)
    with pytest.raises(UserError, match="is not of this model"):
        checkpoints.read(run / "checkpoints", {"ema": shapes_of(some_state())["params"]}, 3)
    assert tree(run) == before


def test_older_checkpoints_without_checksums_still_restore(run, caplog):
    for step in (3, 6):
        os.remove(run / "checkpoints" / str(step) / checksums.FILE)
    assert_is_of(6, restored(run))
    assert any("carries no checksums" in record.getMessage() for record in caplog.records)
    os.truncate(max(files(run, 6), key=lambda path: path.stat().st_size), 100)  # its form proves it
    assert_is_of(3, restored(run))
    assert (run / "broken-6").is_dir()


def test_what_was_being_written_when_a_run_was_killed_does_not_count(run):
    shutil.copytree(run / "checkpoints" / "6", run / "checkpoints" / "9.orbax-checkpoint-tmp")
    assert_is_of(6, read(run))
    assert_is_of(6, restored(run))


def test_what_orbax_writes_for_itself_does_not_matter(run):
    for name in checkpoints.checksums.LATER[:2]:
        (run / "checkpoints" / "6" / name).write_bytes(b"\xff{")
    assert_is_of(6, restored(run))
    saved = checkpoints.Checkpoints(run / "checkpoints")
    saved.save(9, some_state(9), {"next_step": 9})
    saved.close()
    assert_is_of(9, read(run))
    assert sorted(os.listdir(run / "checkpoints")) == ["6", "9"]

"""An index follows its folder: what was added, changed and removed, and nothing else, is encoded; broken files are left out."""

import os
import pathlib
import random
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from xmodal_jax.data.images import decode_image
from xmodal_jax.errors import UserError
from xmodal_jax.index import photos
from xmodal_jax.index.query import Searcher
from xmodal_jax.index.store import Store
from xmodal_jax.measure import indexing

NAMES = ["a.png", 'sub folder/it\'s "ö".PNG', "한국.png", "[x] 100%.png", os.fsdecode(b"caf\xe9.png")]


class Colours:
    """A model that sees the mean colour, and reads "1 0 0"."""

    def __init__(self):
        self.counts = []

    def as_example(self, picture):
        return decode_image(picture, 4)

    def seen(self, pictures):
        if pictures[0].any():
            self.counts.append(len(pictures))
        return {"vector": np.stack([unit(picture.mean((0, 1)) + 1e-6) for picture in pictures])}

    def embed_images(self, picture):
        return self.seen([self.as_example(picture)])["vector"][0]

    def embed_texts(self, text):
        return unit(np.array([float(word) for word in text.split()]))


def unit(x):
    return (x / np.linalg.norm(x)).astype(np.float32)


def paint(folder, name, colour):
    path = pathlib.Path(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path, "PNG")


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(NAMES):
        paint(tmp_path / "photos", name, (50 * number + 1, 100, 0))
    return tmp_path / "photos"


def test_only_what_differs_is_encoded(folder, tmp_path):
    model, place = Colours(), tmp_path / "index"

    def update(weights="w"):
        model.counts.clear()
        store, done = photos.update(place, folder, model, weights)
        return (sum(model.counts), *list(vars(done).values())[:-1]), store

    assert update()[0] == (5, 5, 0, 0, 0, 0)
    counts, store = update()
    assert counts == (0, 0, 0, 0, 5, 0) and set(store.rows) == set(NAMES)
    paint(folder, "new.png", (1, 2, 3))
    paint(folder, NAMES[1], (200, 0, 0))
    os.utime(folder / NAMES[1], ns=(1, 1))
    os.remove(folder / NAMES[2])
    (folder / NAMES[3]).write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no photo")
    counts, store = update()
    assert counts == (2, 1, 1, 1, 2, 1)
    assert set(store.rows) == {"new.png", NAMES[0], NAMES[1], NAMES[4]}
    np.testing.assert_allclose(store.get("vector", [store.rows[NAMES[1]]])[0], [1, 0, 0], atol=1e-6)
    assert update()[0] == (0, 0, 0, 0, 4, 1)
    assert update("other weights")[0][0] == 4


def test_an_update_that_was_killed_goes_on(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(photos, "BATCH", 2)
    model = Colours()

    def stopped(pictures, encode=model.seen):
        if len(model.counts) == 2:
            raise KeyboardInterrupt
        return encode(pictures)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(model, "seen", stopped)
        photos.update(tmp_path / "index", folder, model, "w")
    with pytest.raises(UserError, match="no index"):
        Store(tmp_path / "index")
    model.counts.clear()
    store, _ = photos.update(tmp_path / "index", folder, model, "w")
    assert len(store) == 5 and sum(model.counts) == 1


WATCHED = """
from xmodal_jax.index import photos
from tests.index.test_photos import Colours
photos.BATCH = 4
print("starts", flush=True)
photos.update({index!r}, {folder!r}, Colours(), "w")
print("done", flush=True)
"""


@pytest.mark.slow
def test_sigkill_at_random_moments_of_a_whole_update(tmp_path):
    """The index is that of the photos before or of those now, and the next update makes it that of now."""
    draw, took = random.Random(0), None
    states, left = {}, []  # of the folder, before and after its photos change; what each kill left
    for turn in range(21):
        folder, index = tmp_path / f"photos {turn}", tmp_path / f"index {turn}"
        for number in range(80):
            paint(folder, f"{number}.png", (3 * number + 1, 100, 0))
        photos.update(index, folder, Colours(), "w")
        states["before"] = content(index)
        for number in range(40):
            paint(folder, f"{number}.png", (0, 100, 3 * number + 1))
            os.utime(folder / f"{number}.png", ns=(number, number))
            os.remove(folder / f"{79 - number // 2}.png") if number % 2 else paint(folder, f"new {number}.png", (9, 9, number))
        code = WATCHED.format(index=str(index), folder=str(folder))
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "starts\n"
        started = time.monotonic()
        if took is None:  # the first one is let go, and tells how long the others have
            assert process.stdout.readline() == "done\n"
            took, states["after"] = time.monotonic() - started, content(index)
            assert states["after"] != states["before"]
        time.sleep(draw.random() * took)
        process.kill()
        process.wait()
        left.append(next(name for name, state in states.items() if state == content(index)))
        photos.update(index, folder, Colours(), "w")
        assert content(index) == states["after"]
    assert left.count("before") > 5  # else the kills came too late to tell anything


def content(index):
    store = Store(index)
    return {key: store.get("vector", [row])[0].tobytes() for key, row in store.rows.items()}


def test_links_leave_the_folder_for_nothing(folder, tmp_path):
    paint(tmp_path / "secret", "s.png", (9, 9, 9))
    os.symlink(tmp_path / "secret/s.png", folder / "out.png")
    os.symlink(tmp_path / "secret", folder / "outside")
    os.symlink(folder / "a.png", folder / "in.png")
    os.symlink(folder / "nothing.png", folder / "dangling.png")
    os.mkfifo(folder / "pipe.png")
    assert set(photos.files_of(folder)) == {*NAMES, "in.png"}
    with pytest.raises(UserError, match="no such folder"):
        photos.files_of(folder / "none")


def test_limits_combine_and_photos_that_are_gone_are_passed_over(tmp_path):
    for number in range(20):
        paint(tmp_path / "photos", f"{number:02}.png", (12 * number, 255 - 12 * number, 0))
    model = Colours()
    store, _ = photos.update(tmp_path / "index", tmp_path / "photos", model, "w")
    search = Searcher(store, model, "w")

    def names(**limits):
        return [os.path.basename(one.path)[:2] for one in search.by_text("1 0 0", **limits)]

    assert names() == ["19", "18", "17", "16"]
    assert names(top=2) == ["19", "18"]
    assert names(percent=15) == ["19", "18", "17"] and names(percent=15, top=2) == ["19", "18"]
    scores = [one.score for one in search.by_text("1 0 0", top=20)]
    assert names(threshold=scores[4] - 1e-6) == ["19", "18", "17", "16", "15"]
    assert names(threshold=scores[4] - 1e-6, percent=50, top=3) == ["19", "18", "17"] and names(threshold=1.1) == []
    for name in ("19", "17"):
        os.remove(tmp_path / "photos" / f"{name}.png")
    assert names() == ["18", "16", "15", "14"]
    assert os.path.basename(search.by_picture(tmp_path / "photos/03.png", top=1)[0].path) == "03.png"
    with pytest.raises(UserError, match="empty"):
        search.by_text("  ")
    photos.update(tmp_path / "index", tmp_path / "photos", model, "w2")
    with pytest.raises(UserError, match="other weights"):
        names()


def test_fingerprints_differ_with_names_values_and_types():
    tree = {"a": np.arange(4.0), "b": {"c": np.zeros((2, 0))}}
    others = [
        {"a": np.arange(4.0), "b": {"d": np.zeros((2, 0))}}, {"a": np.arange(4.0) + 1e-9, "b": {"c": np.zeros((2, 0))}},
        {"a": np.arange(4.0).astype("f4"), "b": {"c": np.zeros((2, 0))}},
        {"a": np.arange(4.0).reshape(2, 2), "b": {"c": np.zeros((2, 0))}},
    ]  # fmt: skip
    assert photos.fingerprint(tree) == photos.fingerprint({"b": dict(tree["b"]), "a": tree["a"].copy()})
    assert len({photos.fingerprint(other) for other in [tree, *others]}) == 5


def test_no_photo_at_all_and_then_one(tmp_path):
    (tmp_path / "photos").mkdir()
    model = Colours()
    store, done = photos.update(tmp_path / "index", tmp_path / "photos", model, "w")
    assert len(store) == done.same == 0 and Searcher(store, model, "w").by_text("1 0 0") == []
    paint(tmp_path / "photos", "one.png", (255, 0, 0))
    photos.update(tmp_path / "index", tmp_path / "photos", model, "w")
    (found,) = Searcher(Store(tmp_path / "index"), model, "w").by_text("1 0 0")
    assert found.score == pytest.approx(1, abs=1e-4)


def test_indexing_is_measured_beside_its_parts(folder):
    (folder / "broken.png").write_bytes(b"x")
    found = indexing.measure(Colours(), folder)
    assert found["photos"] == 5 and min(found.values()) > 0
    with pytest.raises(UserError, match="no photo that can be read"):
        (folder / "only").mkdir()
        (folder / "only/broken.png").write_bytes(b"x")
        indexing.measure(Colours(), folder / "only")

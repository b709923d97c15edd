"""Corrections move what they are about, and are taken back to the byte."""

import functools

import numpy as np
import pytest
from PIL import Image

from tests.test_search_run import small  # noqa: F401 the run of `model`
from xmodal_jax.errors import UserError
from xmodal_jax.index import photos
from xmodal_jax.page import learning
from xmodal_jax.page.desk import Desk, Served

pytestmark = [pytest.mark.slow, pytest.mark.gate]


@pytest.fixture
def folder(held_out, tmp_path):
    for number in range(12):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(held_out[number % len(held_out)]["image"]).save(tmp_path / "photos" / f"{number:02}.png")
    return tmp_path / "photos"


@pytest.fixture
def desk(model, folder, tmp_path):
    return Desk(folder, tmp_path / "index", [Served("full model", model)])


def vectors(desk):
    store = desk.searcher().store
    return {key: store.get("vector", [row])[0] for key, row in store.rows.items()}


def test_a_correction_changes_the_order_and_its_undoing_restores_every_byte(desk, model, folder, monkeypatch):
    monkeypatch.setattr(learning, "corrected", functools.partial(learning.corrected, rate=1e-3))
    text, before, start = "a dog", vectors(desk), photos.fingerprint(model.params)
    first = desk.query(text, top=12)["found"]
    right, wrong = first[-1]["name"], first[0]["name"]
    assert desk.learn(text, [right], [wrong]) == {"corrections": 1}
    learned = {one["name"]: one["score"] for one in desk.query(text, top=12)["found"]}
    gap = {one["name"]: one["score"] for one in first}
    assert learned[right] - learned[wrong] > gap[right] - gap[wrong] + 0.01
    assert photos.fingerprint(model.params) != start
    moved = [key for key, vector in vectors(desk).items() if not np.array_equal(vector, before[key])]
    assert len(moved) == 12  # photos that were not marked too
    desk.learn(text, [], [right])
    assert desk.undo() == {"corrections": 1} and desk.undo() == {"corrections": 0}
    assert photos.fingerprint(model.params) == start
    after = vectors(desk)
    assert all(after[key].tobytes() == before[key].tobytes() for key in before)
    with pytest.raises(UserError, match="no correction"):
        desk.undo()


def test_the_loss_is_the_ranking_loss_and_what_is_not_marked_stays(model, folder):
    paths = sorted(folder.iterdir())

    def gaps(keep):
        old = model.params
        new = learning.corrected(model, "a dog", paths[:1], paths[1:2], paths[2:10], rate=1e-3, keep=keep)
        try:
            model.params = new
            rest = model.embed_images([str(path) for path in paths[2:10]])
            (r, w), q = model.embed_images([str(path) for path in paths[:2]]), model.embed_texts("a dog")
            return rest, float(q @ (r - w))
        finally:
            model.params = old

    before, start = model.embed_images([str(path) for path in paths[2:10]]), photos.fingerprint(model.params)
    (free, gap), (held, _) = gaps(0.0), gaps(1000.0)
    (r, w), q = model.embed_images([str(path) for path in paths[:2]]), model.embed_texts("a dog")
    assert gap > float(q @ (r - w))
    assert np.abs(held - before).max() < np.abs(free - before).max()
    assert photos.fingerprint(model.params) == start
    with pytest.raises(UserError, match="nothing to compare"):
        learning.corrected(model, "a dog", paths[:1], [], [])

"""Pictures drawn from texts, against the logits that the objectives were trained by."""

import jax
import numpy as np
import pytest

from tests.decoding.test_pair_writing import predictor
from tests.test_zoo_run import small
from xmodal_jax.data.patch_codes import drawn, nearest, patches
from xmodal_jax.errors import UserError
from xmodal_jax.evaluators.drawing import DrawingEvaluator, coarse
from xmodal_jax.models.pixels import GREY
from xmodal_jax.systems import recipe

TEXTS = ["a red dog", "a blue key and a cat"]


def test_patches_are_laid_row_by_row(rng):
    images = rng.integers(0, 256, (3, 12, 12, 3)).astype(np.uint8)
    points = np.concatenate([patches(image, 4) for image in images])
    order = rng.permutation(len(points))
    codes = nearest(points, points[order]).reshape(3, 9)
    np.testing.assert_array_equal(drawn(codes, points[order], 4), images)


def test_patch_after_patch(call):
    """The likeliest each time, from the text and the patches before it; one text at a time gives the same picture."""
    model, _ = predictor("dalle")
    assert "draw" in model.more
    ids, lengths = model._stack_texts(TEXTS)
    codes = np.zeros((len(ids), 16), np.int32)
    pixels = np.zeros((len(ids), 32, 32, 3), np.uint8)

    def verb(name, *args):
        return call(model.model, name, model.params, *args)

    text = verb("encode_text", ids, lengths)
    for n in range(16):
        pair = verb("fuse", text, verb("encode_image", pixels, {"codes": codes}), "sequence")
        before = pair.image[:, n - 1] if n else np.asarray(pair.text)[np.arange(len(ids)), lengths]
        codes[:, n] = np.asarray(verb("predict", "codes", before)).argmax(-1)
    found = model.draw(TEXTS, temperature=0)
    np.testing.assert_array_equal(found, drawn(codes, model.maker.centroids, 8)[:2])
    assert found.shape == (2, 32, 32, 3) and found.dtype == np.uint8
    several = model.draw(TEXTS, seed=3)
    np.testing.assert_array_equal(model.draw(TEXTS[1], seed=3), several[1])
    assert (model.draw(TEXTS, seed=4) != several).any()
    with pytest.raises(UserError, match="patch by patch"):
        model.draw(TEXTS, steps=3)


def test_the_surest_patches_first(call):
    """In three passes: all 64 are told, then the 42 least sure ones again, then 21."""
    model, _ = predictor("x_lxmert")
    ids, lengths = model._stack_texts(TEXTS)
    rows, N, patch = len(ids), 64, model.maker.config.code_patch
    boxes = np.tile(model.maker.regions({}), (rows, 1, 1))
    codes, sure, hidden = np.zeros((rows, N), np.int32), np.zeros((rows, N)), np.ones((rows, N), bool)

    def verb(name, *args):
        return call(model.model, name, model.params, *args)

    for left in (42, 21, 0):
        image = np.array(drawn(codes, model.maker.centroids, patch))
        for b, n in np.argwhere(hidden):
            y, x = patch * (n // 8), patch * (n % 8)
            image[b, y : y + patch, x : x + patch] = GREY
        more = {"boxes": boxes, "there": np.ones((rows, N), bool), "hidden": hidden}
        pair = verb("fuse", verb("encode_text", ids, lengths), verb("encode_image", image, more), "both")
        told = np.asarray(jax.nn.log_softmax(verb("predict", "codes", pair.image)))
        codes, sure = np.where(hidden, told.argmax(-1), codes), np.where(hidden, told.max(-1), sure)
        hidden = np.zeros_like(hidden)
        np.put_along_axis(hidden, np.argsort(sure, axis=1)[:, :left], True, axis=1)
    found = model.draw(TEXTS, temperature=0, steps=3)
    np.testing.assert_array_equal(found, drawn(codes, model.maker.centroids, patch)[:2])


def test_who_draws_nothing():
    model, _ = predictor("vilt")
    assert "draw" not in model.more
    with pytest.raises(UserError, match="draws no pictures: train it with configs/zoo.py:dalle"):
        model.draw("a dog")
    with pytest.raises(UserError, match="draws by numbers of patches"):
        DrawingEvaluator(recipe.make(small("vilt,debug,image_size=32")))


def test_drawn_pictures_are_compared_with_their_own_and_all_others():
    judge = DrawingEvaluator(recipe.make(small("dalle,debug,image_size=32")), count=6, rows=4, samples=2)

    class Painter:
        def __init__(self, pictures):
            self.pictures = list(pictures)

        def draw(self, texts, **settings):
            found, self.pictures = self.pictures[: len(texts)], self.pictures[len(texts) :]
            return np.stack(found)

    results, samples = judge.run(Painter(judge.pictures))
    assert results == {"drawing/own_nearer": 1.0, "drawing/count": 6} and len(samples) == 2
    same = np.stack([judge.pictures[0]] * 6)
    found = judge.run(Painter(same))[0]["drawing/own_nearer"]
    distance = ((coarse(same[:1]) - coarse(judge.pictures)) ** 2).sum(-1)
    expected = [np.mean([(distance[i] < distance[j]) for j in range(6) if j != i]) for i in range(6)]
    assert found == pytest.approx(np.mean(expected))

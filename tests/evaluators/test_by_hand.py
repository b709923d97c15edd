"""Evaluators on a few examples with given vectors, small enough to be worked out by hand."""

import types

import numpy as np
import pytest

from xmodal_jax.evaluators.captioning import CaptioningEvaluator
from xmodal_jax.evaluators.latent import LatentEvaluator
from xmodal_jax.evaluators.retrieval import RetrievalEvaluator


class Source(list):
    """Examples with their captions."""

    def captions(self, i):
        return self[i]["captions"], "en"


def examples(*captions):
    return Source({"id": str(i), "image": i, "captions": texts, "lang": "en"} for i, texts in enumerate(captions))


def recipe(held_out, train=()):
    return types.SimpleNamespace(held_out=held_out, train=train, config=types.SimpleNamespace(seed=0))


class Given:
    """A predictor that knows the vector of every picture and text, and (mu, log variance) of every picture."""

    def __init__(self, images=(), texts=None, latents=None):
        self.images, self.texts, self.moments = np.array(images), texts, latents

    def pooled(self, seconds=None, texts=None):
        left = None if seconds is None else np.stack([self.images[example["image"]] for example in seconds])
        return left, None if texts is None else np.stack([np.array(self.texts[text]) for text in texts])

    def latents(self, seconds):
        numbers = [example["image"] for example in seconds]
        return self.moments and tuple(part[numbers] for part in self.moments)


def test_a_dual_encoder_tells_the_training_caption_that_is_nearest():
    """Six captions on a half circle, three pictures between them; a portion of the search holds four captions."""
    angles = {"far left": 180, "left": 140, "upper left": 100, "upper right": 75, "right": 40, "far right": 0}

    def on_circle(degrees):
        return np.cos(np.radians(degrees)), np.sin(np.radians(degrees))

    train = examples(*([text] for text in angles))
    held_out = examples(["right"], ["far left"], ["upper left"])
    predictor = Given([on_circle(degrees) for degrees in (38, 165, 95)], {t: on_circle(a) for t, a in angles.items()})
    judge = CaptioningEvaluator(recipe(held_out, train), rows=1, choose_by="retrieve")
    results, samples = judge.run(predictor)
    assert {sample.id: sample.answer for sample in samples} == {"0": "right", "1": "far left", "2": "upper left"}
    assert results["captioning/rougeL"] == pytest.approx(1) and results["captioning/words"] == pytest.approx(5 / 3)


def test_the_gap_is_the_distance_between_the_centroids_of_both_modalities():
    held_out = examples(["a", "b", "b"], ["c"])
    images = [(1.0, 0.0, 0.0), (0.6, 0.8, 0.0)]  # centroid .8, .4, 0
    texts = {"a": (0.0, 0.0, 1.0), "b": (0.0, 0.6, 0.8), "c": (0.0, 0.6, -0.8)}  # centroid 0, .4, 1 / 3: "b" counts once
    found, _ = RetrievalEvaluator(recipe(held_out), rows=2).run(Given(images, texts))
    assert found["retrieval/gap"] == pytest.approx((0.8**2 + 1 / 9) ** 0.5)
    same = Given(images[:1] * 2, dict.fromkeys("abc", images[0]))
    assert RetrievalEvaluator(recipe(held_out), rows=2).run(same)[0]["retrieval/gap"] == 0


def test_mean_recall_counts_captions_as_they_are_listed_and_a_pictures_own_alone():
    """Three pictures and five captions: at 5 and 10 all are found, at 1 a third and three fifths."""
    held_out = examples(["a", "b"], ["a"], ["c", "c"])
    vectors = {"a": (1.0, 0.0), "b": (0.0, 1.0), "c": (0.6, 0.8)}  # of the pictures too
    found, _ = RetrievalEvaluator(recipe(held_out), rows=2).run(Given(list(vectors.values()), vectors))
    # drawn in any order; the first picture's "a" ties with the second's, its "b" and the second's "a" are nearest to others
    assert found["retrieval/mean_recall"] == pytest.approx(100 * (1 / 3 + 3 / 5 + 4) / 6)
    # both pictures' "a" are hits of both, and "c" counts once
    assert found["retrieval/mean_recall_equal"] == pytest.approx(100 * (2 / 3 + 3 / 4 + 4) / 6)
    assert (found["retrieval/i2t_r1"], found["retrieval/t2i_r1"]) == (pytest.approx(2 / 3), 3 / 4)


def test_a_unit_is_active_where_its_mean_varies_from_picture_to_picture():
    """Two tokens, four units each; every unit's mean is at its level minus or plus its swing in half of the pictures each."""
    swing = np.array([[0.0, 0.09, 0.11, 2.0], [0.0, 0.0, 0.0, 0.0]])  # [n, Z]: variances 0, .0081, .0121, 4: two of 8 above .01
    level = np.array([[0.0, 0.0, 0.0, 0.0], [5.0, 0.0, 0.0, 0.0]])  # far from the prior, but the same for all pictures
    mu = level + swing * np.array([-1, 1, 1, -1])[:, None, None]
    log_variance = np.broadcast_to(np.log([1.0, 1.0, 1.0, 0.25]), mu.shape)
    held_out = examples(["a"], ["b"], ["c"], ["d"])
    found, _ = LatentEvaluator(recipe(held_out), rows=3).run(Given(latents=(mu, log_variance)))
    narrow = -0.5 * (1 + np.log(0.25) - 0.25)
    nats = np.array([[0, 0.0081 / 2, 0.0121 / 2, 2 + narrow], [12.5, 0, 0, narrow]])
    assert found["latent/active_units"] == 2 / 8
    assert found["latent/kl"] == pytest.approx(nats.sum() / 2)
    assert found["latent/collapsed"] == 2 / 4  # the second and third units, over both tokens
    assert LatentEvaluator(recipe(held_out)).run(Given()) == ({}, [])

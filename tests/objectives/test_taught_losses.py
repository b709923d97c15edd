"""Losses of a model that learns from another one of another shape, against loops in float64."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from xmodal_jax.errors import UserError
from xmodal_jax.models.backbones.encoded import Encoded
from xmodal_jax.models.interactions.fused import Fused
from xmodal_jax.objectives import OBJECTIVES

B, T, N, Q = 4, 5, 3, 6
M = T + N


class Given:
    """Tokens and attention are given; a head is linear."""

    def __init__(self, rng, width, heads, masks, wide):
        self.x = rng.normal(size=(B, M, width)).astype(np.float32)
        scores = rng.normal(size=(2, B, heads, M, M)) - 1e9 * ~np.concatenate(masks, 1)[:, None, None]
        self.weights = np.exp(log_softmax(scores, -1)).astype(np.float32)  # two layers
        self.text_mask, self.image_mask = masks
        self.head = rng.normal(size=(width, wide)).astype(np.float32)
        self.kept, self.memory, self.slow = {}, None, None

    def teacher(self):
        return self.slow

    def once(self, function, *arrays):
        return function(*arrays)

    def encode_image(self, images):
        return Encoded(None, self.image_mask)

    def encode_text(self, ids, length, seen=None):
        return Encoded(None, self.text_mask)

    def fuse(self, text, image, mode):
        return Fused(self.x[:, :T], self.x[:, T:], text.mask, image.mask, None)

    def watched(self, verb, *args):
        return {"interaction": {"encoder": {"layers": {"attention": {"weights": (self.weights,)}}}}}

    def predict(self, head, x):
        return x @ self.head

    def recalled(self, name):
        return self.memory

    def keep(self, name, memory):
        self.kept[name] = memory


@pytest.fixture
def case(rng):
    masks = (np.arange(T)[None] < rng.integers(1, T + 1, (B, 1)), np.ones((B, N), bool))
    verbs, slow = Given(rng, 6, 3, masks, 10), Given(rng, 10, 3, masks, 1)
    verbs.slow = slow
    batch = {"image": np.zeros((B, 4, 4, 3), np.uint8), "caption": np.zeros((B, T), int), "caption_length": np.full(B, T - 1)}
    return verbs, slow, batch, np.concatenate(masks, 1)


@pytest.mark.parametrize("heads", [3, 2], ids=["as many heads", "other heads"])
def test_attention_maps(case, rng, heads):
    verbs, slow, batch, there = case
    if heads != 3:
        slow.weights = Given(rng, 10, heads, (slow.text_mask, slow.image_mask), 1).weights
    loss, metrics = OBJECTIVES["attention_maps"](verbs, batch, None, {})
    a, b = (one.weights[-1].astype(np.float64) for one in (verbs, slow))
    if heads != 3:
        a, b = a.mean(1, keepdims=True), b.mean(1, keepdims=True)
    terms, worst = [], []
    for row in range(B):
        even = there[row] / there[row].sum()
        for i in np.flatnonzero(there[row]):
            terms.append(np.mean([((a[row, h, i] - b[row, h, i]) ** 2).sum() for h in range(a.shape[1])]))
            worst.append(np.mean([((even - b[row, h, i]) ** 2).sum() for h in range(a.shape[1])]))
    assert float(loss.mean()) == pytest.approx(np.mean(terms), rel=1e-5)
    assert float(metrics["attention_maps_error"].mean()) == pytest.approx(np.sum(terms) / np.sum(worst), rel=1e-5)


@pytest.mark.parametrize("remembered", [False, True])
def test_states(case, rng, remembered):
    verbs, slow, batch, there = case
    queue, valid = rng.normal(size=(Q, 10)).astype(np.float32), np.arange(Q) < 4
    if remembered:
        verbs.memory = {"t": queue, "valid": valid}
    loss, metrics = OBJECTIVES["states"](verbs, batch, None, {"temperature": 0.2})
    vectors = [
        np.stack([x[row, there[row]].mean(0) for row in range(B)])
        for x in (verbs.x.astype(np.float64) @ verbs.head, slow.x.astype(np.float64))
    ]
    s, t = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in vectors)
    keys = np.concatenate([t, queue[valid]]) if remembered else t
    scores = s @ keys.T / 0.2
    expected = -np.diagonal(log_softmax(scores, -1)).mean()
    assert float(loss.mean()) == pytest.approx(expected, rel=1e-4)
    assert float(metrics["states_right"].mean()) == pytest.approx((scores.argmax(-1) == np.arange(B)).mean())
    if remembered:  # newest first, what is oldest falls out
        np.testing.assert_allclose(verbs.kept["states"]["t"], np.concatenate([t, queue[: Q - B]]), rtol=1e-4, atol=1e-5)
        assert np.array_equal(verbs.kept["states"]["valid"], np.arange(Q) < Q)


def test_a_teacher_of_other_tokens_is_refused(case):
    verbs, slow, batch, _ = case
    slow.weights = slow.weights[..., :-1, :-1]
    with pytest.raises(UserError, match="the teacher fuses 7 tokens, this model 8"):
        OBJECTIVES["attention_maps"](verbs, batch, None, {})
    verbs.watched = lambda verb, *args: {"interaction": {"text": jnp.zeros(1)}}
    with pytest.raises(UserError, match="needs an interaction of one stream"):
        OBJECTIVES["attention_maps"](verbs, batch, None, {})

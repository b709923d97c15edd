"""Attended similarity against loops in float64, its gradient too."""

import jax
import numpy as np
import pytest

from xmodal_jax.models import attended as module
from xmodal_jax.models.attended import attended, attention

B, C, T, N, P, K = 5, 3, 4, 6, 7, 9.0


def by_hand(words, importance, regions, sharpness):
    out = np.zeros((len(words), len(regions)))
    for b, text in enumerate(words):
        for c, picture in enumerate(regions):
            for t, word in enumerate(text):
                weights = np.exp(sharpness * picture @ word)
                seen = weights / weights.sum() @ picture
                out[b, c] += importance[b, t] * (word @ seen) / np.linalg.norm(seen)
    return out


@pytest.mark.parametrize("rows", [2, 16])
def test_every_text_with_every_picture(rng, rows, monkeypatch):
    monkeypatch.setattr(module, "ROWS", rows)
    words, regions = rng.normal(size=(B, T, P)), rng.normal(size=(C, N, P))
    words, regions = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (words, regions))
    importance = rng.dirichlet(np.ones(T), B)
    importance[0, 2:] = 0  # padding
    given = [x.astype(np.float32) for x in (words, importance, regions)]
    np.testing.assert_allclose(attended(*given, K), by_hand(words, importance, regions, K), atol=1e-5)
    pull = rng.normal(size=(B, C))
    gradient = jax.jit(jax.grad(lambda *x: (attended(*x) * pull).sum(), (0, 1, 2, 3)))(*given, K)
    for number, array in enumerate((words, importance, regions)):
        place, step = tuple(rng.integers(array.shape)), 1e-6
        moved = [words, importance, regions]
        moved[number] = array.copy()
        moved[number][place] += step
        expected = ((by_hand(*moved, K) - by_hand(words, importance, regions, K)) * pull).sum() / step
        np.testing.assert_allclose(gradient[number][place], expected, rtol=1e-3, atol=1e-4)
    expected = ((by_hand(words, importance, regions, K + 1e-5) - by_hand(words, importance, regions, K)) * pull).sum() / 1e-5
    np.testing.assert_allclose(gradient[3], expected, rtol=1e-2, atol=1e-5)


def test_regions_that_there_are_not_take_no_part(rng):
    """They are zeros; the others alone give the same, and nothing becomes NaN where a picture has none at all."""
    words, regions = (rng.normal(size=size).astype(np.float32) for size in ((B, T, P), (C, N, P)))
    words, regions = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (words, regions))
    importance = rng.dirichlet(np.ones(T), B).astype(np.float32)
    padded = np.concatenate([regions, np.zeros((C, 2, P), np.float32)], 1)
    np.testing.assert_allclose(attended(words, importance, padded, K), attended(words, importance, regions, K), atol=1e-6)
    assert np.array_equal(attention(words[:2], padded[:2], K)[..., N:], np.zeros((2, T, 2)))
    assert np.array_equal(attended(words, importance, 0 * regions, K), np.zeros((B, C)))


def test_attention_is_a_share_of_every_region(rng):
    words, regions = rng.normal(size=(B, T, P)), rng.normal(size=(B, N, P))
    found = attention(words, regions, K)
    scores = np.exp(K * words @ regions.swapaxes(1, 2))
    np.testing.assert_allclose(found, scores / scores.sum(-1, keepdims=True), rtol=1e-4, atol=1e-6)

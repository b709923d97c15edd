"""Greedy decoding over a cache and candidate scores, against naive loops."""

import jax
import numpy as np
import pytest

from xmodal_jax.data.bytes import END, PAD
from xmodal_jax.decoding.greedy import greedy, log_likelihood

LENGTH = 6


@pytest.fixture(scope="module")
def fused(tiny, call):
    model, params, batch = tiny
    second = call(model, "encode_image", params, batch["second"], batch["second_length"])
    text = call(model, "encode_text", params, batch["text"], batch["segments"])
    return call(model, "fuse", params, text, second)


def log_probabilities(tiny, call, fused, ids, longest):
    """float64 [B, S, V] of ids [B, S], the whole text recomputed, padded to one length so that it compiles once."""
    model, params, _ = tiny
    ids = np.asarray(ids, np.int32)
    padded = np.pad(ids, ((0, 0), (0, longest - ids.shape[1])))
    logits = np.asarray(call(model, "decode", params, padded, fused)[0], np.float64)[:, : ids.shape[1]]
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.parametrize("prefix", [(PAD,), (PAD, 259, 100)])
def test_greedy_with_a_cache_equals_a_loop_that_recomputes_everything(tiny, call, fused, prefix):
    model, params, batch = tiny
    ids, scores = greedy(model, params, fused, prefix, LENGTH)
    rows = len(batch["text"])
    assert ids.shape == (rows, LENGTH) and ids.dtype == np.int32 and scores.shape == (rows,)
    written, total, done = np.tile(prefix, (rows, 1)), np.zeros(rows), np.zeros(rows, bool)
    for _ in range(LENGTH):
        logp = log_probabilities(tiny, call, fused, written, len(prefix) + LENGTH)[:, -1]
        best = np.where(done, PAD, logp.argmax(-1))
        total += np.where(done, 0, logp.max(-1))
        done |= best == END
        written = np.concatenate([written, best[:, None]], axis=1)
    np.testing.assert_array_equal(ids, written[:, len(prefix) :])
    np.testing.assert_allclose(scores, total, rtol=1e-4, atol=1e-4)


def test_after_the_end_mark_come_pads_that_cost_nothing(tiny, fused):
    model, params, _ = tiny
    bias = np.zeros(384, np.float32)
    bias[END] = 1e3
    ending = params | {"logits": params["logits"] | {"bias": bias}}
    ids, scores = greedy(model, ending, fused, (PAD,), LENGTH)
    assert np.asarray(ids).tolist() == [[END] + [PAD] * (LENGTH - 1)] * 4
    np.testing.assert_allclose(scores, 0, atol=1e-3)


def test_log_likelihood_equals_a_naive_sum(tiny, call, fused, rng):
    model, params, _ = tiny
    copies, size = 3, 5
    target = rng.integers(0, 384, (4 * copies, size)).astype(np.int32)
    inputs = np.concatenate([np.zeros((4 * copies, 1), np.int32), target[:, :-1]], 1)
    weights = rng.random((4 * copies, size)).astype(np.float32)
    found = log_likelihood(model, params, fused, inputs, target, weights)
    expected = np.zeros(4 * copies)
    for copy in range(copies):  # candidates of one row stand one after another
        own = np.arange(4) * copies + copy
        logp = log_probabilities(tiny, call, fused, inputs[own], 10)
        expected[own] = (np.take_along_axis(logp, target[own][..., None], -1)[..., 0] * weights[own]).sum(1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_cache_has_room_for_every_layer_and_byte(tiny):
    model, params, _ = tiny
    cache = jax.eval_shape(lambda: model.apply({"params": params}, 4, 7, method="cache"))
    assert {name: leaf.shape for name, leaf in cache.items()} == dict.fromkeys(("k", "v"), (2, 4, 2, 7, 8))

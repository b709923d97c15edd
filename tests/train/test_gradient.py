"""The gradient of a batch: the same number at once and in microbatches, comparisons of its rows included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xmodal_jax.data.examples import CAPTION, FILL
from xmodal_jax.models import CrossmodalBytes
from xmodal_jax.objectives.sums import Sum
from xmodal_jax.train.gradient import evaluate_objectives, loss_and_gradient, split_batch

MODEL = CrossmodalBytes(
    group=48,
    grid=4,
    width=8,
    heads=1,
    text_layers=0,
    second_layers=0,
    layers=1,
    decoder_layers=1,
    slots=2,
    shared_width=4,
)
OBJECTIVES = {"masked_words": {"weight": 1.0}, "generation": {"weight": 0.0}, "contrastive": {"weight": 0.5}}


@pytest.fixture(scope="module")
def batch(make_batch):
    """Eight rows; the numbers of target bytes differ from row to row, and a quarter of the rows writes."""
    batch = make_batch(8, 768)
    batch["task"] = np.array([FILL, FILL, CAPTION, FILL, FILL, CAPTION, FILL, FILL], np.int32)
    target = batch["target"]
    target[[0, 4], 3:], target[[0, 4], 2] = 0, 1  # rows 0 and 4 share a microbatch
    target[[1, 5]] = np.where(target[[1, 5]] < 3, 70, target[[1, 5]])
    return batch


@pytest.fixture(scope="module")
def params(make_params, batch):
    return make_params(MODEL, batch)


def gradients_of(parts, model=MODEL, objectives=OBJECTIVES):
    """Compiled (parameters, batch) -> (loss, sums, gradients) in `parts` microbatches."""
    return jax.jit(lambda p, b: loss_and_gradient(model, objectives, p, b, jax.random.PRNGKey(0), parts))


def gradients(params, batch, parts, model=MODEL, objectives=OBJECTIVES):
    return gradients_of(parts, model, objectives)(params, batch)


@pytest.fixture(scope="module")
def exact(params, batch):
    """accumulate -> (loss, sums, gradients)."""
    return {parts: gradients(params, batch, parts) for parts in (1, 4)}


def test_microbatches_are_spread_and_hold_every_row_once(batch):
    parts = split_batch(batch, 4)
    assert parts["text"].shape == (4, 2, *batch["text"].shape[1:])
    np.testing.assert_array_equal(np.sort(parts["text"].reshape(8, -1), 0), np.sort(batch["text"], 0))
    np.testing.assert_array_equal(np.concatenate(parts["task"].T), batch["task"])


def test_accumulated_gradients_are_those_of_the_whole_batch(exact, params, batch):
    parts = 4
    owed = (np.asarray(split_batch(batch, parts)["target"]) != 0).sum((1, 2))
    assert len(set(owed.tolist())) > 1, "the microbatches owe different numbers of bytes"
    (one, sums, grads), (other, other_sums, other_grads) = exact[1], exact[parts]
    np.testing.assert_allclose(other, one, rtol=1e-6)
    size = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(grads))
    assert size > 1e-3
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5 * size), grads, other_grads)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-5), sums, other_sums)
    loss = jax.jit(lambda p, b: loss_and_gradient(MODEL, OBJECTIVES, p, b, jax.random.PRNGKey(0), 1)[0])
    alone = [float(loss(params, {k: v[i::4] for k, v in batch.items()})) for i in range(4)]
    assert abs(np.mean(alone) - one) > 1e-3, "a mean of microbatch losses would be another number"


def test_dropout_is_the_same_in_both_passes_of_a_comparison(params, batch):
    """With the comparison alone, the gradient along a direction is the slope of the loss under the very same dropout."""
    model, objectives = MODEL.clone(dropout=0.3, text_layers=1, parent=None), {"contrastive": {}}
    rng = np.random.default_rng(0)
    drawn = jax.jit(lambda: model.init(jax.random.PRNGKey(1), batch)["params"]["text_tower"])()
    params = params | jax.tree.map(np.asarray, {"text_tower": drawn})
    direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), params["text_tower"])

    run = gradients_of(4, model, objectives)

    def loss(step):
        moved = jax.tree.map(lambda leaf, way: leaf + step * way, params["text_tower"], direction)
        return float(run(params | {"text_tower": moved}, batch)[0])

    grads = run(params, batch)[2]["text_tower"]
    slope = sum(float(np.vdot(a, b)) for a, b in zip(*map(jax.tree.leaves, (grads, direction)), strict=True))
    without = jax.jit(lambda p: evaluate_objectives(model, objectives, p, batch, jax.random.PRNGKey(0), False)[0])(params)
    assert loss(0.0) == loss(0.0) and abs(loss(0.0) - float(without["contrastive"].mean())) > 1e-3
    np.testing.assert_allclose((loss(1e-3) - loss(-1e-3)) / 2e-3, slope, rtol=2e-2, atol=1e-3)


def test_a_large_comparison_needs_little_more_memory_than_a_microbatch(params, make_batch):
    def temporaries(rows, parts):
        batch = make_batch(rows, 768)
        function = jax.jit(lambda p, b: loss_and_gradient(MODEL, OBJECTIVES, p, b, jax.random.PRNGKey(0), parts)[2])
        return function.lower(params, batch).compile().memory_analysis().temp_size_in_bytes

    assert temporaries(64, 8) < 0.5 * temporaries(64, 1)


def test_the_loss_is_the_weighted_sum_of_means_and_weight_zero_is_left_out(exact, params, batch):
    total, (losses, metrics), _ = exact[1]
    assert set(losses) == {"masked_words", "contrastive"} and set(metrics) == {
        "masked_byte",
        "masked_word",
        "contrastive_right",
    }
    np.testing.assert_allclose(total, losses["masked_words"].mean() + 0.5 * losses["contrastive"].mean(), rtol=1e-6)
    assert isinstance(losses["contrastive"], Sum) and float(losses["contrastive"].weight) == len(batch["task"])
    again = jax.jit(lambda p: evaluate_objectives(MODEL, OBJECTIVES, p, batch, jax.random.PRNGKey(0), False))(params)[0]
    np.testing.assert_allclose(again["masked_words"].mean(), losses["masked_words"].mean(), rtol=1e-5)

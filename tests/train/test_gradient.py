"""The gradient of a batch: the same number at once and in microbatches, comparisons of its rows included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.small import MODEL
from xmodal_jax.objectives.sums import Sum
from xmodal_jax.train.gradient import evaluate_objectives, loss_and_gradient, split_batch

OBJECTIVES = {
    "masked_words": {"weight": 1.0, "warmup": 10},
    "generation": {"weight": 0.0},
    "contrastive": {"weight": 0.5, "warmup": 5},
}
LATE = 99  # a step at which every weight is warm


def gradients_of(parts, model=MODEL, objectives=OBJECTIVES):
    """Compiled (parameters, batch, step) -> (loss, sums, gradients) in `parts` microbatches."""
    return jax.jit(lambda p, b, step: loss_and_gradient(model, objectives, p, b, jax.random.PRNGKey(0), parts, step))


def gradients(params, batch, parts, model=MODEL, objectives=OBJECTIVES):
    return gradients_of(parts, model, objectives)(params, batch, LATE)


@pytest.fixture(scope="module")
def programs():
    """accumulate -> `gradients_of`."""
    return {parts: gradients_of(parts) for parts in (1, 4)}


@pytest.fixture(scope="module")
def exact(programs, params, batch):
    """accumulate -> (loss, sums, gradients)."""
    return {parts: program(params, batch, LATE) for parts, program in programs.items()}


def test_microbatches_are_spread_and_hold_every_row_once(batch):
    parts = split_batch(batch, 4)
    assert parts["text"].shape == (4, 2, *batch["text"].shape[1:])
    np.testing.assert_array_equal(np.sort(parts["text"].reshape(8, -1), 0), np.sort(batch["text"], 0))
    np.testing.assert_array_equal(np.concatenate(parts["task"].T), batch["task"])


def test_accumulated_gradients_are_those_of_the_whole_batch(programs, exact, params, batch):
    parts = 4
    owed = (np.asarray(split_batch(batch, parts)["target"]) != 0).sum((1, 2))
    assert len(set(owed.tolist())) > 1, "the microbatches owe different numbers of bytes"
    (one, sums, grads), (other, other_sums, other_grads) = exact[1], exact[parts]
    np.testing.assert_allclose(other, one, rtol=1e-6)
    size = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(grads))
    assert size > 1e-3
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5 * size), grads, other_grads)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-5), sums, other_sums)
    alone = [float(programs[1](params, {k: v[i::4] for k, v in batch.items()}, LATE)[0]) for i in range(4)]
    assert abs(np.mean(alone) - one) > 1e-3, "a mean of microbatch losses would be another number"


@pytest.mark.parametrize("parts", [1, 4])
def test_weights_warm_up_in_microbatches_too(programs, exact, params, batch, parts):
    _, (losses, _), whole = exact[1]
    masked, contrastive = losses["masked_words"].mean(), 0.5 * losses["contrastive"].mean()
    found = {step: programs[parts](params, batch, step) for step in (0, 4, 5, 10)}
    expected = {0: 0, 4: 0.4 * masked + 0.8 * contrastive, 5: 0.5 * masked + contrastive, 10: masked + contrastive}
    for step, value in expected.items():
        np.testing.assert_allclose(found[step][0], value, rtol=1e-5, err_msg=f"step {step}")
    none, some, more, full = (found[step][2] for step in found)
    size = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(whole))
    assert not any(leaf.any() for leaf in jax.tree.leaves(none))
    for one, other in ((jax.tree.map(lambda leaf: 0.8 * leaf, more), some), (whole, full)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5 * size), one, other)


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
        return float(run(params | {"text_tower": moved}, batch, LATE)[0])

    grads = run(params, batch, LATE)[2]["text_tower"]
    slope = sum(float(np.vdot(a, b)) for a, b in zip(*map(jax.tree.leaves, (grads, direction)), strict=True))
    without = jax.jit(lambda p: evaluate_objectives(model, objectives, p, batch, jax.random.PRNGKey(0), False)[0])(params)
    assert loss(0.0) == loss(0.0) and abs(loss(0.0) - float(without["contrastive"].mean())) > 1e-3
    np.testing.assert_allclose((loss(1e-3) - loss(-1e-3)) / 2e-3, slope, rtol=2e-2, atol=1e-3)


@pytest.mark.slow
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

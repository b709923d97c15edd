"""The training step: the guard against NaN, moving averages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.small import MODEL
from xmodal_jax.train.optimizers import OptimizerConfig, make_optimizer
from xmodal_jax.train.step import init_state, make_step

OBJECTIVES = {
    "masked_words": {"weight": 1.0},
    "generation": {"weight": 0.5, "warmup": 8},
    "contrastive": {"weight": 0.0},
}
EMA = 0.75


# -- the step


@pytest.fixture(scope="module")
def machine(params):
    """(jitted step, fresh state, schedule)."""
    optimizer, schedule = make_optimizer(OptimizerConfig(learning_rate=1e-2, warmup=0.0), 10)
    step = jax.jit(make_step(MODEL, OBJECTIVES, optimizer, schedule, ema=EMA))
    shapes = jax.eval_shape(lambda: init_state(MODEL, optimizer, example(), 0, ema=EMA))
    state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    params = jax.tree.map(jnp.asarray, params)
    state = state.replace(params=params, ema=jax.tree.map(jnp.copy, params), bad_step=jnp.int32(-1), step=jnp.int32(2))
    assert jax.tree.structure(state.params) == jax.tree.structure(shapes.params)
    return step, state.replace(key=jax.random.PRNGKey(1)), schedule


def example():
    row = {name: np.zeros((2, 4), np.int32) for name in ("text", "segments", "inputs", "target", "caption")}
    return row | {
        "second": np.zeros((2, 768), np.uint8),
        "second_length": np.zeros(2, np.int32),
        "task": np.zeros(2, np.int32),
    }


def same(one, other):
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True))


def test_a_step_moves_the_parameters_and_their_moving_average(machine, batch):
    step, state, schedule = machine
    new, report = step(state, batch)
    assert int(new.step) == 3 and int(new.bad_step) == -1 == int(report["bad_step"])
    assert not same(new.params, state.params) and np.array_equal(new.key, state.key)
    expected = jax.tree.map(lambda old, p: EMA * np.asarray(old) + (1 - EMA) * np.asarray(p), state.ema, new.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), new.ema, expected)
    np.testing.assert_allclose(report["learning_rate"], schedule(2), rtol=1e-6)
    warm = 2 / 8  # at step 2
    np.testing.assert_allclose(report["loss"], report["masked_words"] + 0.5 * warm * report["generation"], rtol=1e-5)
    assert 0 <= report["masked_word"] <= report["masked_byte"] <= 1 and report["gradient_norm"] > 0
    assert same(step(state, batch), (new, report)), "the same state and batch give the same bits"


def test_steps_lower_the_loss_of_a_batch(machine, batch):
    step, state, _ = machine
    losses = []
    for _ in range(6):
        state, report = step(state, batch)
        losses.append(float(report["masked_words"] + 0.5 * report["generation"]))
    assert losses[-1] < losses[0] and int(state.step) == 8


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_freezes_the_state_and_is_dated(machine, batch, value):
    step, state, _ = machine
    good = state.params["logits"]["bias"]
    broken = state.replace(params=state.params | {"logits": state.params["logits"] | {"bias": good.at[70].set(value)}})
    new, report = step(broken, batch)
    assert int(new.bad_step) == int(report["bad_step"]) == int(state.step) == 2
    assert same(new.replace(bad_step=state.bad_step), broken), "nothing but the mark has changed"
    mended = new.replace(params=state.params, step=jnp.int32(7))
    later, report = step(mended, batch)
    assert np.isfinite(report["loss"]) and int(later.bad_step) == 2 and same(later, mended), "it stays where it went wrong"


def test_initialisation_follows_its_seed_and_keeps_an_average_only_where_asked():
    optimizer, _ = make_optimizer(OptimizerConfig(), 10)

    class Small:  # init is the model's own affair
        def init(self, key, batch):
            return {"params": {"layer": {"kernel": jax.random.normal(key, (3, 2))}}}

    states = [init_state(Small(), optimizer, None, seed, ema=0.0) for seed in (0, 0, 1)]
    assert same(states[0], states[1]) and not same(states[0].params, states[2].params)
    assert not np.array_equal(states[0].key, states[2].key) and states[0].ema is None
    state = init_state(Small(), optimizer, None, 0, ema=0.9)
    assert same(state.ema, state.params) and int(state.step) == 0 and int(state.bad_step) == -1

"""Schedules at their key points, what weight decay acts on, clipping."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from xmodal_jax.errors import UserError
from xmodal_jax.models import CrossmodalBytes
from xmodal_jax.train.optimizers import OPTIMIZERS, SCHEDULES, OptimizerConfig, decayed, make_optimizer, make_schedule

STEPS, PEAK = 200, 0.4


@pytest.mark.parametrize("final", [0.0, 0.1])
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_rise_linearly_to_the_peak_and_fall_to_their_final_share(name, final):
    rate = make_schedule(OptimizerConfig(learning_rate=PEAK, schedule=name, warmup=0.1, final=final), STEPS)
    np.testing.assert_allclose([rate(step) for step in (0, 5, 10, 20)][:3], [0, PEAK / 4, PEAK / 2], rtol=1e-5)
    np.testing.assert_allclose(rate(20), PEAK, rtol=1e-6)
    half = {"cosine": (1 + final) / 2, "linear": (1 + final) / 2, "constant": 1}[name]
    np.testing.assert_allclose(rate(110), PEAK * half, rtol=1e-5)
    end = PEAK if name == "constant" else PEAK * final
    np.testing.assert_allclose([rate(200), rate(1000)], [end, end], rtol=1e-5, atol=1e-7)
    quarter = {
        "cosine": final + (1 - final) * (1 + np.cos(np.pi / 4)) / 2,
        "linear": 1 - (1 - final) / 4,
        "constant": 1,
    }[name]
    np.testing.assert_allclose(rate(65), PEAK * quarter, rtol=1e-5)


def test_without_warmup_the_first_step_has_the_peak():
    assert float(make_schedule(OptimizerConfig(learning_rate=PEAK, warmup=0.0), STEPS)(0)) == pytest.approx(PEAK)
    assert float(make_schedule(OptimizerConfig(learning_rate=PEAK, warmup=0.01), 10)(0)) == 0  # at least one step


@pytest.mark.parametrize("name", ["adamw", "lion"])
def test_weight_decay_acts_on_kernels_alone(rng, name):
    params = {
        "dense": {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2)}, "norm": {"scale": rng.normal(size=2)},
        "table": {"embedding": rng.normal(size=(4, 2))}, "modality": rng.normal(size=(2, 2)), "log_scale": rng.normal(),
    }  # fmt: skip
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    config = OptimizerConfig(name=name, learning_rate=0.1, schedule="constant", warmup=0.0, weight_decay=0.5)
    optimizer, _ = make_optimizer(config, STEPS)
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    np.testing.assert_allclose(updates["dense"].pop("kernel"), -0.05 * params["dense"]["kernel"], rtol=1e-5)
    assert not any(leaf.any() for leaf in jax.tree.leaves(updates))


def test_weight_matrices_of_the_model_are_decayed_and_nothing_else(make_batch):
    shapes = jax.eval_shape(lambda: CrossmodalBytes(group=48, grid=4).init(jax.random.PRNGKey(0), make_batch(1, 768)))["params"]
    marked = jax.tree_util.tree_leaves_with_path(decayed(shapes))
    names = {flag: {path[-1].key for path, value in marked if value is flag} for flag in (True, False)}
    assert names == {True: {"kernel"}, False: {"bias", "scale", "embedding", "modality", "log_scale"}}


def test_clipping_bounds_the_global_norm_and_leaves_small_gradients(rng):
    params = {"a": {"kernel": jnp.zeros(4)}, "b": {"kernel": jnp.zeros((2, 3))}}
    direction = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), params)
    direction = jax.tree.map(lambda g: g / optax.global_norm(direction), direction)
    for clip, norm, expected in ((1.0, 10.0, 1.0), (1.0, 0.3, 0.3), (0.0, 10.0, 10.0)):
        config = OptimizerConfig(name="sgd", learning_rate=1.0, schedule="constant", warmup=0.0, clip=clip, b1=0.0)
        optimizer, _ = make_optimizer(config, STEPS)
        updates, _ = optimizer.update(jax.tree.map(lambda g, n=norm: n * g, direction), optimizer.init(params), params)
        jax.tree.map(lambda u, g, e=expected: np.testing.assert_allclose(u, -e * g, rtol=1e-4, atol=1e-7), updates, direction)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_steps_downhill(name):
    target = jnp.array([[1.0, -2.0], [0.5, 3.0]])
    config = OptimizerConfig(name=name, learning_rate=0.05, schedule="constant", warmup=0.0, weight_decay=0.0, b1=0.5)
    optimizer, _ = make_optimizer(config, STEPS)

    def loss(params):
        return jnp.sum((params["kernel"] - target) ** 2)

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    params = {"kernel": jnp.full((2, 2), 0.4)}
    state, before = optimizer.init(params), loss(params)
    for _ in range(20):
        params, state = step(params, state)
    assert loss(params) < 0.95 * before


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(UserError, match="config.optimizer.name 'adanw': did you mean 'adamw'"):
        make_optimizer(OptimizerConfig(name="adanw"), STEPS)
    with pytest.raises(UserError, match="config.optimizer.schedule 'cosin': did you mean 'cosine'"):
        make_optimizer(OptimizerConfig(schedule="cosin"), STEPS)

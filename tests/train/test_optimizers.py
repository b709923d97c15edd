"""Schedules at their key points, what weight decay acts on, clipping, what happens to parameters by their path."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh

from tests.conftest import random_params
from tests.test_zoo_run import small
from xmodal_jax.errors import UserError
from xmodal_jax.models import CrossmodalBytes
from xmodal_jax.systems import recipe
from xmodal_jax.train.by_path import scale_branches
from xmodal_jax.train.mesh import AXES, path_of, shardings
from xmodal_jax.train.optimizers import (
    OPTIMIZERS,
    SCHEDULES,
    OptimizerConfig,
    decayed,
    make_optimizer,
    make_schedule,
    matrices,
)  # fmt: skip
from xmodal_jax.train.step import init_state

STEPS, PEAK = 200, 0.4


def update(optimizer, grads, params):
    """The first step of an optimiser, as one program: (updates, state)."""
    return jax.jit(lambda g, p: optimizer.update(g, optimizer.init(p), p))(grads, params)


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
    updates, _ = update(optimizer, jax.tree.map(jnp.zeros_like, params), params)
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
        updates, _ = update(optimizer, jax.tree.map(lambda g, n=norm: n * g, direction), params)
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


# -- by path

TOWERS = {  # two towers of different depth, each with what embeds before it and a closing norm, and a head
    "image/patch_embed/kernel": (4, 3), "image/class_token": (1, 3), "image/encoder/norm/scale": (3,),
    "image/encoder/layers/up/kernel": (2, 3, 5), "image/encoder/layers/up/bias": (2, 5),
    "text/embed/words/embedding": (7, 3), "text/encoder/norm/scale": (3,),
    "text/encoder/layers/attention/qkv/kernel": (5, 3, 3, 1, 2), "text/encoder/layers/norm_mlp/scale": (5, 3),
    "head/kernel": (3, 2), "head/bias": (2,),
}  # fmt: skip
DECAY = 0.75
STANDING_BEFORE = {"image/patch_embed/kernel": 2, "image/class_token": 2, "text/embed/words/embedding": 5}  # so many layers


def towers(rng):
    tree = {}
    for path, shape in TOWERS.items():
        *parts, name = path.split("/")
        node = tree
        for part in parts:
            node = node.setdefault(part, {})
        node[name] = jnp.asarray(rng.normal(size=shape), jnp.float32)
    return tree


def flat(tree, is_leaf=None):
    return {path_of(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf)}


def constant(**settings):
    return OptimizerConfig(**{"schedule": "constant", "warmup": 0.0, "learning_rate": 0.1, "clip": 0.0} | settings)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_with_frozen_parts_the_rest_is_trained_as_if_they_were_not_there(rng, name):
    """The frozen tower keeps every bit, has no moments, and its huge gradients do not reach the clipped norm."""
    params = towers(rng)
    frozen, _ = make_optimizer(constant(name=name, clip=1.0, freeze=("^image/", "words")), STEPS)
    alone, _ = make_optimizer(constant(name=name, clip=1.0), STEPS)
    rest = {"head": params["head"], "text": {"encoder": params["text"]["encoder"]}}

    @functools.partial(jax.jit, static_argnums=0)
    def step(update, grads, state, params):
        updates, state = update(grads, state, params)
        return optax.apply_updates(params, updates), state

    new, state = params, frozen.init(params)
    new_rest, rest_state = rest, alone.init(rest)
    for _ in range(3):
        grads = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), params)
        grads["image"] = jax.tree.map(lambda leaf: 1e6 * leaf, grads["image"])
        some = {"head": grads["head"], "text": {"encoder": grads["text"]["encoder"]}}
        new, state = step(frozen.update, grads, state, new)
        new_rest, rest_state = step(alone.update, some, rest_state, new_rest)

    sizes = [sorted(leaf.shape for leaf in jax.tree.leaves(tree)) for tree in (state, rest_state)]
    assert sizes[0] == sizes[1]
    before, after, expected = flat(params), flat(new), flat(new_rest)
    for path in before:
        if path in expected:
            np.testing.assert_allclose(after[path], expected[path], rtol=1e-6, atol=1e-7, err_msg=path)
            assert (after[path] != before[path]).any(), path
        else:
            assert after[path].tobytes() == before[path].tobytes(), path


def test_layers_and_what_embeds_before_them_have_the_rates_of_a_loop_written_by_hand(rng):
    params = towers(rng)
    grads = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), params)
    scales = (("norm_mlp", 0.5), ("norm|head/kernel", 3.0))  # the first that is found counts
    optimizer, _ = make_optimizer(constant(name="sgd", b1=0.0, layer_decay=DECAY, scales=scales), STEPS)
    updates = flat(update(optimizer, grads, params)[0])
    for path, grad in flat(grads).items():
        own = {"text/encoder/layers/norm_mlp/scale": 0.5, "image/encoder/norm/scale": 3, "text/encoder/norm/scale": 3}
        expected = -0.1 * {**own, "head/kernel": 3}.get(path, 1) * np.array(grad)
        if "/layers/" in path:
            depth = len(grad)
            for layer in range(depth):
                expected[layer] *= DECAY ** (depth - layer)
        if path in STANDING_BEFORE:
            expected *= DECAY ** (STANDING_BEFORE[path] + 1)
        np.testing.assert_allclose(updates[path], expected, rtol=2e-6, err_msg=path)


@pytest.mark.parametrize("name", ["adamw", "lion"])
def test_weight_decay_goes_with_the_rate_of_the_layer_and_spares_what_is_frozen(rng, name):
    params = towers(rng)
    config = constant(name=name, weight_decay=0.5, layer_decay=DECAY, freeze=("head",), scales=(("text/.*kernel", 2.0),))
    optimizer, _ = make_optimizer(config, STEPS)
    updates, _ = update(optimizer, jax.tree.map(jnp.zeros_like, params), params)
    updates, params = flat(updates), flat(params)
    image, text = "image/encoder/layers/up/kernel", "text/encoder/layers/attention/qkv/kernel"
    for layer in range(2):
        np.testing.assert_allclose(updates[image][layer], -0.05 * DECAY ** (2 - layer) * params[image][layer], rtol=1e-5)
    for layer in range(5):
        np.testing.assert_allclose(updates[text][layer], -0.1 * DECAY ** (5 - layer) * params[text][layer], rtol=1e-5)
    patch = "image/patch_embed/kernel"
    np.testing.assert_allclose(updates[patch], -0.05 * DECAY**3 * params[patch], rtol=1e-5)
    assert not any(updates[path].any() for path in set(updates) - {image, text, patch})


@pytest.mark.parametrize("settings", [{"freeze": ("image/", "pacth")}, {"scales": (("head", 2.0), ("pacth", 1.0))}])
def test_a_pattern_that_is_found_in_no_path_is_refused_with_paths_to_choose_from(rng, settings):
    params = towers(rng)
    optimizer, _ = make_optimizer(constant(**settings), STEPS)
    with pytest.raises(UserError, match=f"config.optimizer.{[*settings][0]}: 'pacth' .*image/patch_embed/kernel"):
        optimizer.update(params, optimizer.init(params), params)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_moments_lie_as_their_parameters_do_when_some_are_frozen(make_batch, name):
    config = constant(name=name, clip=1.0, freeze=("text_tower", "second_bytes"), layer_decay=DECAY)
    optimizer, _ = make_optimizer(config, STEPS)
    model, batch = CrossmodalBytes(group=48, grid=4, width=16, heads=2), make_batch(2, 768)
    shapes = jax.eval_shape(lambda: init_state(model, optimizer, batch, 0, 0.0))
    placed = shardings(shapes, AbstractMesh((2, 2, 2), AXES))
    kernels = {path: place.spec for path, place in flat(placed.params).items() if path.endswith("kernel")}
    moments = flat(placed.opt_state)
    of = {path: [name for name in moments if name.endswith(f"/{path}")] for path in kernels}
    if name != "adafactor":  # which keeps rows and columns
        for path, names in of.items():
            assert all(moments[name].spec == kernels[path] for name in names), path
            assert bool(names) != bool(re.search("text_tower|second_bytes", path)), path
    assert not any("text_tower" in path or "second_bytes" in path for path in moments)


@pytest.mark.parametrize("row", ["vilbert", "vlmo", "albef", "vl_t5"])
def test_every_matrix_of_every_layer_is_muons(row):
    """Of streams and experts too, whose layers stand under names of their own; and these are what `residual_init` scales."""
    parts = recipe.make(small(f"{row},debug,image_size=32"))
    params = random_params(parts.model, parts.example_batch(1))
    kernels = {path: leaf for path, leaf in flat(params).items() if path.endswith("kernel") and "grid" not in path}
    of = flat(matrices(params), is_leaf=lambda leaf: leaf is None or hasattr(leaf, "reduction_axis"))
    layers = {path for path in kernels if re.search("attention|cross|/up/|/down/|mlp|/(text|image|joint)/(up|down)/", path)}
    assert {path for path in kernels if of[path] is not None} == layers and len(layers) > 5
    zero = {path for path, leaf in flat(scale_branches(params, 0.0)).items() if not np.any(leaf)}
    assert zero == {path for path in layers if re.search("(out|down)/kernel", path)}
    assert scale_branches(params, 1.0) is params


def test_muon_turns_the_layers_momenta_into_orthogonal_matrices_and_leaves_the_rest_to_adam(rng):
    """Each layer and each of q, k, v is a matrix: the singular values of its update are near one size, as are no gradient's."""
    shapes = {"out": {"kernel": (2, 6, 4)}, "qkv": {"kernel": (2, 6, 3, 2, 2), "bias": (2, 3, 2, 2)}}
    shapes = {"tower": {"layers": shapes}, "streams": {"q": {"kernel": (2, 6, 1, 2, 2)}}, "head": {"kernel": (6, 5)}}
    params, grads = (
        jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s), jnp.float32), shapes, is_leaf=lambda s: isinstance(s, tuple))
        for _ in range(2)
    )
    config = OptimizerConfig(name="muon", learning_rate=0.1, schedule="constant", warmup=0.0, weight_decay=0.0, clip=0.0)
    optimizer, _ = make_optimizer(config, STEPS)
    found, _ = update(optimizer, grads, params)
    layers, given = found["tower"]["layers"], grads["tower"]["layers"]
    pairs = [(layers["out"]["kernel"][i], given["out"]["kernel"][i]) for i in range(2)]
    pairs += [(layers["qkv"]["kernel"][i, :, j], given["qkv"]["kernel"][i, :, j]) for i in range(2) for j in range(3)]
    pairs += [(found["streams"]["q"]["kernel"][i, :, 0], grads["streams"]["q"]["kernel"][i, :, 0]) for i in range(2)]
    for own, gradient in pairs:
        u, _, v = np.linalg.svd(np.float64(gradient).reshape(6, 4), full_matrices=False)
        own = np.float64(own).reshape(6, 4)
        along = np.diag(u.T @ own @ v.T) / (-0.1 * 0.2 * 6**0.5)
        assert along.min() > 0.5 and along.max() < 1.4  # five steps of the iteration come so near to 1
        np.testing.assert_allclose(u @ np.diag(np.diag(u.T @ own @ v.T)) @ v, own, atol=2e-3)
    config = OptimizerConfig(name="adamw", learning_rate=0.1, schedule="constant", warmup=0.0, weight_decay=0.0, clip=0.0)
    plain, _ = update(make_optimizer(config, STEPS)[0], grads, params)
    for path in (("head", "kernel"), ("tower", "layers", "qkv", "bias")):  # Adam with Nesterov's momentum: a longer first step
        one, other = (functools.reduce(dict.__getitem__, path, tree) for tree in (found, plain))
        np.testing.assert_allclose(one, other * (1 + 0.9 * (1 - 0.9) / (1 - 0.9**2)), rtol=1e-3)

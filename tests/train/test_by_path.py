"""Freezing, factors of the learning rate, layer-wise decay and adapters, each against what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from xmodal_jax.errors import UserError
from xmodal_jax.models.backbones.vit import ViT
from xmodal_jax.models.lora import LoraConfig, add_adapters, merge
from xmodal_jax.train.by_path import factors_of, labels, without_frozen
from xmodal_jax.train.mesh import make_mesh, path_of, shardings
from xmodal_jax.train.optimizers import OptimizerConfig, make_optimizer, matrices

MODEL = ViT(width=8, heads=2, layers=3, patch=4, grid=(2, 2), labels=3)


@pytest.fixture
def params(make_params):
    return jax.tree.map(jnp.asarray, make_params(MODEL, np.zeros((1, 8, 8, 3), np.float32)))


def flat(tree):
    return {path_of(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def update(optimizer, grads, params):
    """The first step of an optimiser, as one program: (updates, state)."""
    return jax.jit(lambda g, p: optimizer.update(g, optimizer.init(p), p))(grads, params)


def plain(**settings):
    return OptimizerConfig(**{"schedule": "constant", "warmup": 0.0, "clip": 0.0} | settings)


def test_frozen_parameters_stay_without_moments_and_outside_the_clipped_norm(params):
    optimizer, _ = make_optimizer(plain(name="adam", freeze=("patch_embed", "class_token"), clip=1.0), 10)
    state = jax.jit(optimizer.init)(params)
    moments = [path for path in flat(state) if "mu" in path]
    assert moments and not any("patch_embed" in path or "class_token" in path for path in moments)
    shardings(state, make_mesh({}, jax.devices()[:1]))  # the rules of the mesh find every moment by its path
    grads = jax.tree.map(jnp.ones_like, params)
    grads["patch_embed"] = jax.tree.map(lambda g: g * 1e6, grads["patch_embed"])
    updates, _ = jax.jit(optimizer.update)(grads, state, params)
    new = flat(jax.jit(optax.apply_updates)(params, updates))
    for path, before in flat(params).items():
        assert np.array_equal(new[path], before) == ("patch_embed" in path or "class_token" in path), path
    sgd, _ = make_optimizer(plain(name="sgd", learning_rate=1.0, freeze=("patch_embed",), clip=1.0), 10)
    updates, _ = update(sgd, grads, params)
    np.testing.assert_allclose(optax.global_norm(updates), 1.0, rtol=1e-5)


def test_gradients_of_frozen_parameters_are_not_computed(params):
    images = jnp.ones((2, 8, 8, 3))

    def gradient(params, freeze):
        grads = jax.grad(lambda p: jnp.sum(MODEL.apply({"params": p}, images).logits ** 2))(params)
        return without_frozen(grads, freeze)

    costs = {}
    for freeze in ((), ("^(?!classifier)",)):
        compiled = jax.jit(gradient, static_argnums=1).lower(params, freeze).compile()
        costs[freeze] = compiled.cost_analysis()["flops"]
        grads = flat(compiled(params))
        assert all(leaf.any() == ("classifier" in path or not freeze) for path, leaf in grads.items() if "bias" not in path)
    assert costs[("^(?!classifier)",)] < 0.6 * costs[()]


def test_each_layer_has_its_rate(params):
    optimizer, _ = make_optimizer(plain(name="sgd", learning_rate=0.5, layer_decay=0.8, scales=(("classifier", 10.0),)), 10)
    grads = jax.tree.map(jnp.ones_like, params)
    updates = flat(update(optimizer, grads, params)[0])
    for layer in range(3):
        np.testing.assert_allclose(updates["encoder/layers/up/kernel"][layer], -0.5 * 0.8 ** (3 - layer), rtol=1e-6)
    for path, factor in {
        "patch_embed/projection/kernel": 0.8**4, "position_table": 0.8**4, "class_token": 0.8**4,
        "encoder/norm/scale": 1, "classifier/kernel": 10,
    }.items():  # fmt: skip
        np.testing.assert_allclose(updates[path], -0.5 * factor, rtol=1e-6, err_msg=path)


def test_towers_decay_by_their_own_depth(params):
    deep = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), params["encoder"]["layers"])
    towers = {"image": params, "text": {**params, "encoder": {"layers": deep}}}
    factors = flat(factors_of(towers, (), 0.5))
    assert factors["image/class_token"] == 0.5**4 and factors["text/class_token"] == 0.5**7
    np.testing.assert_allclose(factors["text/encoder/layers/up/bias"].ravel(), 0.5 ** np.arange(6, 0, -1.0))


def test_layers_of_streams_and_experts_are_stacks_too():
    """Each layer has its rate, `lower` below `upper`; an adapter has a factor pair a layer; Muon takes each as a matrix."""
    kernel = {"attention": {"qkv": {"kernel": jnp.ones((2, 8, 3, 2, 4))}}}
    streams = {"text": {"embed": jnp.ones((5, 8))}, "interaction": {"streams": kernel}}
    experts = {"text": {"embed": jnp.ones((5, 8))}, "interaction": {"lower": kernel, "upper": kernel, "norm": jnp.ones(8)}}
    factors = flat(factors_of(experts, (), 0.5))
    below, above = (factors[f"interaction/{name}/attention/qkv/kernel"].ravel() for name in ("lower", "upper"))
    np.testing.assert_allclose([*below, *above], [0.5**4, 0.5**3, 0.5**2, 0.5])
    assert factors["text/embed"] == 0.5**5 and factors["interaction/norm"] == 1
    assert flat(factors_of(streams, (), 0.5))["text/embed"] == 0.5**3
    for params in (streams, experts):
        adapters = add_adapters(jax.random.PRNGKey(0), params, LoraConfig(("qkv",), rank=3))["lora"]["interaction"]
        for name, part in adapters.items():
            node = part["attention"]["qkv"]["kernel"]
            assert node["a"].shape == (2, 8, 3) and node["b"].shape == (2, 3, 24)
            assert matrices(params)["interaction"][name]["attention"]["qkv"]["kernel"].reduction_axis == (1,)


def test_a_pattern_that_finds_nothing_is_refused(params):
    with pytest.raises(UserError, match="optimizer.freeze: 'patches' is found in no"):
        labels(params, ("patches",))
    with pytest.raises(UserError, match="optimizer.scales: 'heads'"):
        factors_of(params, (("heads", 2.0),), 1.0)
    with pytest.raises(UserError, match="lora.patterns: 'query'.*attention/qkv/kernel"):
        add_adapters(jax.random.PRNGKey(0), params, LoraConfig(("query",)))


def test_adapters_change_nothing_at_first_and_then_what_their_product_says(params, rng):
    config = LoraConfig(("attention/(qkv|out)", "classifier"), rank=2, alpha=6.0)
    adapted = add_adapters(jax.random.PRNGKey(0), params, config)
    assert set(flat(adapted["lora"])) == {
        f"{path}/{part}" for path in ("encoder/layers/attention/qkv/kernel", "encoder/layers/attention/out/kernel",
                                      "classifier/kernel") for part in ("a", "b", "factor")
    }  # fmt: skip
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(merge(adapted)), jax.tree.leaves(params), strict=True))
    node = adapted["lora"]["encoder"]["layers"]["attention"]["qkv"]["kernel"]
    node["b"] = jnp.asarray(rng.normal(size=node["b"].shape), jnp.float32)
    merged = merge(adapted)["encoder"]["layers"]["attention"]["qkv"]["kernel"]
    kernel = params["encoder"]["layers"]["attention"]["qkv"]["kernel"]
    for layer in range(3):
        a, b = (np.asarray(node[name][layer], np.float64) for name in ("a", "b"))
        change = np.asarray(merged[layer] - kernel[layer]).reshape(8, -1)
        np.testing.assert_allclose(change, 3.0 * a @ b, atol=1e-5)
        assert np.linalg.matrix_rank(change, 1e-4) == 2


def test_training_adapters_alone(params):
    config = plain(name="adamw", freeze=("^(?!lora/)",), learning_rate=1e-3)
    adapted = add_adapters(jax.random.PRNGKey(0), params, LoraConfig(("attention",), rank=2))
    optimizer, _ = make_optimizer(config, 10)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 3)), jnp.float32)

    def loss(params):
        return jnp.sum(MODEL.apply({"params": merge(params)}, images).logits ** 2)

    @jax.jit
    def step(adapted, state):
        value, grads = jax.value_and_grad(loss)(adapted)
        updates, state = optimizer.update(grads, state, adapted)
        return optax.apply_updates(adapted, updates), state, value

    state, losses = optimizer.init(adapted), []
    for _ in range(4):
        last = adapted
        adapted, state, value = step(adapted, state)
        losses.append(value)
    adapted = last  # after three steps, whose loss the fourth has told
    assert losses[3] < losses[0]
    frozen = {path: leaf for path, leaf in flat(adapted).items() if not path.startswith("lora/")}
    assert all(np.array_equal(leaf, flat(params)[path]) for path, leaf in frozen.items())
    assert all(leaf == 8.0 for path, leaf in flat(adapted).items() if path.endswith("factor"))


def test_an_embedding_goes_with_the_tower_of_its_name():
    shapes = {"text_tower": 2, "second_tower": 1, "fusion": 4}
    params = {name: {"layers": {"up": {"bias": jnp.ones((depth, 3))}}} for name, depth in shapes.items()}
    params |= {name: {"table": {"embedding": jnp.ones((3, 3))}} for name in ("text_bytes", "second_bytes")}
    factors = flat(factors_of(params | {"modality": jnp.ones((2, 3))}, (), 0.5))
    below = {"text_bytes/table/embedding": 3, "second_bytes/table/embedding": 2, "modality": 5}  # the deepest is fusion
    assert {path: factors[path] for path in below} == {path: 0.5**power for path, power in below.items()}


def test_factors_do_not_depend_on_what_is_frozen(params):
    """A frozen stack still has its depth, and a pattern may find frozen parameters too."""
    optimizer, _ = make_optimizer(
        plain(name="sgd", learning_rate=1.0, layer_decay=0.5, freeze=("layers/", "classifier"), scales=(("classifier", 2.0),)),
        10,
    )
    updates = flat(update(optimizer, jax.tree.map(jnp.ones_like, params), params)[0])
    assert updates["class_token"].ravel()[0] == -(0.5**4)
    assert not updates["classifier/kernel"].any() and not updates["encoder/layers/up/kernel"].any()


def test_adapters_learn_at_the_rate_of_their_layer(params):
    adapted = add_adapters(jax.random.PRNGKey(0), params, LoraConfig(("qkv", "patch_embed"), rank=2))
    config = plain(name="sgd", learning_rate=1.0, b1=0.0, layer_decay=0.5, freeze=("^(?!lora/)",), scales=(("kernel/b", 3.0),))
    optimizer, _ = make_optimizer(config, 10)
    updates = flat(update(optimizer, jax.tree.map(jnp.ones_like, adapted), adapted)[0])
    for name, own in (("a", 1.0), ("b", 3.0)):
        found = updates[f"lora/encoder/layers/attention/qkv/kernel/{name}"]
        assert [set(np.asarray(layer).ravel().tolist()) for layer in found] == [{-own / 8}, {-own / 4}, {-own / 2}]
        assert set(np.asarray(updates[f"lora/patch_embed/projection/kernel/{name}"]).ravel().tolist()) == {-own / 16}


def test_settings_that_cannot_be_meant_are_refused_before_the_first_step(params):
    with pytest.raises(UserError, match="freeze='bias' must be a tuple"):  # else every parameter with a b, i, a or s
        make_optimizer(plain(freeze="bias"), 10)
    with pytest.raises(UserError, match="scales=.*must be a tuple"):
        make_optimizer(plain(scales=("classifier", 10.0)), 10)
    for settings, message in (
        ({"freeze": ("hea(d",)}, "freeze: 'hea.d' is not a regular expression: missing"),
        ({"scales": (("pacth", 2.0),)}, "scales: 'pacth' .*patch_embed/projection/kernel"),
    ):
        with pytest.raises(UserError, match=message):
            jax.eval_shape(make_optimizer(plain(**settings), 10)[0].init, params)

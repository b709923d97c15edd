"""Low-rank adapters against their equation: nothing at first, their product later, their gradients, alone in training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xmodal_jax.errors import UserError
from xmodal_jax.models.lora import LoraConfig, add_adapters, merge
from xmodal_jax.train.mesh import path_of
from xmodal_jax.train.optimizers import OptimizerConfig, make_optimizer
from xmodal_jax.train.step import State, make_step

QKV, OUT, NAMES = "fusion/layers/attention/qkv/kernel", "fusion/layers/attention/out/kernel", "to_names/kernel"
KERNELS = {QKV: (16, 48), OUT: (16, 16), NAMES: (16, 1024)}  # as matrices, of each layer
PATTERNS = ("fusion/.*(qkv|out)", "to_names")
KEY = jax.random.PRNGKey(0)


def flat(tree):
    return {path_of(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def adapted(params, rng=None, rank=2, alpha=6.0):
    """Parameters with adapters; with `rng` B is drawn at random."""
    out = add_adapters(KEY, jax.tree.map(jnp.asarray, params), LoraConfig(PATTERNS, rank, alpha))

    def draw(path, leaf):
        return jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype) if path[-1].key == "b" else leaf

    return out if rng is None else out | {"lora": jax.tree_util.tree_map_with_path(draw, out["lora"])}


def matrices(leaf, path):
    """A kernel [(L,) D, *features] as float64 [L, D, F]."""
    return np.asarray(leaf, np.float64).reshape(-1, *KERNELS[path])


def test_at_first_the_merged_tree_is_the_original_to_the_bit(tiny):
    _, params, _ = tiny
    merged, before = flat(merge(adapted(params))), flat(params)
    assert merged.keys() == before.keys()
    for path, leaf in before.items():
        assert np.asarray(merged[path]).tobytes() == np.asarray(leaf).tobytes(), path
    assert merge(params) is params


@pytest.mark.parametrize("rank", [1, 3])
def test_kernels_change_by_the_scaled_product_of_that_rank_and_all_else_not_at_all(tiny, rng, rank):
    _, params, _ = tiny
    tree = adapted(params, rng, rank, alpha=5.0)
    merged, adapters = flat(merge(tree)), flat(tree["lora"])
    for path, leaf in flat(params).items():
        if path not in KERNELS:
            assert np.array_equal(merged[path], leaf), path
            continue
        a, b = (np.asarray(adapters[f"{path}/{name}"], np.float64) for name in "ab")
        layers = [(a, b)] if path == NAMES else list(zip(a, b, strict=True))
        old, new = matrices(leaf, path), matrices(merged[path], path)
        assert len(layers) == len(old) == (1 if path == NAMES else leaf.shape[0])
        for layer, (a, b) in enumerate(layers):
            assert a.shape == (KERNELS[path][0], rank) and b.shape == (rank, KERNELS[path][1])
            np.testing.assert_allclose(new[layer], old[layer] + 5.0 / rank * a @ b, rtol=1e-5, atol=2e-5, err_msg=path)
            assert np.linalg.matrix_rank(new[layer] - old[layer], 1e-3) == rank, path


def test_a_layer_gives_out_what_the_two_paths_of_the_paper_do(tiny, rng):
    """x (W + alpha / r A B) = x W + alpha / r (x A) B, in every layer of a stack of three."""
    kernel = jnp.asarray(rng.normal(size=(3, 6, 2, 5)), jnp.float32)  # [L, D, H, d]
    tree = add_adapters(KEY, {"layers": {"q": {"kernel": kernel}}}, LoraConfig(("q/",), rank=2, alpha=3.0))
    node = tree["lora"]["layers"]["q"]["kernel"]
    node["b"] = jnp.asarray(rng.normal(size=(3, 2, 10)), jnp.float32)
    merged, x = merge(tree)["layers"]["q"]["kernel"], rng.normal(size=(4, 6))
    for layer in range(3):
        w, a, b = (np.asarray(part[layer], np.float64) for part in (kernel, node["a"], node["b"]))
        two_paths = x @ w.reshape(6, 10) + 1.5 * (x @ a) @ b
        found = np.einsum("nd,dhk->nhk", x, np.asarray(merged[layer], np.float64)).reshape(4, 10)
        np.testing.assert_allclose(found, two_paths, rtol=1e-5, atol=1e-4)


def test_gradients_of_the_adapters_follow_from_the_gradient_of_the_kernel(tiny, rng):
    """With G = dLoss / dW: dLoss / dA = alpha / r G B^T and dLoss / dB = alpha / r A^T G; the factor is a constant."""
    _, params, _ = tiny
    tree = adapted(params, rng)
    weights = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), params)

    def loss(tree):
        return sum(jax.tree.leaves(jax.tree.map(lambda w, p: jnp.sum(w * p + 0.1 * p**2), weights, merge(tree))))

    found = flat(jax.jit(jax.grad(loss))(tree)["lora"])
    merged = flat(merge(tree))
    for path in KERNELS:
        g = matrices(flat(weights)[path], path) + 0.2 * matrices(merged[path], path)  # [L, D, F]
        a, b = (np.asarray(flat(tree["lora"])[f"{path}/{name}"], np.float64) for name in "ab")
        expected = {"a": 3.0 * g @ b.swapaxes(-1, -2), "b": 3.0 * a.swapaxes(-1, -2) @ g}
        for name, value in expected.items():
            np.testing.assert_allclose(
                found[f"{path}/{name}"], value.reshape(found[f"{path}/{name}"].shape), rtol=1e-3, atol=1e-3
            )
        assert found[f"{path}/factor"] == 0


def test_a_is_drawn_anew_for_every_kernel_and_layer_with_variance_one_over_its_inputs():
    params = {name: {"layers": {"up": {"kernel": jnp.zeros((2, 400, 8))}}} for name in ("text", "image")}
    lora = add_adapters(KEY, params, LoraConfig(("up",), rank=4))["lora"]
    drawn = [np.asarray(lora[name]["layers"]["up"]["kernel"]["a"][layer]) for name in params for layer in range(2)]
    for number, a in enumerate(drawn):
        np.testing.assert_allclose(a.std() * 20, 1, atol=0.1)
        assert all(abs(np.corrcoef(a.ravel(), other.ravel())[0, 1]) < 0.15 for other in drawn[:number])


def test_patterns_find_kernels_alone(tiny):
    _, params, _ = tiny
    for pattern in ("querry", "fusion/norm", "qkv/bias"):
        with pytest.raises(
            UserError, match=f"lora.patterns: '{pattern}' is found in no kernel's path.*fusion/layers/attention/qkv"
        ):
            add_adapters(KEY, params, LoraConfig((*PATTERNS, pattern)))
    assert set(flat(adapted(params)["lora"])) == {f"{path}/{name}" for path in KERNELS for name in ("a", "b", "factor")}
    assert add_adapters(KEY, params, LoraConfig()) is params


def test_steps_of_training_change_the_adapters_alone(tiny):
    """Through the whole training step, moving averages included: the frozen model keeps every bit and has no moments."""
    model, params, batch = tiny
    config = OptimizerConfig(learning_rate=0.05, schedule="constant", warmup=0.0, freeze=("^(?!lora/)",))
    optimizer, schedule = make_optimizer(config, 10)
    tree = adapted(params)
    state = State(jnp.int32(0), tree, optimizer.init(tree), None, KEY, jnp.int32(-1))
    held = {leaf.shape for leaf in jax.tree.leaves(state.opt_state)} - {()}
    assert held == {leaf.shape for leaf in jax.tree.leaves(tree["lora"])} - {()}
    step = jax.jit(make_step(model, {"masked_words": {}, "naming": {}}, optimizer, schedule))
    losses = []
    for _ in range(4):
        state, report = step(state, batch)
        losses.append(float(report["loss"]))
    assert losses[-1] < losses[0] and report["bad_step"] == -1
    before, after = flat(tree), flat(state.params)
    for path, leaf in before.items():
        same = np.asarray(after[path]).tobytes() == np.asarray(leaf).tobytes()
        assert same == (not path.startswith("lora/") or path.endswith("factor")), path

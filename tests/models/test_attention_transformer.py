"""Attention and transformer blocks against PyTorch's, with weights copied over."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xmodal_jax.models.attend import attend, attention_weights
from xmodal_jax.models.attention import Attention
from xmodal_jax.models.transformer import REMAT, Block, Stack, empty_cache

B, N, M, D, H = 2, 5, 7, 12, 3


def close(ours, theirs, tolerance=2e-5):
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def normal(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


# -- attention


def test_attend_equals_scaled_dot_product_attention(torch, rng):
    q, k, v = normal(rng, B, H, N, 4), normal(rng, B, H, M, 4), normal(rng, B, H, M, 4)
    mask = rng.random((B, 1, N, M)) < 0.6
    mask[..., 0] = True
    dy = normal(rng, B, H, N, 4)
    for allowed in (None, mask):
        tensors = [torch.tensor(x, requires_grad=True) for x in (q, k, v)]
        theirs = torch.nn.functional.scaled_dot_product_attention(
            *tensors, attn_mask=None if allowed is None else torch.tensor(allowed)
        )
        theirs.backward(torch.tensor(dy))
        y, gradient = jax.vjp(lambda *qkv, allowed=allowed: attend(*qkv, allowed), q, k, v)
        close(y, theirs.detach())
        for ours, tensor in zip(gradient(dy), tensors, strict=True):
            close(ours, tensor.grad)
        weights = attention_weights(q, k, allowed)
        close(weights.sum(-1), np.ones((B, H, N)))
        close(jnp.einsum("bhnm,bhmd->bhnd", weights, v), y)
    assert not np.asarray(weights)[~np.broadcast_to(mask, weights.shape)].any()


def test_a_fully_masked_row_gives_zeros_and_finite_gradients(rng):
    q, k, v = normal(rng, 1, 1, 3, 4), normal(rng, 1, 1, 5, 4), normal(rng, 1, 1, 5, 4)
    mask = np.ones((1, 1, 3, 5), bool)
    mask[:, :, 1] = False
    y, weights = attend(q, k, v, mask), attention_weights(q, k, mask)
    assert not np.asarray(y[:, :, 1]).any() and not np.asarray(weights[:, :, 1]).any() and np.asarray(y[:, :, 0]).any()
    grads = jax.jit(jax.grad(lambda *qkv: jnp.sum(attend(*qkv, mask) ** 2), (0, 1, 2)))(q, k, v)
    assert all(np.isfinite(g).all() for g in grads) and not np.asarray(grads[0][:, :, 1]).any()


def torch_attention(torch, params, cross):
    """nn.MultiheadAttention with the weights of our `Attention`; ours are [D, parts, H, d], theirs [parts H d, D]."""
    theirs = torch.nn.MultiheadAttention(D, H, batch_first=True)

    def rows(part):
        return part["kernel"].reshape(D, -1).T, part["bias"].reshape(-1)

    parts = [rows(params[name]) for name in (("q", "kv") if cross else ("qkv",))]
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.tensor(np.concatenate([weight for weight, _ in parts])))
        theirs.in_proj_bias.copy_(torch.tensor(np.concatenate([bias for _, bias in parts])))
        theirs.out_proj.weight.copy_(torch.tensor(params["out"]["kernel"].T))
        theirs.out_proj.bias.copy_(torch.tensor(params["out"]["bias"]))
    return theirs


@pytest.mark.parametrize("cross", [False, True])
def test_attention_equals_torch_multihead_attention(torch, rng, make_params, call, cross):
    x, context = normal(rng, B, N, D), normal(rng, B, M, D) if cross else None
    keys = M if cross else N
    module = Attention(D, H)
    params = make_params(module, x, None, context)
    kept = np.arange(keys)[None] < np.array([[keys], [3]])  # padding of the second row
    y, cache = call(module, "__call__", params, x, kept[:, None, None], context)
    theirs = torch_attention(torch, params, cross)
    source = torch.tensor(context if cross else x)
    with torch.no_grad():
        expected, _ = theirs(torch.tensor(x), source, source, key_padding_mask=torch.tensor(~kept))
    close(y, expected)
    assert cache is None


# -- blocks


def causal(size):
    return np.tril(np.ones((size, size), bool))[None, None]


def copy_block(torch, theirs, params, cross):
    """Weights of our `Block` into torch's norm-first encoder or decoder layer."""
    norms = ["norm_attention", "norm_cross", "norm_mlp"] if cross else ["norm_attention", "norm_mlp"]
    with torch.no_grad():
        for number, name in enumerate(norms, 1):
            norm = getattr(theirs, f"norm{number}")
            norm.weight.copy_(torch.tensor(params[name]["scale"]))
            norm.bias.copy_(torch.tensor(params[name]["bias"]))
            norm.eps = 1e-6  # flax's default
        theirs.self_attn = torch_attention(torch, params["attention"], False)
        if cross:
            theirs.multihead_attn = torch_attention(torch, params["cross"], True)
        for ours, name in (("up", "linear1"), ("down", "linear2")):
            getattr(theirs, name).weight.copy_(torch.tensor(params[ours]["kernel"].T))
            getattr(theirs, name).bias.copy_(torch.tensor(params[ours]["bias"]))
    return theirs.eval()


@pytest.mark.parametrize("cross", [False, True])
def test_block_equals_torch_norm_first_layer(torch, rng, make_params, call, cross):
    x, context = normal(rng, B, N, D), normal(rng, B, M, D) if cross else None
    module = Block(D, H, 2 * D, cross=cross)
    arguments = (None, causal(N), context, None, None, None, False)
    params = make_params(module, x, *arguments)
    y, _ = jax.jit(lambda p, x: module.apply({"params": p}, x, *arguments))(params, x)
    settings = {
        "dim_feedforward": 2 * D, "dropout": 0.0,
        "activation": lambda t: torch.nn.functional.gelu(t, approximate="tanh"),
        "batch_first": True, "norm_first": True,
    }  # fmt: skip
    future = torch.triu(torch.ones(N, N, dtype=torch.bool), 1)
    kind = torch.nn.TransformerDecoderLayer if cross else torch.nn.TransformerEncoderLayer
    theirs = copy_block(torch, kind(D, H, **settings), params, cross)
    with torch.no_grad():
        if cross:
            expected = theirs(torch.tensor(x), torch.tensor(context), tgt_mask=future)
        else:
            expected = theirs(torch.tensor(x), src_mask=future)
    close(y, expected, 5e-5)


# -- stacks


@pytest.fixture(scope="module")
def stack(make_params):
    """(module, params, x, context, context mask) of three decoder layers."""
    rng = np.random.default_rng()
    x, context = normal(rng, B, N, D), normal(rng, B, M, D)
    seen = np.ones((B, 1, 1, M), bool)
    seen[1, ..., 4:] = False
    module = Stack(3, D, H, 2.0, cross=True)
    return module, make_params(module, x, causal(N), context, seen), x, context, seen


def test_scanned_layers_equal_a_loop_over_them(stack, call):
    module, params, x, context, seen = stack
    y, _ = call(module, "__call__", params, x, causal(N), context, seen)
    block = Block(D, H, 2 * D, cross=True)
    one = jax.jit(lambda layer, x: block.apply({"params": layer}, x, None, causal(N), context, seen, None, None, False)[0])
    loop = x
    for layer in range(3):
        loop = one(jax.tree.map(lambda p, layer=layer: p[layer], params["layers"]), loop)
    close(y, nn.LayerNorm().apply({"params": params["norm"]}, loop))


def test_cached_decoding_equals_uncached(stack, call):
    module, params, x, context, seen = stack
    whole, _ = call(module, "__call__", params, x, causal(N), context, seen)
    cache = empty_cache(3, B, H, N, D)
    assert cache["k"].shape == (3, B, H, N, D // H)

    @jax.jit
    def one(cache, token, index):
        mask = (index >= jnp.arange(N))[None, None, None]
        return module.apply({"params": params}, token, mask, context, seen, cache, index)

    for index in range(N):
        y, cache = one(cache, x[:, index : index + 1], index)
        close(y[:, 0], whole[:, index])


def test_a_stack_without_layers_is_its_norm(rng):
    x, module = normal(rng, B, N, D), Stack(0, D, H)
    params = {"norm": {"scale": normal(rng, D), "bias": normal(rng, D)}}
    y, _ = module.apply({"params": params}, x)
    wide = x.astype(np.float64)
    expected = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-6)
    close(y, expected * params["norm"]["scale"] + params["norm"]["bias"])


def test_every_remat_policy_gives_the_same_gradients(rng, make_params):
    x, weights = normal(rng, 1, N, D), normal(rng, 1, N, D)
    params = make_params(Stack(2, D, H, 1.0), x)

    def gradient(remat):
        module = Stack(2, D, H, 1.0, remat=remat)
        return jax.jit(jax.grad(lambda p: jnp.sum(weights * module.apply({"params": p}, x)[0])))(params)

    plain, *others = (gradient(remat) for remat in REMAT)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(plain)) > 1e-3
    for other in others:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), plain, other)


def test_dropout_acts_in_training_alone_and_follows_its_key(rng, make_params, call):
    x, module = normal(rng, B, N, D), Stack(1, D, H, 1.0, dropout=0.5)
    variables = {"params": make_params(module, x)}

    @jax.jit
    def train(key):
        return module.apply(variables, x, train=True, rngs={"dropout": key})[0]

    keys = jax.random.split(jax.random.PRNGKey(1))
    one, again, other = train(keys[0]), train(keys[0]), train(keys[1])
    still = call(module, "__call__", variables["params"], x)[0]
    assert np.array_equal(one, again) and not np.array_equal(one, other) and not np.array_equal(one, still)
    close(still, call(Stack(1, D, H, 1.0), "__call__", variables["params"], x)[0])

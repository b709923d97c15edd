"""Fusions against the formulas, term by term in float64; masks, gradients, many modalities; operations and memory."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import random_params
from xmodal_jax.errors import UserError
from xmodal_jax.models import pairs as pairing
from xmodal_jax.models.backbones.encoded import Encoded
from xmodal_jax.models.flops import count_flops
from xmodal_jax.models.fusion import EVC, FUSIONS, UME, PairFusion, PairTokens
from xmodal_jax.models.pairs import NEVER, TILE, pair_weights, pool_columns, pool_pairs, tile_of
from xmodal_jax.models.platform import platform

B, D = 2, 8
SIZES = ((5, 6), (7, 9), (4, 3))  # tokens and width of each modality


def make_sources(rng, count=2, dtype=np.float32):
    """Random modalities, the first without any mask at all in one row's end, one row of the second with a single token."""
    out = []
    for m, (tokens, width) in enumerate(SIZES[:count]):
        mask = rng.random((B, tokens)) < 0.7
        mask[:, 0] = True
        if m == 1:
            mask[0, 1:] = False
        out.append(Encoded(jnp.asarray(rng.normal(size=(B, tokens, width)), dtype), jnp.asarray(mask)))
    return out


def layer_norm(params, y):
    """In float64."""
    y = y - y.mean(-1, keepdims=True)
    y = y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-6)
    return y * params["scale"] + params["bias"]


def tokens_of(params, m, x):
    """The module's own first step, in float64: projected and normalised."""
    return layer_norm(params[f"norm_{m}"], x @ params[f"map_{m}"]["kernel"] + params[f"map_{m}"]["bias"])


def naive(params, sources, form, weighting, pairs, groups):
    """Equation by equation: every pair by itself, W_3 drawn at random and taken out of W_1 and W_2 again."""
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    h = [tokens_of(params, m, np.asarray(s.x, np.float64)) for m, s in enumerate(sources)]
    masks = [np.asarray(s.mask) for s in sources]
    W3 = np.random.default_rng(0).normal(size=(D, D))
    W1, W2 = params["left"]["kernel"] - W3, params["right"]["kernel"] + W3
    out = np.zeros((B, D))
    for row in range(B):
        everything = [(m, i) for m in range(len(h)) for i in np.flatnonzero(masks[m][row])]
        if pairs == "all":
            couples = list(itertools.product(everything, everything))
        else:
            couples = [(a, b) for a, b in itertools.product(everything, everything) if a[0] < b[0]]
        vectors, scores = [], []
        for (m, i), (n, j) in couples:
            a, b = h[m][row, i], h[n][row, j]
            if form == "low_rank":
                last = (a @ params["first"]["kernel"]) * (b @ params["second"]["kernel"])
            else:  # W_4 is a diagonal matrix
                last = (a * b) @ np.diag(params["diagonal"])
            vectors.append(np.tanh(a @ W1 + b @ W2 + (a - b) @ W3 + last + params["left"]["bias"]))
            scores.append(vectors[-1] @ params["query"] if weighting == "attention" else np.zeros(groups))
        weights = np.exp(scores) / np.exp(scores).sum(0)  # [pairs, G]
        if weighting == "mean":
            weights = np.full((len(couples), groups), 1 / len(couples))
        split = np.asarray(vectors).reshape(len(couples), groups, -1)
        out[row] = np.einsum("pg,pgd->gd", weights, split).reshape(-1)
    return layer_norm(params["norm_out"], out)


@pytest.mark.parametrize("pairs", ["cross", "all"])
@pytest.mark.parametrize("weighting", ["mean", "attention"])
@pytest.mark.parametrize("form", ["low_rank", "diagonal"])
@pytest.mark.parametrize("count", [2, 3])
def test_pairs_equal_the_naive_formula(call, rng, form, weighting, pairs, count):
    sources = make_sources(rng, count)
    model = PairFusion(D, form, weighting, pairs, groups=2, tile=3)
    params = random_params(model, sources)
    found = call(model, "__call__", params, sources)
    np.testing.assert_allclose(found, naive(params, sources, form, weighting, pairs, 2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weighting", ["mean", "attention"])
def test_a_full_matrix_is_exact_where_pooling_comes_before_tanh(call, rng, weighting):
    """sum_j a_ij [W_1 h_i + W_2 h_j + W_4 (h_i o h_j)] term by term, then tanh, then the sum over rows."""
    sources = make_sources(rng)
    model = PairFusion(D, "pool_first", weighting, groups=2)
    params = random_params(model, sources)
    found = call(model, "__call__", params, sources)
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    x, y = (tokens_of(p, m, np.asarray(s.x, np.float64)) for m, s in enumerate(sources))
    for row in range(B):
        rows, columns = (np.flatnonzero(s.mask[row]) for s in sources)
        vectors = []
        for i in rows:
            a, scores = x[row, i], np.zeros(len(columns))
            if weighting == "attention":
                q = a @ p["first"]["kernel"]
                scores = np.array([q @ (y[row, j] @ p["second"]["kernel"]) for j in columns]) / D**0.5
            shares, total = np.exp(scores) / np.exp(scores).sum(), 0
            for share, j in zip(shares, columns, strict=True):
                b = y[row, j]
                total = total + share * (a @ p["left"]["kernel"] + b @ p["right"]["kernel"] + (a * b) @ p["full"]["kernel"])
            vectors.append(np.tanh(total + p["left"]["bias"]))
        outer = np.exp(np.asarray(vectors) @ p["query"]) if weighting == "attention" else np.ones((len(rows), 1))
        outer = outer / outer.sum(0)
        split = np.asarray(vectors).reshape(len(rows), outer.shape[1], -1)
        expected = layer_norm(p["norm_out"], np.einsum("ng,ngd->gd", outer, split).reshape(-1))
        np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-5)


def blocks_of(rng, shapes, dtype=np.float32):
    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape), dtype)

    return [
        (draw(B, N, D), draw(B, M, D), draw(B, N, D), draw(B, M, D), jnp.asarray(rng.random((B, N)) < 0.7),
         jnp.asarray(rng.random((B, M)) < 0.7)) for N, M in shapes
    ]  # fmt: skip


def dense_pool(blocks, query):
    """What `pool_pairs` computes, all pairs at once."""
    query = jnp.zeros((D, 1)) if query is None else query
    hs, scores = [], []
    for a, b, p, q, rows, columns in blocks:
        h = jnp.tanh(a[:, :, None] + b[:, None] + p[:, :, None] * q[:, None])
        s = jnp.where((rows[:, :, None] & columns[:, None])[..., None], h @ query, -jnp.inf)
        hs.append(h.reshape(B, -1, D))
        scores.append(s.reshape(B, -1, query.shape[1]))
    h, s = jnp.concatenate(hs, 1), jnp.concatenate(scores, 1)
    weights = jax.nn.softmax(s, 1)  # [B, pairs, G]
    return jnp.einsum("bpg,bpgd->bgd", weights, h.reshape(*h.shape[:2], query.shape[1], -1)).reshape(B, D), weights.mean(-1)


@pytest.mark.parametrize(("tile", "weighed"), [(1, True), (3, True), (100, True), (3, False), (0, True)])
def test_tiles_change_nothing_and_gradients_are_those_of_all_pairs_at_once(rng, monkeypatch, tile, weighed):
    monkeypatch.setitem(TILE, platform(), 3 * B * 4 * D)  # so that the tile by default is one of several
    blocks, query = blocks_of(rng, [(5, 7), (9, 4)]), jnp.asarray(rng.normal(size=(D, 2)), jnp.float32) if weighed else None
    target = jnp.asarray(rng.normal(size=(B, D)), jnp.float32)
    masks = [block[4:] for block in blocks]

    def loss(function):
        def run(arrays, query):
            y = function([(*four, *mask) for four, mask in zip(arrays, masks, strict=True)], query)
            return jnp.sum(y * target), y

        return jax.jit(jax.value_and_grad(run, argnums=(0, 1), has_aux=True))

    arrays = [block[:4] for block in blocks]
    (_, one), found = loss(lambda blocks, query: pool_pairs(blocks, query, tile))(arrays, query)
    (_, other), wanted = loss(lambda blocks, query: dense_pool(blocks, query)[0])(arrays, query)
    np.testing.assert_allclose(one, other, atol=2e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, wanted)


def test_pair_weights_are_the_softmax_over_all_pairs(rng):
    blocks, query = blocks_of(rng, [(5, 7), (3, 4)]), jnp.asarray(rng.normal(size=(D, 2)), jnp.float32)
    found = pair_weights(blocks, query)
    assert [w.shape for w in found] == [(B, 5, 7), (B, 3, 4)]
    flat = np.concatenate([np.asarray(w).reshape(B, -1) for w in found], 1)
    np.testing.assert_allclose(flat, dense_pool(blocks, query)[1], atol=1e-6)
    np.testing.assert_allclose(flat.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("weighed", [True, False])
def test_where_there_is_no_pair_nothing_has_weight(rng, weighed):
    """Of row 0 the question has no token, the other picture none either; of row 1 one pair of each block is left."""
    first, second = blocks_of(rng, [(5, 7), (3, 4)])
    query = jnp.asarray(rng.normal(size=(D, 2)), jnp.float32) if weighed else None
    one = [jnp.zeros((B, n), bool).at[1, n - 1].set(True) for n in (5, 7, 3, 4)]
    blocks = [(*first[:4], one[0], one[1].at[0].set(True)), (*second[:4], one[2], one[3])]

    def run(blocks):
        a, b, p, q, *masks = blocks[0]
        return pair_weights(blocks, query), pool_pairs(blocks, query), pool_columns(a, b, p, q, query, *masks, 2)

    weights, pooled, (columns, log_total) = jax.jit(run)(blocks)
    for found in map(np.asarray, weights):
        assert not found[0].any() and np.argwhere(found[1]).tolist() == [[found.shape[1] - 1, found.shape[2] - 1]]
    assert not pooled[0].any() and pooled[1].any()
    assert not columns[0].any() and not columns[1, :-1].any() and columns[1, -1].any()
    assert (log_total[0] == NEVER).all() and (log_total[1, :-1] == NEVER).all() and (log_total[1, -1] > NEVER / 2).all()


@pytest.mark.parametrize("form", ["low_rank", "pool_first"])
@pytest.mark.parametrize("name", ["evc", "ume"])
def test_evc_weighs_all_pairs_alike_and_ume_each_by_itself(rng, name, form):
    sources = make_sources(rng)
    sources[0] = sources[0].replace(mask=jnp.asarray([[True] * 4 + [False], [False] * 5]))
    model = FUSIONS[name](D, form)
    params = random_params(model, sources)
    assert ("query" in params) == (name == "ume")
    found, kept = jax.jit(functools.partial(model.apply, mutable="attention"))({"params": params}, sources)
    np.testing.assert_allclose(found[1], params["norm_out"]["bias"], atol=1e-6)  # of nothing
    ((weights,),) = kept["attention"]["pairs"]
    there = np.asarray(sources[0].mask)[:, :, None] & np.asarray(sources[1].mask)[:, None]
    assert not weights[~there].any() and (weights[there] > 0).all()  # the second row's question is empty
    alike = np.allclose(weights[there], 1 / there.sum(), rtol=1e-5)
    assert alike == (name == "evc")


@pytest.mark.parametrize("name", FUSIONS)
@pytest.mark.parametrize("count", [2, 3])
def test_every_fusion_takes_any_number_of_modalities_and_minds_their_masks(rng, name, count):
    sources = make_sources(rng, count)
    model = FUSIONS[name](D)
    params = random_params(model, sources)
    apply = jax.jit(lambda params, sources: model.apply({"params": params}, sources))
    found = apply(params, sources)
    assert found.shape == (B, D) and np.isfinite(found).all()
    hidden = [s.replace(x=jnp.where(s.mask[..., None], s.x, 100.0)) for s in sources]
    np.testing.assert_allclose(apply(params, hidden), found, atol=1e-5)  # what is masked does not matter
    for m in range(count):  # and every modality does
        other = [s.replace(x=s.x[::-1]) if n == m else s for n, s in enumerate(sources)]
        assert np.abs(apply(params, other) - found).max() > 1e-3
    gradient = jax.jit(jax.grad(lambda params: jnp.sum(model.apply({"params": params}, sources) ** 2)))(params)
    assert all(np.isfinite(leaf).all() and np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient) if leaf.size > 1)


def test_pairs_that_keep_their_tokens(call, rng):
    """x_i + W sum_j w_ij h(i, j), every pair by itself in float64."""
    sources = [
        Encoded(jnp.asarray(rng.normal(size=(B, n, D)), jnp.float32), jnp.asarray(rng.random((B, n)) < 0.7)) for n in (5, 4)
    ]
    model = PairTokens(D, 2, tile=3)
    params = random_params(model, sources)
    found = call(model, "__call__", params, sources)
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    h = []
    for m, s in enumerate(sources):
        h.append(layer_norm(p[f"norm_{m}"], np.asarray(s.x, np.float64)))
    for m, n in ((0, 1), (1, 0)):
        for row in range(B):
            for i in np.flatnonzero(sources[m].mask[row]):
                pooled, others = np.zeros(D), np.flatnonzero(sources[n].mask[row])
                if len(others):
                    a, b = h[m][row, i], h[n][row, others]
                    z = a @ p["left"]["kernel"] + p["left"]["bias"] + b @ p["right"]["kernel"]
                    pairs = np.tanh(z + (a @ p["first"]["kernel"]) * (b @ p["second"]["kernel"]))
                    weights = np.exp(pairs @ p["query"])
                    weights = np.repeat(weights / weights.sum(0), D // 2, axis=1)
                    pooled = (weights * pairs).sum(0)
                wanted = sources[m].x[row, i] + pooled @ p["out"]["kernel"]
                np.testing.assert_allclose(found[m][row, i], wanted, rtol=1e-5, atol=1e-5)


def test_published_formulas_of_the_simple_methods(call, rng):
    sources = [s.replace(pooled=jnp.asarray(rng.normal(size=(B, 4)), jnp.float32)) for s in make_sources(rng)]
    for name, combine in {
        "product": lambda p, v: (
            np.tanh(v[0] @ p["map_0"]["kernel"] + p["map_0"]["bias"])
            * np.tanh(v[1] @ p["map_1"]["kernel"] + p["map_1"]["bias"])
        ),
        "concatenation": lambda p, v: np.concatenate(v, 1) @ p["mix"]["kernel"] + p["mix"]["bias"],
    }.items():
        model = FUSIONS[name](D)
        params = jax.tree.map(lambda x: np.asarray(x, np.float64), random_params(model, sources))
        v = []
        for m, s in enumerate(sources):
            v.append(layer_norm(params[f"norm_{m}"], np.asarray(s.pooled, np.float64)))
        np.testing.assert_allclose(call(model, "__call__", params, sources), combine(params, v), atol=1e-5)


def test_a_gate_adds_the_modalities_own_vectors(call, rng):
    sources = make_sources(rng)
    model = UME(D, gate=True)
    params = random_params(model, sources)
    found = call(model, "__call__", params, sources)
    closed = {**params, "gate": {"kernel": 0 * params["gate"]["kernel"], "bias": jnp.zeros((3, D)).at[0].set(50.0)}}
    plain = call(model.clone(gate=False), "__call__", params, sources)
    np.testing.assert_allclose(call(model, "__call__", closed, sources), plain, atol=1e-5)
    assert np.abs(found - plain).max() > 1e-3


def test_weights_are_handed_out_and_sum_to_one(rng):
    sources = make_sources(rng, 3)
    for form in ("low_rank", "pool_first"):
        model = UME(D, form=form)
        weighed = jax.jit(functools.partial(model.apply, mutable="attention"))
        _, kept = weighed({"params": random_params(model, sources)}, sources)
        (weights,) = kept["attention"]["pairs"]
        assert [w.shape for w in weights] == [(B, 5, 7), (B, 5, 4), (B, 7, 4)]
        np.testing.assert_allclose(sum(np.asarray(w).sum((1, 2)) for w in weights), 1, rtol=1e-5)


def test_mistakes_are_named(rng):
    sources = make_sources(rng)
    for kind, settings, match in (
        (UME, {"form": "full"}, "form='full'"),
        (UME, {"width": 9}, "multiple of groups"),
        (PairFusion, {"weighting": "max"}, "weighting='max'.*mean, attention"),
        (UME, {"weighting": "mean"}, "weighting='mean'.*must be one of attention"),
        (EVC, {"weighting": "attention"}, "weighting='attention'.*must be one of mean"),
    ):
        with pytest.raises(UserError, match=match):
            random_params(kind(**{"width": D, **settings}), sources)
    with pytest.raises(UserError, match="two or more"):
        random_params(FUSIONS["product"](D), sources[:1])


def step_of(model, N, D):
    """(gradient of a sum, shapes of params and sources) of a batch of one with N tokens on both sides."""
    shape = jax.ShapeDtypeStruct
    sources = [Encoded(shape((1, N, D), jnp.float32), shape((1, N), bool)) for _ in range(2)]
    params = jax.eval_shape(lambda s: model.init(jax.random.PRNGKey(0), s)["params"], sources)
    return jax.grad(lambda params, sources: model.apply({"params": params}, sources).sum()), params, sources


def counted(model, N, D):
    """Multiply-adds of matrix products, loops unrolled."""
    return count_flops(*step_of(model, N, D))


def compiled(model, N, D):
    """All operations of the compiled program, tanh and sums included; one tile, for XLA counts a loop's body once."""
    gradient, params, sources = step_of(model.clone(tile=N), N, D)
    return jax.jit(gradient).lower(params, sources).compile().cost_analysis()["flops"]


@pytest.mark.parametrize("count", [counted, pytest.param(compiled, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", [EVC, UME])
def test_operations_grow_with_n_squared_d(kind, count):
    """Where N = D = 128 a term N^2 D^2 would be nearly all (the naive formula: 24 N^2 D^2): it has no part."""
    found = {(N, D): count(kind(D, groups=1), N, D) for N in (32, 64, 128) for D in (32, 64, 128)}
    terms = np.array([[n * n * d, n * d * d, n * d, n * n, d * d, n * n * d * d] for n, d in found], float)
    total = np.array(list(found.values()), float)
    coefficients, *_ = np.linalg.lstsq(terms / total[:, None], np.ones(len(total)), rcond=None)
    shares = terms * coefficients / total[:, None]
    assert np.abs(shares.sum(1) - 1).max() < 0.02, shares
    assert np.abs(shares[:, -1]).max() < 0.05 and coefficients[0] > 2, shares


def sizes(jaxpr):
    """Elements of every array that a program makes, inner programs included."""
    for equation in jaxpr.eqns:
        yield from (variable.aval.size for variable in equation.outvars)
        for inner in equation.params.values():
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from sizes(inner)


def largest(model, rows, columns):
    """Elements of the largest array of the gradient for the parameters; rows, columns: (B, N) and (B, M)."""
    shape = jax.ShapeDtypeStruct
    sources = [Encoded(shape((*size, model.width), jnp.float32), shape(size, bool)) for size in (rows, columns)]
    params = jax.eval_shape(lambda s: model.init(jax.random.PRNGKey(0), s)["params"], sources)

    def total(params, sources):
        return sum(y.sum() for y in jax.tree.leaves(model.apply({"params": params}, sources)))

    return max(sizes(jax.make_jaxpr(jax.grad(total))(params, sources).jaxpr))


@pytest.mark.parametrize("kind", [EVC, UME, PairTokens])
def test_a_tile_is_as_wide_as_it_is_told(kind):
    for tile in (5, 16):
        assert largest(kind(16, tile=tile), (2, 64), (2, 80)) == 2 * (80 if kind is PairTokens else 64) * tile * 16


@pytest.mark.parametrize("name", TILE)
@pytest.mark.parametrize("kind", [EVC, UME, PairTokens])
def test_by_default_no_array_of_all_pairs_is_made(monkeypatch, kind, name):
    """The largest is a tile that keeps to the platform's measure, and makes use of it."""
    monkeypatch.setattr(pairing, "platform", lambda: name)
    rows, width = {"cpu": (4, 512), "gpu": (16, 1024), "tpu": (16, 1024)}[name], 32
    found = largest(kind(width), rows, rows)
    assert found <= math.prod(rows) * rows[1] * width / 16 and TILE[name] / 2 < found <= TILE[name]
    assert [tile_of(TILE[name], 9, 2), tile_of(1, 9, 2)] == [1, 9]  # at least one column, and not more than there are


def test_training_memory_is_linear_in_the_tokens():
    """Temporaries of the compiled gradient, D = 32: with four times the tokens four times the memory, not sixteen."""
    found = {}
    for N in (64, 128, 256, 512):
        gradient, params, sources = step_of(UME(32, groups=1, tile=8), N, 32)
        found[N] = jax.jit(gradient).lower(params, sources).compile().memory_analysis().temp_size_in_bytes
    growth = [found[2 * N] / found[N] for N in (64, 128, 256)]
    assert max(growth) < 2.2, found
    assert found[512] < 512 * 512 * 32 * 4 / 4  # a quarter of one tensor of all pairs

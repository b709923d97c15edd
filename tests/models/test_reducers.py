"""Fewer vectors by their relations (claim 3): what holds for every reducer, and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xmodal_jax.models.reducers import REDUCERS, masked_softmax, pool

B, N, D, K = 3, 9, 8, 4
LEARNED = ("relation", "slots")


@pytest.fixture
def x(rng):
    return rng.normal(size=(B, N, D)).astype(np.float32)


@pytest.fixture
def mask():
    """Row 0 whole, row 1 with padding, row 2 empty."""
    return jnp.arange(N)[None] < jnp.array([[N], [5], [0]])


@pytest.fixture(params=REDUCERS)
def reducer(request, make_params, x, mask):
    """(name, function of (x, mask))."""
    module = REDUCERS[request.param](K)
    params = make_params(module, x, mask)
    return request.param, jax.jit(lambda x, mask: module.apply({"params": params}, x, mask))


def close(ours, theirs, tolerance=1e-5):
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=tolerance, atol=tolerance)


def test_claim_3_rows_of_the_assignment_sum_to_one_over_what_is_there(reducer, x, mask):
    name, reduce = reducer
    out = reduce(x, mask)
    count = N if name == "none" else K
    assert out.x.shape == (B, count, D) and out.assignment.shape == (B, count, N) and out.mask.shape == (B, count)
    there = np.asarray(out.mask)
    assert there[0].all() and there[1].any() and not there[2].any()
    close(np.asarray(out.assignment).sum(-1)[there], 1)
    assert (np.asarray(out.assignment) >= 0).all() and np.isfinite(out.x).all()
    assert not np.asarray(out.assignment)[1, there[1]][:, 5:].any(), "padding belongs to no vector"
    if out.relation is not None:
        relation = np.asarray(out.relation)
        assert relation.shape in ((B, N, N), (B, K, K)) and np.isfinite(relation).all()
        if name in LEARNED:
            close(relation[0].sum(-1), 1)


def test_claim_3_permuting_the_inputs_permutes_only_the_columns_of_the_assignment(reducer, x, mask, rng):
    name, reduce = reducer
    if name == "merge":
        pytest.skip("bipartite matching pairs even with odd places: the merged tokens depend on the order")
    order = rng.permutation(N)
    one, other = reduce(x, mask), reduce(x[:, order], mask[:, order])
    rows = order if name == "none" else np.arange(K)  # the identity keeps the inputs' own order
    close(other.x[:2], np.asarray(one.x)[:2][:, rows], 1e-4)
    close(other.assignment[:2], np.asarray(one.assignment)[:2][:, rows][:, :, order], 1e-4)


def test_claim_3_masked_inputs_have_no_influence(reducer, x, mask, rng):
    _, reduce = reducer
    noisy = np.where(np.asarray(mask)[..., None], x, 10 * rng.normal(size=x.shape)).astype(np.float32)
    one, other = reduce(x, mask), reduce(noisy, mask)
    there = np.asarray(one.mask)
    np.testing.assert_array_equal(there, other.mask)
    close(np.asarray(other.x)[there], np.asarray(one.x)[there], 1e-4)
    close(np.asarray(other.assignment)[there], np.asarray(one.assignment)[there], 1e-4)


def test_claim_3_vectors_are_the_pooled_inputs(reducer, x, mask):
    name, reduce = reducer
    if name == "slots":
        pytest.skip("slots are recurrent states, not averages")
    out = reduce(x, mask)
    there = np.asarray(out.mask)
    expected = np.einsum("bkn,bnd->bkd", np.asarray(out.assignment, np.float64), x.astype(np.float64))
    close(np.asarray(out.x)[there], expected[there])


def test_claim_3_pooling_by_the_identity_is_the_identity(x):
    close(pool(jnp.broadcast_to(jnp.eye(N), (B, N, N)), x), x)


@pytest.mark.parametrize("slots", [N, N + 3])
def test_claim_3_merging_nothing_is_the_identity(x, slots):
    out = REDUCERS["merge"](slots).apply({}, x, np.ones((B, N), bool))
    close(out.x, x)
    close(out.assignment, np.broadcast_to(np.eye(N), (B, N, N)))


def test_claim_3_merging_joins_what_is_alike(rng):
    kinds = rng.normal(size=(2, D)).astype(np.float32)
    pattern = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    x = kinds[pattern][None] * rng.uniform(0.5, 2, (1, 8, 1)).astype(np.float32)
    out = REDUCERS["merge"](4).apply({}, x, np.ones((1, 8), bool))
    groups = np.asarray(out.assignment[0]) > 0
    assert out.x.shape == (1, 4, D) and groups.sum() == 8 and (groups.sum(0) == 1).all(), "each input goes to one vector"
    assert all(len(set(pattern[row])) == 1 for row in groups), "only like inputs are joined"


def test_claim_3_relation_formula(rng, x, mask, make_params, call):
    module = REDUCERS["relation"](K, out_width=6)
    params = make_params(module, x, mask)
    out = call(module, "__call__", params, x, mask)
    p, kept = jax.tree.map(lambda a: np.asarray(a, np.float64), params), 5  # row 1: the first five inputs are there
    for row, count in ((0, N), (1, kept)):
        given = x[row, :count].astype(np.float64)

        def dense(name, y):
            return y @ p[name]["kernel"] + p[name]["bias"]

        def softmax(scores):
            e = np.exp(scores - scores.max(-1, keepdims=True))
            return e / e.sum(-1, keepdims=True)

        relation = softmax(dense("q", given) @ dense("k", given).T / np.sqrt(D))  # [N, N]
        both = np.concatenate([given, relation @ given], axis=-1)
        normal = (both - both.mean(-1, keepdims=True)) / np.sqrt(both.var(-1, keepdims=True) + 1e-6)
        hidden = dense("up", normal * p["norm"]["scale"] + p["norm"]["bias"])
        hidden = 0.5 * hidden * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
        assignment = softmax(dense("slots", hidden).T)  # [K, N]
        close(out.relation[row, :count, :count], relation, 1e-4)
        close(out.assignment[row, :, :count], assignment, 1e-4)
        close(out.x[row], dense("out", assignment @ given), 1e-4)


@pytest.mark.parametrize("name", REDUCERS)
def test_claim_3_dimension_may_also_mean_the_width(name, x, mask, make_params):
    module = REDUCERS[name](K, out_width=5)
    params = make_params(module, x, mask)
    out = jax.eval_shape(lambda x: module.apply({"params": params}, x, mask), x)
    assert out.x.shape == (B, N if name == "none" else K, 5)
    close(params["out"]["kernel"].shape, (D, 5))


@pytest.mark.parametrize("name", REDUCERS)
def test_gradients_are_finite_also_without_any_input(name, x, mask, make_params):
    module = REDUCERS[name](K)
    params = make_params(module, x, mask)

    def loss(params, x):
        out = module.apply({"params": params}, x, mask)
        return jnp.sum(jnp.where(out.mask[..., None], out.x, 0) ** 2)

    own, inner = jax.jit(jax.grad(loss, (0, 1)))(params, x)
    leaves = jax.tree.leaves((own, inner))
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert np.asarray(inner)[0].any() and not np.asarray(inner)[2].any()


def test_masked_softmax_is_float32_and_zero_where_nothing_is_allowed(rng):
    scores = rng.normal(size=(2, 6)).astype(jnp.bfloat16)
    mask = np.array([[1, 1, 0, 1, 0, 0], [0] * 6], bool)
    weights = masked_softmax(scores, mask)
    e = np.exp(scores.astype(np.float64)) * mask
    assert weights.dtype == jnp.float32
    close(weights, np.stack([e[0] / e[0].sum(), np.zeros(6)]))

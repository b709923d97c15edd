"""Weighted sums over all pairs of tokens of h(i, j) = tanh(a_i + b_j + p_i o q_j), without ever holding all h(i, j).

As in FlashAttention (Rabe and Staats, 2021; Dao et al., 2022) the pairs are met tile by tile under an online softmax, and once
more in the backward pass: O(N M D) operations, O((N + M) D) memory. Letters: B batch, N rows i, M columns j, t columns of a
tile, D width, G groups of D / G channels, each with its own weights over the pairs.
"""

import functools
import math

import jax
import jax.numpy as jnp

from xmodal_jax.models.platform import platform

NEVER = -1e30
TILE = {"cpu": 2**18, "gpu": 2**25, "tpu": 2**24}  # elements of a tile of h: some MiB stay in a CPU's cache


def tile_of(rows, columns, width):
    """t: so many columns that a tile of `rows` (B N) x t x `width` keeps to the platform's measure, at least one."""
    return max(1, min(columns, TILE[platform()] // max(1, rows * width)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(7,))
def pool_columns(a, b, p, q, query, row_mask, column_mask, tile):
    """For every row i and group g, h(i, j) summed over j with weights softmax_j s(i, j)_g, s(i, j) = query^T h(i, j).

    Args:
      a, p: [B, N, D]; b, q: [B, M, D]; query: [D, G], or None: all pairs weigh the same, G = 1.
      row_mask bool [B, N], column_mask bool [B, M]; tile: t.
    Returns:
      (float32 [B, N, D], log of the sum over j of exp s, float32 [B, N, G]: NEVER in rows without pairs, which are 0).
    """
    return _forward(a, b, p, q, query, row_mask, column_mask, tile)[0]


def tiles(x, tile):
    """[B, M, ...] -> [M / t, B, t, ...], padded with zeros (False)."""
    x = jnp.pad(x, [(0, 0), (0, -x.shape[1] % tile)] + [(0, 0)] * (x.ndim - 2))
    return jnp.moveaxis(x.reshape(x.shape[0], -1, tile, *x.shape[2:]), 1, 0)


def untiled(x, columns):
    """The inverse of `tiles`: [M / t, B, t, ...] -> [B, M, ...]."""
    x = jnp.moveaxis(x, 0, 1)
    return x.reshape(x.shape[0], -1, *x.shape[3:])[:, :columns]


def groups_of(query):
    """G."""
    return 1 if query is None else query.shape[1]


def combined(a, b, p, q):
    """h of rows a, p [B, N, D] and the columns b, q [B, t, D] of a tile: [B, N, t, D]."""
    return jnp.tanh(a[:, :, None] + b[:, None] + p[:, :, None] * q[:, None])


def scored(h, query, row_mask, columns):
    """s [B, N, t, G] float32, NEVER where row or column is masked."""
    s = 0.0
    if query is not None:
        s = jnp.einsum("bntd,dg->bntg", h, query.astype(h.dtype), preferred_element_type=jnp.float32)
    return jnp.where((row_mask[:, :, None] & columns[:, None])[..., None], s, NEVER)


def grouped(x, groups):
    """[..., D] -> [..., G, D / G]."""
    return x.reshape(*x.shape[:-1], groups, -1)


def _forward(a, b, p, q, query, row_mask, column_mask, tile):
    groups = groups_of(query)

    def step(carry, columns):
        most, total, pooled = carry  # [B, N, G], [B, N, G], [B, N, G, d]
        b, q, mask = columns
        h = combined(a, b, p, q)
        s = scored(h, query, row_mask, mask)
        new = jnp.maximum(most, s.max(2))
        weights = jnp.exp(s - new[:, :, None]) * (s > NEVER / 2)  # [B, N, t, G]
        shrink = jnp.exp(most - new)
        found = jnp.einsum("bntg,bntgd->bngd", weights.astype(h.dtype), grouped(h, groups), preferred_element_type=jnp.float32)
        return (new, total * shrink + weights.sum(2), pooled * shrink[..., None] + found), None

    B, N, D = a.shape
    start = (
        jnp.full((B, N, groups), NEVER, jnp.float32), jnp.zeros((B, N, groups), jnp.float32),
        jnp.zeros((B, N, groups, D // groups), jnp.float32),
    )  # fmt: skip
    (most, total, pooled), _ = jax.lax.scan(step, start, (tiles(b, tile), tiles(q, tile), tiles(column_mask, tile)))
    there = total > 0
    total = jnp.where(there, total, 1)
    pooled = (pooled / total[..., None]).reshape(B, N, D)
    log_total = jnp.where(there, most + jnp.log(total), NEVER)
    return (pooled, log_total), (a, b, p, q, query, row_mask, column_mask, pooled, log_total)


def _backward(tile, saved, gradients):
    a, b, p, q, query, row_mask, column_mask, pooled, log_total = saved
    d_pooled, d_log_total = gradients  # [B, N, D], [B, N, G]
    groups = groups_of(query)
    rest = d_log_total - grouped(d_pooled * pooled, groups).sum(-1)  # [B, N, G]
    dy = d_pooled.astype(a.dtype)

    def step(carry, columns):
        da, dp, dquery = carry
        b, q, mask = (jnp.moveaxis(x, 1, 0) for x in columns)  # [t, B, D], [t, B, D], [t, B]
        h = jnp.tanh(a + b[:, :, None] + p * q[:, :, None])  # [t, B, N, D]
        s = 0.0
        if query is not None:
            s = jnp.einsum("tbnd,dg->tbng", h, query.astype(h.dtype), preferred_element_type=jnp.float32)
        weights = jnp.where(row_mask[..., None] & mask[..., None, None], jnp.exp(s - log_total), 0)  # [t, B, N, G]
        dh = (grouped(dy, groups) * weights.astype(h.dtype)[..., None]).reshape(h.shape)
        if query is not None:
            along = grouped(h * dy, groups).sum(-1, dtype=jnp.float32)
            ds = (weights * (along + rest)).astype(h.dtype)
            dh = dh + jnp.einsum("tbng,dg->tbnd", ds, query.astype(h.dtype))
            dquery = dquery + jnp.einsum("tbnd,tbng->dg", h, ds, preferred_element_type=jnp.float32)
        dz = dh * (1 - h * h)
        carry = da + over_columns(dz), dp + over_columns(dz * q[:, :, None]), dquery
        return carry, (over_rows(dz), over_rows(dz * p))

    start = tuple(None if x is None else jnp.zeros(x.shape, jnp.float32) for x in (a, p, query))
    (da, dp, dquery), (db, dq) = jax.lax.scan(step, start, (tiles(b, tile), tiles(q, tile), tiles(column_mask, tile)))
    M = b.shape[1]
    return (
        da.astype(a.dtype), untiled(db, M).astype(b.dtype), dp.astype(p.dtype), untiled(dq, M).astype(q.dtype),
        None if query is None else dquery.astype(query.dtype), None, None,
    )  # fmt: skip


def over_columns(x):
    """[t, B, N, D] summed over t as a product with ones, float32: on CPU several times as fast as a sum."""
    if len(x) == 1:
        return x[0].astype(jnp.float32)
    ones = jnp.ones((1, len(x)), x.dtype)
    return jnp.matmul(ones, x.reshape(len(x), -1), preferred_element_type=jnp.float32).reshape(x.shape[1:])


def over_rows(x):
    """[t, B, N, D] summed over N, likewise: [B, t, D]."""
    ones = jnp.ones((*x.shape[:2], 1, x.shape[2]), x.dtype)
    return jnp.moveaxis(jnp.matmul(ones, x, preferred_element_type=jnp.float32)[:, :, 0], 0, 1)


pool_columns.defvjp(_forward, _backward)


def pool_pairs(blocks, query, tile=0):
    """The pairs of several blocks (one for every two modalities) summed with weights softmax over all of them.

        x_g = sum_ij w_ijg h(i, j)_g,   w_g = softmax over all pairs of all blocks of s(i, j)_g
    Args:
      blocks: list of (a, b, p, q, row_mask, column_mask) as in `pool_columns`; query: [D, G], or None: the mean.
      tile: columns at a time; 0: `tile_of`.
    Returns:
      float32 [B, D], 0 where there is no pair.
    """
    rows, totals = [], []
    for a, b, p, q, row_mask, column_mask in blocks:
        if a.shape[1] > b.shape[1]:  # the sum is the same either way; the tiles are smaller by the shorter side
            a, b, p, q, row_mask, column_mask = b, a, q, p, column_mask, row_mask
        t = tile or tile_of(math.prod(a.shape[:2]), b.shape[1], a.shape[2])
        pooled, log_total = pool_columns(a, b, p, q, query, row_mask, column_mask, t)
        rows.append(pooled)
        totals.append(log_total)
    return weighted_rows(jnp.concatenate(rows, 1), jnp.concatenate(totals, 1))


def weighted_rows(pooled, log_total):
    """[B, N, D] summed over N with weights softmax of log_total [B, N, G]: [B, D]; 0 where all of them are NEVER."""
    weights = jax.nn.softmax(log_total, axis=1) * (log_total > NEVER / 2)
    B, _, D = pooled.shape
    return jnp.einsum("bng,bngd->bgd", weights, grouped(pooled, log_total.shape[2])).reshape(B, D)


def pair_weights(blocks, query):
    """The weights of `pool_pairs`, mean over groups: for every block float32 [B, N, M]; together they sum to 1."""

    def scores(block):
        a, b, p, q, row_mask, column_mask = block

        def column(inputs):
            b, q, mask = (x[:, None] for x in inputs)  # [B, 1, D], [B, 1, D], [B, 1]
            return scored(combined(a, b, p, q), query, row_mask, mask)[:, :, 0]

        found = jax.lax.map(column, tuple(jnp.moveaxis(x, 1, 0) for x in (b, q, column_mask)))  # [M, B, N, G]
        return jnp.moveaxis(found, 0, 2)

    found = [scores(block) for block in blocks]
    flat = jnp.concatenate([s.reshape(s.shape[0], -1, s.shape[-1]) for s in found], 1)
    weights = (jax.nn.softmax(flat, axis=1) * (flat > NEVER / 2)).mean(-1)  # [B, pairs]
    ends = [sum(s.shape[1] * s.shape[2] for s in found[: i + 1]) for i in range(len(found) - 1)]
    parts = jnp.split(weights, ends, axis=1)
    return [part.reshape(s.shape[:3]) for part, s in zip(parts, found, strict=True)]

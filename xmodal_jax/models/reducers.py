"""Fewer vectors by the relations among them (claim 3), behind one interface.

`reduce(X [B, N, D], mask [B, N]) -> Reduced(Z [B, K, D'], mask [B, K], assignment [B, K, N], relation)`. Rows of the
assignment sum to 1; permuting the N inputs permutes nothing but its columns (but for `merge`, which pairs neighbours).
"""

from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp

from xmodal_jax.models.dense import Dense


@flax.struct.dataclass
class Reduced:
    """x [B, K, D'], mask bool [B, K], assignment [B, K, N], relation [B, N, N] or [B, K, K] (None: not computed)."""

    x: Any
    mask: Any
    assignment: Any
    relation: Any = None


def masked_softmax(scores, mask):
    """Softmax over the last axis in float32; masked places get 0, an all-masked row is all 0."""
    weights = jax.nn.softmax(jnp.where(mask, scores.astype(jnp.float32), -1e30), axis=-1)
    return jnp.where(mask, weights, 0.0)


def pool(assignment, x):
    """Z = S X: [B, K, N] x [B, N, D] -> [B, K, D]."""
    return jnp.einsum("bkn,bnd->bkd", assignment.astype(x.dtype), x)


class RelationReducer(nn.Module):
    """R = softmax(Q K^T / sqrt d); S = softmax_N(MLP(LayerNorm([X ; R X]))^T); Z = S X, optionally projected to D'.

    Attributes: slots K; out_width D' (0: keep D).
    """

    slots: int = 16
    out_width: int = 0
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, mask):
        width = x.shape[-1]

        def dense(size, name):
            return Dense(size, dtype=self.dtype, name=name)

        q, k = dense(width, "q")(x), dense(width, "k")(x)
        relation = masked_softmax(jnp.einsum("bnd,bmd->bnm", q, k) * width**-0.5, mask[:, None])  # [B, N, N]
        related = jnp.concatenate([x, pool(relation, x)], axis=-1)  # [B, N, 2 D]
        hidden = nn.gelu(dense(width, "up")(nn.LayerNorm(dtype=self.dtype, name="norm")(related)))
        # Sharp from the start: with flat scores every slot would be the same mean of all inputs, and learn very slowly.
        sharp = nn.initializers.variance_scaling(100.0, "fan_in", "truncated_normal")
        scores = Dense(self.slots, kernel_init=sharp, dtype=self.dtype, name="slots")(hidden)  # [B, N, K]
        assignment = masked_softmax(scores.swapaxes(1, 2), mask[:, None])  # [B, K, N]
        z = pool(assignment, x)
        if self.out_width:
            z = dense(self.out_width, "out")(z)
        return Reduced(z, jnp.broadcast_to(mask.any(1)[:, None], z.shape[:2]), assignment, relation)


class SlotReducer(nn.Module):
    """Slot attention (Locatello et al., 2020, algorithm 1) from learned slots; attention among the slots is the relation."""

    slots: int = 16
    out_width: int = 0
    iterations: int = 3
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, mask):
        batch, _, width = x.shape

        def norm(name):
            return nn.LayerNorm(dtype=self.dtype, name=name)

        inputs = norm("norm_inputs")(x)
        k = Dense(width, use_bias=False, dtype=self.dtype, name="k")(inputs)
        v = Dense(width, use_bias=False, dtype=self.dtype, name="v")(inputs)
        to_q = Dense(width, use_bias=False, dtype=self.dtype, name="q")
        cell, norm_slots, norm_mlp = (
            nn.GRUCell(width, dtype=self.dtype, name="gru"),
            norm("norm_slots"),
            norm("norm_mlp"),
        )
        up, down = Dense(2 * width, dtype=self.dtype, name="up"), Dense(width, dtype=self.dtype, name="down")
        start = self.param("slots", nn.initializers.normal(1.0), (self.slots, width))
        z = jnp.broadcast_to(start.astype(x.dtype), (batch, self.slots, width))
        for _ in range(self.iterations):
            scores = jnp.einsum("bkd,bnd->bkn", to_q(norm_slots(z)), k).astype(jnp.float32) * width**-0.5
            share = jax.nn.softmax(scores, axis=1) * mask[:, None] + 1e-8 * mask[:, None]  # slots compete for each input
            assignment = share / jnp.maximum(share.sum(-1, keepdims=True), 1e-8)  # [B, K, N]
            z, _ = cell(z, pool(assignment, v))
            z = z + down(nn.gelu(up(norm_mlp(z))))
        kept = jnp.broadcast_to(mask.any(1)[:, None], z.shape[:2])
        q, k = jnp.split(Dense(2 * width, dtype=self.dtype, name="relate")(norm("norm_relate")(z)), 2, -1)
        relation = masked_softmax(jnp.einsum("bkd,bjd->bkj", q, k) * width**-0.5, kept[:, None])  # [B, K, K]
        z = z + pool(relation, z)
        if self.out_width:
            z = Dense(self.out_width, dtype=self.dtype, name="out")(z)
        return Reduced(z, kept, assignment, relation)


class MergeReducer(nn.Module):
    """Similarity token merging (Bolya et al., 2023): bipartite soft matching until K tokens are left. No parameters.

    Attributes: slots K; the input itself where K >= N.
    """

    slots: int = 16
    out_width: int = 0
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, mask):
        batch, count, _ = x.shape
        size = mask.astype(jnp.float32)  # a token that holds no input weighs nothing
        members = jnp.broadcast_to(jnp.eye(count), (batch, count, count)) * mask[:, None]  # [B, N, N]
        z = x.astype(jnp.float32)
        while z.shape[1] > self.slots:
            z, size, members = merge(z, size, members, min(z.shape[1] - self.slots, z.shape[1] // 2))
        assignment = members / jnp.maximum(members.sum(-1, keepdims=True), 1.0)
        z = z.astype(x.dtype)
        if self.out_width:
            z = Dense(self.out_width, dtype=self.dtype, name="out")(z)
        unit = z / jnp.maximum(jnp.linalg.norm(z, axis=-1, keepdims=True), 1e-6)
        return Reduced(z, size > 0, assignment, jnp.einsum("bkd,bjd->bkj", unit, unit))


def merge(z, size, members, count):
    """Merge the `count` most similar (even, odd) pairs. z [B, N, D], size [B, N], members [B, N, M] -> N - count of each."""

    def take(array, index):  # rows of [B, n, ...] by index [B, m]
        return jnp.take_along_axis(array, index.reshape(*index.shape, *[1] * (array.ndim - 2)), axis=1)

    even, odd = (jnp.arange(start, z.shape[1], 2) for start in (0, 1))
    unit = z / jnp.maximum(jnp.linalg.norm(z, axis=-1, keepdims=True), 1e-6)
    alike = jnp.einsum("bid,bjd->bij", unit[:, even], unit[:, odd])  # [B, even, odd]
    alike = jnp.where(size[:, even, None] > 0, jnp.where(size[:, None, odd] > 0, alike, -2.0), 2.0)  # empty ones go first
    partner, best = alike.argmax(-1), alike.max(-1)
    order = jnp.argsort(-best, axis=-1)
    gone, kept = order[:, :count], jnp.sort(order[:, count:], axis=-1)
    onto = jax.nn.one_hot(take(partner, gone), len(odd))  # [B, count, odd]

    def combine(array):  # kept even ones, then odd ones with what was merged into them
        joined = array[:, odd] + jnp.einsum("bcj,bc...->bj...", onto, take(array[:, even], gone))
        return jnp.concatenate([take(array[:, even], kept), joined], axis=1)

    total = combine(size)
    mean = combine(z * size[..., None]) / jnp.maximum(total, 1e-6)[..., None]
    single = combine(z)  # an empty token keeps its vector: zeros would break the cosine
    return jnp.where((total > 0)[..., None], mean, single), total, combine(members)


class NoReducer(nn.Module):
    """The identity: K = N, S = I."""

    slots: int = 0
    out_width: int = 0
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, mask):
        eye = jnp.broadcast_to(jnp.eye(x.shape[1]), (x.shape[0], x.shape[1], x.shape[1]))
        if self.out_width:
            x = Dense(self.out_width, dtype=self.dtype, name="out")(x)
        return Reduced(x, mask, eye)


REDUCERS = {"relation": RelationReducer, "slots": SlotReducer, "merge": MergeReducer, "none": NoReducer}

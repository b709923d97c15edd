"""Multi-head attention: one projection for q, k and v, head-major, with an optional key-value cache.

Letters: B batch, N queries, M keys, D width, H heads, d width of a head.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmodal_jax.models import flash
from xmodal_jax.models.attend import attention_weights
from xmodal_jax.models.dense import Dense


@jax.custom_vjp
def heads_first(y):
    """Projections side by side [B, N, P, H, d] -> P x [B, H, N, d]; the gradient puts them together in one pass."""
    return tuple(jnp.einsum("bnhd->bhnd", y[:, :, part]) for part in range(y.shape[2]))


def _side_by_side(_, grads):
    return (jnp.stack([jnp.einsum("bhnd->bnhd", grad) for grad in grads], axis=2),)


heads_first.defvjp(lambda y: (heads_first(y), None), _side_by_side)


def fold(q, rows):
    """[rows * r, H, N, d] -> [rows, H, r N, d]: queries of consecutive rows that share keys, without copies of the keys."""
    if len(q) == rows:
        return q
    return jnp.einsum("brhnd->bhrnd", q.reshape(rows, -1, *q.shape[1:])).reshape(rows, q.shape[1], -1, q.shape[3])


def unfold(y, rows):
    """The inverse of `fold`: [B, H, r N, d] -> [rows, H, N, d]."""
    if len(y) == rows:
        return y
    split = y.reshape(*y.shape[:2], rows // len(y), -1, y.shape[3])
    return jnp.einsum("bhrnd->brhnd", split).reshape(rows, y.shape[1], -1, y.shape[3])


def project_context(kernel, bias, context, dtype):
    """k and v of a context for every cross-attention of a stack, computed once for a whole search.

    Args:
      kernel [L, D, 2, H, d], bias [L, 2, H, d] or None: of the projections `cross/kv`; context [B, M, D].
    Returns:
      {"k", "v": [L, B, H, M, d]}.
    """
    y = jnp.einsum("bmd,ldphe->lpbhme", context.astype(dtype), kernel.astype(dtype))
    if bias is not None:
        y = y + bias.astype(dtype)[:, :, None, :, None]  # [L, 2, 1, H, 1, d]
    return {"k": y[:, 0], "v": y[:, 1]}


class Attention(nn.Module):
    """Self-attention (context None) or cross-attention; with `cache` it attends to what was decoded so far.

    `apply(..., mutable="attention")` also returns its weights [B, H, N, M], "weights".

    Attributes: width D, heads H, dtype of the computation; head_width d (0: D / H); use_bias: of the projections; scale: of
    the scores (None: 1 / sqrt d); kernel: "plain", "flash" or "auto", see `flash.attention`; qk_width: of a head's q and k,
    where vectors of them were pruned (0: d), which then have a projection apart from that of v.
    """

    width: int
    heads: int
    dtype: str = "float32"
    head_width: int = 0
    use_bias: bool = True
    scale: float | None = None
    kernel: str = "auto"
    qk_width: int = 0

    @nn.compact
    def __call__(self, x, mask=None, context=None, cache=None, index=None, relation=None):
        """x [B, N, D], context [B, M, D] -> (y [B, N, D], cache).

        context may be the k and v that it was projected to, {"k", "v": [B, H, M, d]} (`project_context`), and then x may have
        several rows for each of its rows: the hypotheses of a search.
        cache: {"k", "v": [B, H, S, d]} to be written at positions index .. index + N (self-attention only).
        relation: what `relate` makes a bias of the scores from.
        """
        size = self.head_width or self.width // self.heads

        def project(inputs, parts, name, size=size):  # [B, N, D] -> parts x [B, H, N, d]
            y = Dense((parts, self.heads, size), use_bias=self.use_bias, dtype=self.dtype, name=name)(inputs)
            return heads_first(y)

        if context is None and self.qk_width:
            (q, k), (v,) = project(x, 2, "qk", self.qk_width), project(x, 1, "v")
        elif context is None:
            q, k, v = project(x, 3, "qkv")
        elif isinstance(context, dict):
            (q,), (k, v) = project(x, 1, "q"), (context["k"], context["v"])
        else:
            (q,), (k, v) = project(x, 1, "q"), project(context, 2, "kv")
        if cache is not None:
            k = jnp.pad(k, ((0, 0),) * 3 + ((0, cache["k"].shape[-1] - k.shape[-1]),))  # layers share a cache, the widest's
            k = jax.lax.dynamic_update_slice_in_dim(cache["k"], k.astype(cache["k"].dtype), index, axis=2)
            v = jax.lax.dynamic_update_slice_in_dim(cache["v"], v.astype(cache["v"].dtype), index, axis=2)
            cache = {"k": k, "v": v}
            k = k[..., : q.shape[-1]]
        bias, scale = self.relate(q, k, relation)
        if self.is_mutable_collection("attention"):
            self.sow("attention", "weights", attention_weights(fold(q, len(k)), k, mask, bias, scale))  # [B, H, N, M]
        y = unfold(flash.attention(self.kernel, fold(q, len(k)), k, v, mask, bias, scale), len(q))
        y = jnp.einsum("bhnd->bnhd", y).reshape(*x.shape[:-1], self.heads * size)
        return Dense(x.shape[-1], use_bias=self.use_bias, dtype=self.dtype, name="out")(y), cache

    def relate(self, q, k, relation):
        """-> (bias of the scores, broadcastable to [B, H, N, M], or None; scale). Here the relation is that bias."""
        return relation, self.scale


class TableAttention(Attention):
    """Self-attention with a learned bias a head and relation: BEiT's relative positions (Bao et al., 2022, section 2.2).

    Its relation is int32 [N, M], the row of the table for each pair of positions.
    Attributes: relations: rows of the table.
    """

    relations: int = 0

    def relate(self, q, k, relation):
        table = self.param("relation_table", nn.initializers.zeros, (self.relations, self.heads))
        return jnp.moveaxis(table[relation], -1, 0), self.scale  # [H, N, M]

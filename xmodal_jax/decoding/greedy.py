"""Greedy generation over a key-value cache: one compiled program per (batch size, prefix, length)."""

import functools

import jax
import jax.numpy as jnp

from xmodal_jax.data.bytes import END, PAD


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def greedy(model, params, fused, prefix, length):
    """The likeliest next byte, again and again, until the end mark.

    Args:
      fused: what `fuse` returned for B rows; prefix: tuple of ids that every row starts with (PAD first).
      length: bytes to write at most.
    Returns:
      ids int32 [B, length] (PAD after the end mark) and the sum of their log-probabilities, float32 [B].
    """
    variables = {"params": params}
    rows, given = fused.mask.shape[0], len(prefix)
    cache = model.apply(variables, rows, given + length, method="cache")
    ahead = jnp.array([*prefix, *[PAD] * length], jnp.int32)

    def write(carry, position):
        ids, cache, done, total = carry
        ids = jnp.where(position < given, ahead[position], ids)
        logits, cache = model.apply(variables, ids[:, None], fused, cache, position, method="decode")
        logp = jax.nn.log_softmax(logits[:, 0])  # [B, V]
        counts = (position >= given - 1) & ~done
        ids = jnp.where(counts, logp.argmax(-1), PAD).astype(jnp.int32)
        total = total + jnp.where(counts, logp.max(-1), 0.0)
        return (ids, cache, done | (counts & (ids == END)), total), ids

    carry = (jnp.zeros(rows, jnp.int32), cache, jnp.zeros(rows, bool), jnp.zeros(rows))
    (_, _, _, total), ids = jax.lax.scan(write, carry, jnp.arange(given + length - 1))
    return ids.T[:, given - 1 :], total


@functools.partial(jax.jit, static_argnums=0)
def log_likelihood(model, params, fused, inputs, target, weights):
    """Sum of weights * log p(target) per row: inputs, target int32 and weights [B * C, S] -> float32 [B * C].

    Each of the B fused rows answers for C consecutive candidates.
    """
    copies = inputs.shape[0] // fused.mask.shape[0]
    fused = jax.tree.map(lambda x: jnp.repeat(x, copies, axis=0), fused)
    logits, _ = model.apply({"params": params}, inputs, fused, method="decode")
    logp = jnp.take_along_axis(jax.nn.log_softmax(logits), target[..., None], axis=-1)[..., 0]  # [B * C, S]
    return jnp.sum(logp * weights, axis=-1)

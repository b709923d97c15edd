"""What the crossmodal byte model writes, and how likely it finds a text: one compiled program a shape."""

import functools

import jax
import jax.numpy as jnp

from xmodal_jax.data.bytes import END, PAD
from xmodal_jax.decoding.generation import Generation, generate


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def greedy(model, params, fused, prefix, length):
    """The likeliest next byte, again and again, until the end mark.

    Args:
      fused: what `fuse` returned for B rows; prefix: tuple of ids that every row starts with (PAD first).
      length: bytes to write at most.
    Returns:
      ids int32 [B, length] (PAD after the end mark) and the sum of their log-probabilities, float32 [B].
    """
    variables, rows = {"params": params}, fused.mask.shape[0]

    def step(ids, cache, index):
        return model.apply(variables, ids, fused, cache, index, method="decode")

    prompt = jnp.tile(jnp.array(prefix, jnp.int32), (rows, 1))
    cache = model.apply(variables, rows, len(prefix) + length, method="cache")
    found = generate(step, cache, prompt, Generation(length=length, end=END, pad=PAD))
    return found.ids[:, 0], found.scores[:, 0]


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

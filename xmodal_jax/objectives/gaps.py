"""Which thing of a caption fills which gap of its prompt (`ByteExamples.caption_gaps`).

The caption names its things in an order that no picture tells, so that they are a set: of both orders the one counts in which
the gaps tell the things better (Carion et al., 2020, "End-to-end object detection with transformers", equation 1),

    order = argmin_s sum_i -log p_s(i)(name_i)
p_k: what gap k is associated with, as a thing (`name_words`). Letters: B batch, T tokens of the prompt.
"""

import jax
import jax.numpy as jnp

from xmodal_jax.data.bytes import FIRST_SENTINEL
from xmodal_jax.objectives.inputs import see


def matched(verbs, batch):
    """Of each caption's things and the gaps of its prompt: (whether the first thing fills the second gap bool [B], the sum of
    -log p over its things in that order float32 [B], how many there are int [B])."""
    prompt, names = batch["prompt"], batch["told_names"]  # [B, T'], [B, 2]
    fused = verbs.fuse(verbs.encode_text(prompt, verbs.once(jnp.zeros_like, prompt)), see(verbs, batch))
    at = (fused.gaps[:, None] == jnp.arange(2)[None, :, None]).astype(jnp.float32)  # [B, 2, T]
    told = jax.nn.log_softmax(jnp.einsum("bkt,btn->bkn", at, verbs.name_words(fused.taken)))  # [B, 2, names]
    costs = -jnp.take_along_axis(told, jnp.maximum(names, 0)[:, None], axis=-1) * (names >= 0)[:, None]  # [B, gap, thing]
    straight, crossed = costs[:, 0, 0] + costs[:, 1, 1], costs[:, 0, 1] + costs[:, 1, 0]
    return crossed < straight, jnp.minimum(straight, crossed), (names >= 0).sum(1)


def in_order(ids, exchanged):
    """Captions int [B, S], the marks of both gaps exchanged where that is asked for, bool [B]."""
    first, second = FIRST_SENTINEL, FIRST_SENTINEL + 1
    other = jnp.where(ids == first, second, jnp.where(ids == second, first, ids))
    return jnp.where(exchanged[:, None], other, ids)

"""A decoder without layers whose next word depends on every word so far and its place: for tests that need no model."""

import jax
import jax.numpy as jnp
import numpy as np


def make(rng, vocabulary, longest, scale=1.0):
    """-> table [S, V, V]: what each place's word adds to the logits of the next one."""
    return (scale * rng.normal(size=(longest, vocabulary, vocabulary))).astype(np.float32)


def cache(rows, longest):
    """For the ids themselves: one layer, [1, rows, S]."""
    return {"ids": jnp.zeros((1, rows, longest), jnp.int32)}


def step_of(table, watch=lambda: None):
    """A step of `generate`; `watch` is called at run time with every call."""

    def step(ids, cache, index):
        jax.debug.callback(watch)
        seen = jax.lax.dynamic_update_slice_in_dim(cache["ids"], ids[None], index, axis=2)
        added = table[jnp.arange(len(table)), seen[0]]  # [R, S, V]
        upto = (index + jnp.arange(ids.shape[1]))[:, None] >= jnp.arange(len(table))  # [N, S]
        return jnp.einsum("ns,rsv->rnv", upto.astype(jnp.float32), added), {"ids": seen}

    return step


def log_probabilities(table, text):
    """float64 [V] of the word after `text`."""
    logits = sum(table[place, word].astype(np.float64) for place, word in enumerate(text))
    return logits - np.log(np.exp(logits).sum())

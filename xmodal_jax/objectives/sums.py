"""Means as (sum, weight) pairs: added over microbatches and devices, divided once, right under padding."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax


class Sum(NamedTuple):
    """A weighted total and its weight, float32 scalars."""

    total: Any
    weight: Any

    def mean(self):
        return self.total / jnp.maximum(self.weight, 1e-8)


def weighted(values, weights):
    """Sum over everything of values * weights."""
    weights = jnp.broadcast_to(weights, values.shape).astype(jnp.float32)
    return Sum(jnp.sum(values.astype(jnp.float32) * weights), jnp.sum(weights))


def added(sums):
    """The Sum over several."""
    return Sum(*(sum(part) for part in zip(*sums, strict=True)))


def classified(logits, wanted, metric):
    """Classes int [...], -1 where there is none, told by logits [..., K] -> (their cross-entropy, {metric: how many are the
    likeliest})."""
    values = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(wanted, 0))
    return weighted(values, wanted >= 0), {metric: weighted(logits.argmax(-1) == wanted, wanted >= 0)}

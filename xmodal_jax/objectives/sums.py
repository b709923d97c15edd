"""Means as (sum, weight) pairs: added over microbatches and devices, divided once, right under padding."""

from typing import Any, NamedTuple

import jax.numpy as jnp


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

"""One vector for many tokens, and what its similarities are multiplied with."""

import jax
import jax.numpy as jnp

LOG_SCALE = 2.659  # log(1 / 0.07), where CLIP begins


def unit(x):
    """float32 vectors of length 1: [B, P] -> [B, P]; one of zeros stays as it is."""
    x = x.astype(jnp.float32)
    return x * inverse_length(jnp.sum(x * x, -1, keepdims=True))


def inverse_length(square):
    """1 / sqrt of squared lengths: exact however short, 1 (a bounded slope) for what is 0 or nearly."""
    return jax.lax.rsqrt(jnp.where(square > 1e-12, square, 1))


def masked_mean(x, mask):
    """Mean of the unmasked vectors: [B, n, D], bool [B, n] -> [B, D], 0 where there are none."""
    weights = mask / jnp.maximum(mask.sum(1, keepdims=True), 1)
    return jnp.einsum("bn,bnd->bd", weights.astype(x.dtype), x)


def at(x, index):
    """The token at each row's index: [B, T, D], int [B] -> [B, D]."""
    return jnp.take_along_axis(x, index[:, None, None], axis=1)[:, 0]


def inverse_temperature(log_scale):
    """1 / temperature of similarities, at most 100."""
    return jnp.exp(jnp.minimum(log_scale, jnp.log(100.0)))

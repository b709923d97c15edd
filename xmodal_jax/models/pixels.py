"""Pixels as encoders read them."""

import math

import jax.numpy as jnp

GREY = 128


def standardised(images, mean, std, dtype):
    """uint8 [B, H, W, 3] -> (x / 255 - mean) / std; mean, std: of red, green, blue or of all."""
    return (images.astype(dtype) / 255 - jnp.asarray(mean, dtype)) / jnp.asarray(std, dtype)


def grey(images, hidden):
    """uint8 [B, H, W, 3] with the pixels of hidden patches, bool [B, N], grey."""
    side = math.isqrt(hidden.shape[1])
    spread = jnp.kron(hidden.reshape(-1, side, side), jnp.ones((1, *(size // side for size in images.shape[1:3]))))
    return jnp.where(spread[..., None] > 0, GREY, images).astype(images.dtype)

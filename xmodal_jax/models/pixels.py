"""Pixels as encoders read them."""

import jax.numpy as jnp


def standardised(images, mean, std, dtype):
    """uint8 [B, H, W, 3] -> (x / 255 - mean) / std; mean, std: of red, green, blue or of all."""
    return (images.astype(dtype) / 255 - jnp.asarray(mean, dtype)) / jnp.asarray(std, dtype)

"""Fusion of two vectors by a gate (gated multimodal unit; Arevalo et al., 2017)."""

import flax.linen as nn
import jax.numpy as jnp

from xmodal_jax.models.dense import Dense
from xmodal_jax.models.interactions.fused import Fused, refuse_mode


class Gated(nn.Module):
    """p = z o tanh(W v) + (1 - z) o tanh(U t), z = sigmoid(G [v; t]): v, t the modalities' own vectors, of any width.

    Tokens stay as they are.
    """

    width: int = 512
    dropout: float = 0.0
    dtype: str = "float32"

    @nn.compact
    def __call__(self, text, image, mode="both", train=False):
        refuse_mode(self, mode, ("both",))

        def to(name):
            return Dense(self.width, use_bias=False, dtype=self.dtype, name=name)

        t, v = text.pooled.astype(self.dtype), image.pooled.astype(self.dtype)
        z = nn.sigmoid(to("gate")(jnp.concatenate([v, t], axis=-1)))  # [B, D]
        pair = z * jnp.tanh(to("image")(v)) + (1 - z) * jnp.tanh(to("text")(t))
        pair = nn.Dropout(self.dropout, deterministic=not train)(pair)
        return Fused(text.x, image.x, text.mask, image.mask, pair)

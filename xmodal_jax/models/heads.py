"""Heads of a composed model by name, each on what an interaction or an encoder gives."""

import flax.linen as nn
import jax.numpy as jnp

from xmodal_jax.models.dense import Dense
from xmodal_jax.models.transformer import ACTIVATIONS, Style


class Words(nn.Module):
    """Logits of every word, float32: x [..., D] -> E norm(gelu(W x)) + b [..., V] (BERT's masked language model).

    E: the vectors of the words that the text encoder reads, [V, D], or None: a matrix of its own.
    """

    vocabulary: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, table=None):
        width = x.shape[-1] if table is None else table.shape[-1]
        y = ACTIVATIONS["gelu_exact"](Dense(width, dtype=self.dtype, name="hidden")(x))
        y = Style(epsilon=1e-12).norm(self.dtype, "norm")(y)
        if table is None:
            return Dense(self.vocabulary, dtype=self.dtype, name="logits")(y).astype(jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.vocabulary,))
        return (y @ table.astype(y.dtype).T).astype(jnp.float32) + bias


class Transformed(nn.Module):
    """norm(gelu(W x)), `wider` times as wide as x, and then a linear map: [..., D] -> [..., size], float32."""

    size: int
    wider: int = 1
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        y = ACTIVATIONS["gelu_exact"](Dense(self.wider * x.shape[-1], dtype=self.dtype, name="hidden")(x))
        y = Style(epsilon=1e-12).norm(self.dtype, "norm")(y)
        return Dense(self.size, dtype=self.dtype, name="logits")(y).astype(jnp.float32)


class Linear(nn.Module):
    """A linear map [..., D] -> [..., size], float32."""

    size: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        return Dense(self.size, dtype=self.dtype, name="logits")(x).astype(jnp.float32)


# of words; of a pair, and its answer; of regions: their classes, their features, and the classes that features alone tell
HEADS = ("words", "match", "answers", "classes", "features", "detector")

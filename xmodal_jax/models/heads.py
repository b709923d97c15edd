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


class Projector(nn.Module):
    """SimSiam's (Chen and He, 2021): three linear maps [..., D] -> [..., 2 D], each normalised, the first two through a ReLU.

    Layers are normalised where it normalises batches, so that a vector does not depend on the rows beside it.
    """

    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        width = 2 * x.shape[-1]
        for number in range(3):
            x = Dense(width, dtype=self.dtype, name=f"linear_{number}")(x)
            x = Style(epsilon=1e-6).norm(self.dtype, f"norm_{number}")(x)
            x = nn.relu(x) if number < 2 else x
        return x.astype(jnp.float32)


class Predictor(nn.Module):
    """SimSiam's: [..., P] -> [..., P] through a quarter of the width."""

    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        y = Dense(max(1, x.shape[-1] // 4), dtype=self.dtype, name="hidden")(x)
        y = nn.relu(Style(epsilon=1e-6).norm(self.dtype, "norm")(y))
        return Dense(x.shape[-1], dtype=self.dtype, name="logits")(y).astype(jnp.float32)


# Of words; of a pair, and its answer; of regions, their classes and attributes, their features, and the classes that features
# alone tell; of patches, their numbers, and of cells those of their entries; of patches and words of a picture and a text
# alone; of a picture's vectors, for comparing two views; of the tokens of a momentum teacher; of a pair's vector of another
# teacher.
HEADS = (
    "words", "match", "answers", "classes", "attributes", "features", "detector", "codes", "visual_tokens", "image_codes",
    "text_words", "projector", "predictor", "text_teacher", "image_teacher", "states",
)  # fmt: skip

"""A block's MLP where it stands apart from its attention: one a stream, one an expert."""

import flax.linen as nn

from xmodal_jax.models.dense import Dense
from xmodal_jax.models.transformer import ACTIVATIONS


class MLP(nn.Module):
    """[..., D] -> down(activation(up x)) [..., D]."""

    width: int
    hidden: int
    activation: str = "gelu_exact"
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        up = ACTIVATIONS[self.activation](Dense(self.hidden, dtype=self.dtype, name="up")(x))
        return Dense(self.width, dtype=self.dtype, name="down")(up)

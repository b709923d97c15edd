"""A dense layer whose products have the shape that the platform multiplies fastest."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmodal_jax.models.platform import is_one_cpu


class Dense(nn.Module):
    """x [..., D] -> [..., *features]: kernel [D, *features], bias [*features].

    On one CPU device as a product of two matrices: there XLA's gradient of a product with several row axes first transposes
    its operands, which takes longer than the product itself. Elsewhere the axes stay apart, so that each can be sharded.
    """

    features: Any
    use_bias: bool = True
    dtype: str = "float32"
    kernel_init: Any = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x):
        features = (self.features,) if isinstance(self.features, int) else tuple(self.features)
        shape = (x.shape[-1], *features)

        def init(key, shape):  # fan-in and fan-out are those of the matrix
            return self.kernel_init(key, (shape[0], math.prod(shape[1:]))).reshape(shape)

        kernel = self.param("kernel", init, shape).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, features).astype(self.dtype) if self.use_bias else None
        x = x.astype(self.dtype)
        if not is_one_cpu():
            y = jnp.tensordot(x, kernel, 1)
            return y if bias is None else y + bias
        y = x.reshape(-1, shape[0]) @ kernel.reshape(shape[0], -1)  # [rows, columns]
        if bias is not None:
            y = add_rows(y, bias.reshape(-1))
        return y.reshape(*x.shape[:-1], *features)


@jax.custom_vjp
def add_rows(y, bias):
    """y [rows, columns] + bias [columns]; the sum over rows in its gradient is a product too, which is faster on CPU."""
    return y + bias


add_rows.defvjp(lambda y, bias: (y + bias, None), lambda _, dy: (dy, jnp.ones(len(dy), dy.dtype) @ dy))

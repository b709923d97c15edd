"""Parts of convolutional encoders, equal to PyTorch's."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class Conv(nn.Module):
    """x [B, H, W, C] -> [B, H', W', features], `padding` zeros on every side: kernel [size, size, C, features]."""

    features: int
    size: int
    stride: int = 1
    padding: int = 0
    use_bias: bool = False
    dtype: Any = "float32"

    @nn.compact
    def __call__(self, x):
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape).astype(self.dtype)
        pads = [(self.padding, self.padding)] * 2
        y = jax.lax.conv_general_dilated(x, kernel, (self.stride,) * 2, pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        return y


class FixedBatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy, 2015) by the statistics of pre-training, which fine-tuning leaves as they are.

    Batches of fine-tuning are small and of another kind than those of pre-training: frozen statistics are the usual choice
    there (as in object detection). `mean` and `variance` lie among the parameters and get no gradient.
    """

    epsilon: float = 1e-5
    dtype: Any = "float32"

    @nn.compact
    def __call__(self, x):
        shape = (x.shape[-1],)
        mean = jax.lax.stop_gradient(self.param("mean", nn.initializers.zeros, shape))
        variance = jax.lax.stop_gradient(self.param("variance", nn.initializers.ones, shape))
        scale = self.param("scale", nn.initializers.ones, shape) * jax.lax.rsqrt(variance + self.epsilon)
        bias = self.param("bias", nn.initializers.zeros, shape) - mean * scale
        return x * scale.astype(self.dtype) + bias.astype(self.dtype)


def max_pool_padded(x, size, stride, padding):
    """Maxima over windows, edges padded by what no maximum is: [B, H, W, C] -> [B, H', W', C]."""
    pads = [(padding, padding)] * 2
    return nn.max_pool(jnp.asarray(x), (size, size), (stride, stride), pads)

"""Parts of convolutional encoders, equal to PyTorch's."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmodal_jax.models.platform import is_one_cpu


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
        y = (convolve_on_cpu if is_one_cpu() else convolve)(x, kernel, self.stride, self.padding)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        return y


def convolve(x, kernel, stride, padding):
    """x [B, H, W, C], kernel [size, size, C, F] -> [B, H', W', F]."""
    pads = [(padding, padding)] * 2
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve_on_cpu(x, kernel, stride, padding):
    """`convolve` with a gradient of the kernel by matrix products, one for each of its places.

    XLA makes a convolution of it whose kernel is the whole image: on CPU that takes two to four times as long.
    """
    return convolve(x, kernel, stride, padding)


def _convolve_gradient(stride, padding, saved, dy):
    x, kernel = saved
    size, _, C, F = kernel.shape
    (_, h, w, _), padded = dy.shape, jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    dk = [
        padded[:, i : i + (h - 1) * stride + 1 : stride, j : j + (w - 1) * stride + 1 : stride].reshape(-1, C).T
        @ dy.reshape(-1, F)
        for i in range(size)
        for j in range(size)
    ]
    _, gradient = jax.vjp(lambda x: convolve(x, kernel, stride, padding), x)
    return gradient(dy)[0], jnp.stack(dk).reshape(kernel.shape)


convolve_on_cpu.defvjp(lambda x, kernel, *sizes: (convolve(x, kernel, *sizes), (x, kernel)), _convolve_gradient)


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


def max_pool_halves(x):
    """Maxima over squares of 2 x 2: [B, H, W, C] -> [B, H // 2, W // 2, C].

    As maxima of four slices: on CPU the gradient of a windowed maximum takes 16 times as long. Between equals it is divided.
    """
    B, H, W, C = x.shape
    x = x[:, : H // 2 * 2, : W // 2 * 2].reshape(B, H // 2, 2, W // 2, 2, C)
    return jnp.maximum(jnp.maximum(x[:, :, 0, :, 0], x[:, :, 0, :, 1]), jnp.maximum(x[:, :, 1, :, 0], x[:, :, 1, :, 1]))


def max_pool_padded(x, size, stride, padding):
    """Maxima over windows, edges padded by what no maximum is: [B, H, W, C] -> [B, H', W', C]."""
    pads = [(padding, padding)] * 2
    return nn.max_pool(jnp.asarray(x), (size, size), (stride, stride), pads)

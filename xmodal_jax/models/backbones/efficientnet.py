"""EfficientNet (Tan and Le, 2019): inverted residuals with squeeze and excitation; ALIGN's image encoder, of size B7.

Letters: B batch, H and W pixels, h = H / 32, w = W / 32, C channels.
"""

import flax.linen as nn
import jax

from xmodal_jax.errors import UserError
from xmodal_jax.models.backbones.convolutions import Conv, FixedBatchNorm
from xmodal_jax.models.backbones.encoded import Encoded, mask_of
from xmodal_jax.models.dense import Dense
from xmodal_jax.models.perturb import perturbed

EPSILON = 1e-3  # of the normalisations


class Depthwise(nn.Module):
    """x [B, H, W, C] -> [B, H', W', C], each channel by itself: kernel [size, size, 1, C], zeros before and behind: `pads`."""

    size: int
    stride: int
    pads: tuple
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        C = x.shape[-1]
        kernel = self.param("kernel", nn.initializers.he_normal(), (self.size, self.size, 1, C)).astype(self.dtype)
        return jax.lax.conv_general_dilated(
            x, kernel, (self.stride,) * 2, (self.pads,) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=C
        )


class MBConv(nn.Module):
    """project(excite(depthwise(expand x))), and x added where it has that shape and the block is not its stage's first.

    symmetric: a strided convolution has zeros on both sides alike, else one more behind.
    """

    features: int
    expand: int
    size: int
    stride: int
    squeeze: float
    first: bool
    symmetric: bool
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        C = x.shape[-1]

        def normed(y, name):
            return FixedBatchNorm(EPSILON, dtype=self.dtype, name=f"norm_{name}")(y)

        y = x
        if self.expand > 1:
            y = nn.silu(normed(Conv(C * self.expand, 1, dtype=self.dtype, name="conv_expand")(y), "expand"))
        half = self.size // 2
        pads = (half, half) if self.stride == 1 or self.symmetric else (half - 1, half)
        y = nn.silu(normed(Depthwise(self.size, self.stride, pads, self.dtype, name="conv_depthwise")(y), "depthwise"))
        z = y.mean((1, 2), keepdims=True)
        z = nn.silu(Conv(max(1, int(C * self.squeeze)), 1, use_bias=True, dtype=self.dtype, name="conv_reduce")(z))
        y = y * nn.sigmoid(Conv(y.shape[-1], 1, use_bias=True, dtype=self.dtype, name="conv_excite")(z))
        y = normed(Conv(self.features, 1, dtype=self.dtype, name="conv_project")(y), "project")
        return y if self.first or self.stride > 1 else x + y


class EfficientNet(nn.Module):
    """Normalised images float [B, H, W, 3] -> Encoded with x [B, h w, C], the last grid row by row; pooled is its mean.

    Attributes:
      stem: channels after the first convolution; widths, depths, strides, kernels, expands: of every stage, its channels,
        blocks, the stride of its first block, the side of its kernels and how much wider its blocks are inside.
      symmetric: numbers of strided blocks, counted through, with zeros on both sides alike. squeeze: share of a block's input
        channels that its excitation is computed from. top: channels of a last 1 x 1 convolution (0: none, as ALIGN's).
      labels: classes of a linear head on the mean (0: none).
    """

    stem: int = 32
    widths: tuple = (16, 24, 40, 80, 112, 192, 320)
    depths: tuple = (1, 2, 2, 3, 3, 4, 1)
    strides: tuple = (1, 2, 2, 2, 1, 2, 1)
    kernels: tuple = (3, 3, 5, 3, 5, 5, 3)
    expands: tuple = (1, 6, 6, 6, 6, 6, 6)
    symmetric: tuple = ()
    squeeze: float = 0.25
    top: int = 1280
    labels: int = 0
    dtype: str = "float32"

    @property
    def width(self):
        return self.top or self.widths[-1]

    @nn.compact
    def __call__(self, images, train=False):
        stages = (self.widths, self.depths, self.strides, self.kernels, self.expands)
        if len(set(map(len, stages))) > 1:
            raise UserError(
                f"widths={self.widths}, depths={self.depths}, strides={self.strides}, kernels={self.kernels} and "
                f"expands={self.expands} must have one entry a stage each."
            )
        x = jax.numpy.pad(images.astype(self.dtype), ((0, 0), (0, 1), (0, 1), (0, 0)))
        x = Conv(self.stem, 3, 2, dtype=self.dtype, name="conv_stem")(x)
        x, number = nn.silu(FixedBatchNorm(EPSILON, dtype=self.dtype, name="norm_stem")(x)), 0
        for width, depth, stride, kernel, expand in zip(*stages, strict=True):
            for place in range(depth):
                x = MBConv(
                    width, expand, kernel, stride if place == 0 else 1, self.squeeze, place == 0, number in self.symmetric,
                    self.dtype, name=f"block_{number}",
                )(x)  # fmt: skip
                number += 1
        if self.top:
            x = Conv(self.top, 1, dtype=self.dtype, name="conv_top")(x)
            x = nn.silu(FixedBatchNorm(EPSILON, dtype=self.dtype, name="norm_top")(x))
        B, h, w, C = x.shape
        x = perturbed(self, "features", x).reshape(B, h * w, C)
        pooled = x.mean(1)
        logits = Dense(self.labels, dtype=self.dtype, name="classifier")(pooled) if self.labels else None
        return Encoded(x, mask_of(x), pooled, logits)

"""Residual networks (He et al., 2016), for grid features of images.

Letters: B batch, H and W pixels, h = H / 32, w = W / 32, C channels of the last stage.
"""

import flax.linen as nn

from xmodal_jax.models.backbones.convolutions import Conv, FixedBatchNorm, max_pool_padded
from xmodal_jax.models.backbones.encoded import Encoded, mask_of
from xmodal_jax.models.dense import Dense
from xmodal_jax.models.perturb import perturbed


class Normed(nn.Module):
    """A convolution without bias, normalised, and activated unless it is linear."""

    features: int
    size: int
    stride: int = 1
    linear: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        x = Conv(self.features, self.size, self.stride, self.size // 2, dtype=self.dtype, name="conv")(x)
        x = FixedBatchNorm(dtype=self.dtype, name="norm")(x)
        return x if self.linear else nn.relu(x)


class Residual(nn.Module):
    """x + f(x): f is 1 x 1, 3 x 3, 1 x 1 (bottleneck, a quarter as wide inside) or 3 x 3, 3 x 3 (basic)."""

    features: int
    stride: int
    bottleneck: bool
    first_strides: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        def conv(features, size, stride, linear, name):
            return Normed(features, size, stride, linear, self.dtype, name=name)

        short = x
        if self.stride > 1 or x.shape[-1] != self.features:
            short = conv(self.features, 1, self.stride, True, "shortcut")(x)
        if self.bottleneck:
            one, three = (self.stride, 1) if self.first_strides else (1, self.stride)
            x = conv(self.features // 4, 1, one, False, "conv_0")(x)
            x = conv(self.features // 4, 3, three, False, "conv_1")(x)
            x = conv(self.features, 1, 1, True, "conv_2")(x)
        else:
            x = conv(self.features, 3, self.stride, False, "conv_0")(x)
            x = conv(self.features, 3, 1, True, "conv_1")(x)
        return nn.relu(x + short)


class ResNet(nn.Module):
    """Normalised images float [B, H, W, 3] -> Encoded with x [B, h w, C], the last grid row by row; pooled is its mean.

    Attributes:
      stem: channels after the first convolution; widths, depths: channels and blocks of every stage.
      first_strides: the 1 x 1 convolution of a bottleneck takes the stride, not the 3 x 3. first_stage_halves: its stride is 2.
      labels: classes of a linear head on the mean (0: none).
    """

    stem: int = 64
    widths: tuple = (256, 512, 1024, 2048)
    depths: tuple = (3, 4, 6, 3)
    bottleneck: bool = True
    first_strides: bool = False
    first_stage_halves: bool = False
    labels: int = 0
    dtype: str = "float32"

    @property
    def width(self):
        return self.widths[-1]

    @nn.compact
    def __call__(self, images, train=False):
        x = Normed(self.stem, 7, 2, dtype=self.dtype, name="stem")(images.astype(self.dtype))
        x = max_pool_padded(x, 3, 2, 1)
        for stage, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True)):
            for number in range(depth):
                stride = 2 if number == 0 and (stage > 0 or self.first_stage_halves) else 1
                x = Residual(
                    width, stride, self.bottleneck, self.first_strides, self.dtype, name=f"stage_{stage}_block_{number}"
                )(x)
        B, h, w, C = x.shape
        x = perturbed(self, "features", x).reshape(B, h * w, C)
        pooled = x.mean(1)
        logits = Dense(self.labels, dtype=self.dtype, name="classifier")(pooled) if self.labels else None
        return Encoded(x, mask_of(x), pooled, logits)

"""VGG (Simonyan and Zisserman, 2015): 3 x 3 convolutions, halved in size five times.

Letters: B batch, H and W pixels, h = H / 32, w = W / 32, C channels, F hidden width of the head.
"""

import flax.linen as nn
import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.models.backbones.convolutions import Conv, FixedBatchNorm, max_pool_halves
from xmodal_jax.models.backbones.encoded import Encoded, mask_of
from xmodal_jax.models.dense import Dense
from xmodal_jax.models.perturb import perturbed

VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)  # 0: a maximum over 2 x 2
POOLED = 7  # rows and columns that the head sees


class VGG(nn.Module):
    """Normalised images float [B, H, W, 3] -> Encoded with x [B, h w, C], the last grid of features row by row.

    Attributes:
      channels: of every convolution, 0 for a pooling. batch_norm: see `FixedBatchNorm`.
      labels: classes of the head (0: none) on the features averaged to 7 x 7; pooled is the mean over the grid.
    Raises:
      UserError: images with a side of less than 32 pixels, of which five poolings leave nothing.
    """

    channels: tuple = VGG16
    batch_norm: bool = False
    hidden: int = 4096
    labels: int = 0
    dtype: str = "float32"

    @property
    def width(self):
        return [channels for channels in self.channels if channels][-1]

    @nn.compact
    def __call__(self, images, train=False):
        x, number = images.astype(self.dtype), 0
        for channels in self.channels:
            if not channels:
                x = max_pool_halves(x)
                continue
            x = Conv(channels, 3, padding=1, use_bias=True, dtype=self.dtype, name=f"conv_{number}")(x)
            x = FixedBatchNorm(dtype=self.dtype, name=f"norm_{number}")(x) if self.batch_norm else x
            x, number = nn.relu(x), number + 1
        B, h, w, C = x.shape
        if not h * w:
            least = 2 ** self.channels.count(0)
            raise UserError(
                f"Images of {images.shape[1]} x {images.shape[2]} pixels: this VGG needs at least {least} x {least}."
            )
        x = perturbed(self, "features", x)
        logits = None
        if self.labels:
            y = adaptive_mean(x, POOLED).transpose(0, 3, 1, 2).reshape(B, -1)  # [B, C 7 7]
            for layer in range(2):
                y = nn.relu(Dense(self.hidden, dtype=self.dtype, name=f"hidden_{layer}")(y))
            logits = Dense(self.labels, dtype=self.dtype, name="classifier")(y)
        tokens = x.reshape(B, h * w, C)
        return Encoded(tokens, mask_of(tokens), tokens.mean(1), logits)


def adaptive_mean(x, size):
    """Means over `size` x `size` windows that cover the grid and may overlap: [B, h, w, C] -> [B, size, size, C]."""

    def matrix(length):
        first = [i * length // size for i in range(size)]
        last = [-(-(i + 1) * length // size) for i in range(size)]
        rows = [[(a <= place < b) / (b - a) for place in range(length)] for a, b in zip(first, last, strict=True)]
        return jnp.asarray(rows, x.dtype)

    return jnp.einsum("yh,xw,bhwc->byxc", matrix(x.shape[1]), matrix(x.shape[2]), x)

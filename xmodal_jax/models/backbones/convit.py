"""Convolutions below, attention above: an image encoder that learns from a few thousand pictures, without pre-training.

Letters: B batch, h and w rows and columns of the last grid, C channels, N = h w, D width.
"""

import flax.linen as nn

from xmodal_jax.errors import UserError
from xmodal_jax.models.backbones.convolutions import Conv
from xmodal_jax.models.backbones.encoded import Encoded, mask_of
from xmodal_jax.models.byte_embedding import sincos_2d
from xmodal_jax.models.dense import Dense
from xmodal_jax.models.perturb import perturbed
from xmodal_jax.models.transformer import ACTIVATIONS, Style, encoder_of


class ConvBlock(nn.Module):
    """x + conv(act(norm(conv(act(norm x))))) with 3 x 3 kernels (He et al., 2016b, pre-activation), `stride` in the first."""

    features: int
    stride: int = 1
    dropout: float = 0.0
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, train):
        def active(y, name):
            return ACTIVATIONS["gelu"](nn.LayerNorm(dtype=self.dtype, name=name)(y))

        y = active(x, "norm_in")
        short = x
        if self.stride > 1 or x.shape[-1] != self.features:
            short = Conv(self.features, self.stride, self.stride, dtype=self.dtype, name="conv_short")(y)
        y = Conv(self.features, 3, self.stride, 1, dtype=self.dtype, name="conv_in")(y)
        y = nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(active(y, "norm_out"))
        return short + Conv(self.features, 3, 1, 1, dtype=self.dtype, name="conv_out")(y)


class ConvViT(nn.Module):
    """Normalised images float [B, H, W, 3] -> Encoded with x [B, h w, D]; pooled is its mean. h = H / (stem 2^(stages - 1)).

    A convolutional start lets a small encoder learn from far fewer images than patches do (Xiao et al., 2021, "Early
    convolutions help transformers see better"; CoAtNet, Dai et al., 2021).

    Attributes:
      stem: pixels of a side that the first convolution makes one vector of; widths, depths: channels and blocks of each stage,
        every one after the first halves the grid; layers, heads: transformer blocks on the last grid, of its width D.
      dropout: of channels in convolutions and of transformer blocks.
    """

    stem: int = 4
    widths: tuple = (64, 128, 256)
    depths: tuple = (1, 2, 2)
    layers: int = 2
    heads: int = 4
    mlp_ratio: float = 4.0
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    style: Style = Style()

    @property
    def width(self):
        return self.widths[-1]

    @nn.compact
    def __call__(self, images, train=False):
        if len(self.widths) != len(self.depths):
            raise UserError(f"widths={self.widths} and depths={self.depths} must have one entry a stage each.")
        unit = self.stem * 2 ** (len(self.widths) - 1)
        if images.shape[1] % unit or images.shape[2] % unit:
            raise UserError(f"Images of {images.shape[1]} x {images.shape[2]} pixels: both must be multiples of {unit}.")
        x = Conv(self.widths[0], self.stem, self.stem, use_bias=True, dtype=self.dtype, name="stem")(images.astype(self.dtype))
        for stage, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True)):
            for number in range(max(depth, int(stage > 0))):
                stride = 2 if stage and number == 0 else 1
                x = ConvBlock(width, stride, self.dropout, self.dtype, name=f"stage_{stage}_block_{number}")(x, train)
        B, h, w, D = x.shape
        x = perturbed(self, "features", x).reshape(B, h * w, D) + sincos_2d(h, w, D).astype(x.dtype)  # [B, N, D]
        x = Dense(D, dtype=self.dtype, name="mix")(nn.LayerNorm(dtype=self.dtype, name="norm_mix")(x))
        x, _ = encoder_of(self)(x, train=train)
        return Encoded(x, mask_of(x), x.mean(1))

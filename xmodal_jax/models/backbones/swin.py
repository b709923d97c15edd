"""Swin transformer (Liu et al., 2021): attention within windows of a grid, shifted in every second block; patches are merged
from stage to stage.

Letters: B batch, h and w rows and columns of the grid, s side of a window, M = s s, D width of a stage.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from xmodal_jax.errors import UserError
from xmodal_jax.models.attention import TableAttention
from xmodal_jax.models.backbones.beit import relation_index
from xmodal_jax.models.backbones.encoded import Encoded, mask_of
from xmodal_jax.models.backbones.vit import PatchEmbed
from xmodal_jax.models.dense import Dense
from xmodal_jax.models.perturb import perturbed
from xmodal_jax.models.transformer import ACTIVATIONS, REMAT, Style


def windows(x, side):
    """[B, h, w, D] -> [B (h / s) (w / s), M, D], row by row."""
    B, h, w, D = x.shape
    x = x.reshape(B, h // side, side, w // side, side, D)
    return jnp.einsum("bhiwjd->bhwijd", x).reshape(-1, side * side, D)


def grid_of_windows(x, side, rows, columns):
    """The inverse of `windows`, for a grid of `rows` x `columns`."""
    x = x.reshape(-1, rows // side, columns // side, side, side, x.shape[-1])
    return jnp.einsum("bhwijd->bhiwjd", x).reshape(-1, rows, columns, x.shape[-1])


def together(rows, columns, side, shift):
    """Which tokens of a window were neighbours before the grid was shifted: bool [windows, M, M]."""
    place = [(np.arange(n) >= n - side).astype(int) + (np.arange(n) >= n - shift) for n in (rows, columns)]
    region = (3 * place[0][:, None] + place[1]).reshape(rows // side, side, columns // side, side)
    region = region.transpose(0, 2, 1, 3).reshape(-1, side * side)  # [windows, M]
    return region[:, :, None] == region[:, None]


class SwinBlock(nn.Module):
    """x + attention within windows(norm x), + mlp(norm x); a grid that windows do not divide is filled up with zeros, which are
    attended to as the original's are."""

    heads: int
    window: int
    shift: int
    mlp_ratio: float
    dropout: float = 0.0
    dtype: str = "float32"
    style: Style = Style()

    @nn.compact
    def __call__(self, x, train):
        B, h, w, D = x.shape
        side, drop = self.window, nn.Dropout(self.dropout, deterministic=not train)
        y = self.style.norm(self.dtype, "norm_attention")(x)
        y = jnp.pad(y, ((0, 0), (0, -h % side), (0, -w % side), (0, 0)))
        rows, columns = y.shape[1:3]
        mask = None
        if self.shift:
            y = jnp.roll(y, (-self.shift, -self.shift), (1, 2))
            mask = jnp.tile(together(rows, columns, side, self.shift), (B, 1, 1))[:, None]  # [B windows, 1, M, M]
        index = jnp.asarray(relation_index((side, side))[1:, 1:])  # without a class token
        attention = TableAttention(D, self.heads, self.dtype, relations=(2 * side - 1) ** 2, name="attention")
        y, _ = attention(windows(y, side), mask, relation=index)
        y = grid_of_windows(y, side, rows, columns)
        if self.shift:
            y = jnp.roll(y, (self.shift, self.shift), (1, 2))
        x = x + drop(y[:, :h, :w])
        y = self.style.norm(self.dtype, "norm_mlp")(x)
        y = ACTIVATIONS[self.style.activation](Dense(int(self.mlp_ratio * D), dtype=self.dtype, name="up")(y))
        return x + drop(Dense(D, dtype=self.dtype, name="down")(y))


class Merge(nn.Module):
    """Each square of 2 x 2 patches becomes one, twice as wide: [B, h, w, D] -> [B, h / 2, w / 2, 2 D], rounded up."""

    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        B, h, w, D = x.shape
        x = jnp.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)))
        x = jnp.concatenate([x[:, row::2, column::2] for column in range(2) for row in range(2)], axis=-1)
        x = Style(epsilon=1e-5).norm(self.dtype, "norm")(x)
        return Dense(2 * D, use_bias=False, dtype=self.dtype, name="reduction")(x)


class Swin(nn.Module):
    """Normalised images float [B, H, W, C] -> Encoded with x [B, h w, D] of the last grid, row by row; pooled is its mean.

    Attributes:
      first: width of the first stage, each further one is twice as wide. depths, stage_heads: of every stage. window: s.
      labels: classes of a linear head on the mean (0: none). remat: what blocks keep for the gradient, see `Stack`.
    Raises:
      UserError: a grid that is smaller than a window; depths and stage_heads of different numbers of stages.
    """

    first: int = 96
    depths: tuple = (2, 2, 6, 2)
    stage_heads: tuple = (3, 6, 12, 24)
    window: int = 7
    patch: int = 4
    mlp_ratio: float = 4.0
    labels: int = 0
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    style: Style = Style(epsilon=1e-5, activation="gelu_exact")

    @property
    def width(self):
        return self.first * 2 ** (len(self.depths) - 1)

    @nn.compact
    def __call__(self, images, train=False):
        if len(self.depths) != len(self.stage_heads):
            raise UserError(f"depths={self.depths} and stage_heads={self.stage_heads} must have one entry a stage each.")
        x = PatchEmbed(self.first, self.patch, dtype=self.dtype, name="patch_embed")(images)
        x = Style(epsilon=1e-5).norm(self.dtype, "norm_in")(x)
        block = SwinBlock
        if REMAT[self.remat] is not None:
            block = nn.remat(SwinBlock, policy=REMAT[self.remat], prevent_cse=False, static_argnums=(2,))
        for stage, (depth, heads) in enumerate(zip(self.depths, self.stage_heads, strict=True)):
            side = min(x.shape[1:3])
            if side < self.window:
                raise UserError(
                    f"Images of {images.shape[1]} x {images.shape[2]} pixels: stage {stage + 1} of {len(self.depths)} has a "
                    f"grid of {x.shape[1]} x {x.shape[2]}, smaller than its windows of {self.window}."
                )
            for number in range(depth):
                shift = self.window // 2 if number % 2 and side > self.window else 0
                x = block(
                    heads, self.window, shift, self.mlp_ratio, self.dropout, self.dtype, self.style,
                    name=f"stage_{stage}_block_{number}",
                )(x, train)  # fmt: skip
            if stage + 1 < len(self.depths):
                x = Merge(self.dtype, name=f"merge_{stage}")(x)
        B, h, w, D = x.shape
        x = self.style.norm(self.dtype, "norm")(perturbed(self, "features", x)).reshape(B, h * w, D)
        pooled = x.mean(1)
        logits = Dense(self.labels, dtype=self.dtype, name="classifier")(pooled) if self.labels else None
        return Encoded(x, mask_of(x), pooled, logits)

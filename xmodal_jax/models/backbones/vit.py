"""Vision transformer (Dosovitskiy et al., 2021): patches of an image as tokens, before a class token.

Letters: B batch, h and w rows and columns of patches, p pixels of a patch's side, C channels, N = 1 + h w, D width.
"""

import flax.linen as nn
import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.models.backbones.encoded import Encoded, mask_of
from xmodal_jax.models.dense import Dense
from xmodal_jax.models.transformer import Style, encoder_of


class PatchEmbed(nn.Module):
    """Images [B, h p, w p, C] -> [B, h, w, D]: the projection of non-overlapping patches, as one matrix product."""

    width: int
    patch: int
    use_bias: bool = True
    dtype: str = "float32"

    @nn.compact
    def __call__(self, images):
        B, height, width, C = images.shape
        p = self.patch
        if height % p or width % p:
            raise UserError(f"Images of {height} x {width} pixels cannot be cut into patches of {p} x {p}: resize or pad them.")
        x = images.reshape(B, height // p, p, width // p, p, C)
        x = jnp.einsum("bhiwjc->bhwijc", x).reshape(B, height // p, width // p, p * p * C)
        return Dense(self.width, use_bias=self.use_bias, dtype=self.dtype, name="projection")(x)


def behind_class_token(patches, token):
    """Patches [B, h, w, D], a vector of D elements -> [B, 1 + h w, D]."""
    B, _, _, D = patches.shape
    first = jnp.broadcast_to(token.astype(patches.dtype), (B, 1, D))
    return jnp.concatenate([first, patches.reshape(B, -1, D)], axis=1)


def check_grid(images, found, grid):
    """Raise a UserError where images [B, H, W, C] have another grid of patches than the position table."""
    if tuple(found) != tuple(grid):
        raise UserError(
            f"Images of {images.shape[1]} x {images.shape[2]} pixels have {found[0]} x {found[1]} patches; this model has "
            f"positions for {grid[0]} x {grid[1]}: load it with image_size to interpolate them."
        )


class ViT(nn.Module):
    """Normalised images float [B, H, W, C] -> Encoded with x [B, 1 + h w, D].

    Attributes:
      grid: (rows, columns) of the learned position table; images must have as many patches.
      pooler: pooled is tanh(W x_class); else it is the class token itself. labels: classes of a head on it (0: none).
      remat: see `Stack`.
    """

    width: int = 768
    heads: int = 12
    layers: int = 12
    mlp_ratio: float = 4.0
    patch: int = 16
    grid: tuple = (14, 14)
    pooler: bool = False
    labels: int = 0
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    style: Style = Style(epsilon=1e-12, activation="gelu_exact")

    @nn.compact
    def __call__(self, images, train=False):
        x = PatchEmbed(self.width, self.patch, dtype=self.dtype, name="patch_embed")(images)
        _, rows, columns, D = x.shape
        check_grid(images, (rows, columns), self.grid)
        first = self.param("class_token", nn.initializers.normal(0.02), (1, 1, D))
        positions = self.param("position_table", nn.initializers.normal(0.02), (1, 1 + rows * columns, D))
        x = behind_class_token(x, first) + positions.astype(x.dtype)  # [B, N, D]
        x, _ = encoder_of(self)(x, train=train)
        pooled = x[:, 0]
        if self.pooler:
            pooled = jnp.tanh(Dense(D, dtype=self.dtype, name="pooler")(pooled))
        logits = Dense(self.labels, name="classifier")(x[:, 0]) if self.labels else None
        return Encoded(x, mask_of(x), pooled, logits, class_tokens=1)


class LinearPatches(ViT):
    """ViLT's (Kim et al., 2021): the projection of patches and their places, without a transformer of its own."""

    layers: int = 0
    style: Style = Style(closing_norm=False)

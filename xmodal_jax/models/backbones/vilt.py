"""ViLT (Kim et al., 2021): one transformer over the words of a text and the patches of an image.

Letters: B batch, T tokens of the text, h and w rows and columns of patches, N = T + 1 + h w, D width, P patches on a side of
the learned grid.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.models.backbones.bert import TextEmbed
from xmodal_jax.models.backbones.encoded import Encoded
from xmodal_jax.models.backbones.vit import PatchEmbed, behind_class_token
from xmodal_jax.models.dense import Dense
from xmodal_jax.models.transformer import Style, encoder_of


def stretch(sizes, length, old):
    """Bilinear interpolation of `old` positions to the first `sizes` [B] of `length`, corners on corners: [B, length, old]."""
    place = jnp.arange(length)[None]
    source = place * ((old - 1) / jnp.maximum(sizes - 1, 1))[:, None]  # [B, length]
    weights = jnp.maximum(1 - jnp.abs(source[..., None] - jnp.arange(old)), 0)
    return jnp.where((place < sizes[:, None])[..., None], weights, 0)


def positions_of_patches(table, seen):
    """Table [P, P, D] -> [B, h, w, D]: stretched over what is seen, bool [B, h, w], of each image; 0 elsewhere."""
    rows = stretch(seen[:, :, 0].sum(axis=1), seen.shape[1], table.shape[0])
    columns = stretch(seen[:, 0].sum(axis=1), seen.shape[2], table.shape[1])
    return jnp.einsum("byh,bxw,hwd->byxd", rows, columns, table, precision=jax.lax.Precision.HIGHEST)


class ViLT(nn.Module):
    """A text and normalised images -> Encoded with x [B, N, D]: the text, the image's class token, its patches row by row.

    Patches that are padding stay, behind the mask. The original drops most of them and shuffles the others, which changes
    nothing but the order.

    Attributes:
      grid: P; images may have any number of patches.
      limit: the most patches of an image, None: any. The original draws at random from more.
      kinds: of token: text, image, second image. pooler: pooled is tanh(W x_0), else x_0. remat: see `Stack`.
    Raises:
      UserError: patches that do not divide the image, or more of them than the limit; a text longer than `positions`.
    """

    vocabulary: int = 30522
    positions: int = 40
    types: int = 2
    kinds: int = 2
    width: int = 768
    heads: int = 12
    layers: int = 12
    mlp_ratio: float = 4.0
    patch: int = 32
    grid: int = 12
    limit: int | None = None
    pooler: bool = False
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    style: Style = Style(epsilon=1e-12, activation="gelu_exact")

    @nn.compact
    def __call__(self, ids, images, mask=None, image_mask=None, types=None, kind=1, train=False):
        """ids, types int32 [B, T], images float [B, H, W, C]; kind: 1, for the second image of a pair 2.

        mask: bool [B, T]; image_mask: bool [B, H, W], True on a rectangle in the upper left of each image (None: no padding).
        """
        mask = jnp.ones(ids.shape, bool) if mask is None else mask.astype(bool)
        if ids.shape[1] > self.positions:
            raise UserError(f"A text of {ids.shape[1]} tokens is too long: this model has positions for {self.positions}.")
        y = PatchEmbed(self.width, self.patch, dtype=self.dtype, name="patch_embed")(images)
        B, rows, columns, D = y.shape
        if self.limit is not None and rows * columns > self.limit:
            raise UserError(
                f"Images of {images.shape[1]} x {images.shape[2]} pixels have {rows} x {columns} patches; this model takes at "
                f"most {self.limit} (max_image_length): resize them."
            )
        if image_mask is None:
            seen = jnp.ones((B, rows, columns), bool)
        else:
            seen = image_mask[:, :: self.patch, :: self.patch].astype(bool)

        init = nn.initializers.normal(0.02)
        table = self.param("position_table", init, (1, 1 + self.grid**2, D))
        first = self.param("class_token", init, (1, 1, D)) + table[:, :1]
        y = y + positions_of_patches(table[0, 1:].reshape(self.grid, self.grid, D), seen).astype(y.dtype)
        y = nn.Dropout(self.dropout, deterministic=not train)(behind_class_token(y, first))

        x = TextEmbed(
            self.vocabulary, self.positions, self.types, D, dropout=self.dropout, epsilon=self.style.epsilon, dtype=self.dtype,
            name="text_embed",
        )(ids, mask, types, train)  # fmt: skip
        kinds = self.param("kind_table", init, (self.kinds, D)).astype(x.dtype)
        x = jnp.concatenate([x + kinds[0], y + kinds[kind]], axis=1)  # [B, N, D]
        mask = jnp.concatenate([mask, jnp.ones((B, 1), bool), seen.reshape(B, rows * columns)], axis=1)
        x, _ = encoder_of(self)(x, mask[:, None, None], train=train)
        pooled = jnp.tanh(Dense(D, dtype=self.dtype, name="pooler")(x[:, 0])) if self.pooler else x[:, 0]
        return Encoded(x, mask, pooled)

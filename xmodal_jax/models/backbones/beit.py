"""BEiT (Bao et al., 2022): a vision transformer whose attention has a learned bias for every offset between two patches.

Letters: B batch, h and w rows and columns of patches, N = 1 + h w, D width, H heads, R = (2 h - 1) (2 w - 1) + 3 relations.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from xmodal_jax.errors import UserError
from xmodal_jax.models.attention import TableAttention
from xmodal_jax.models.backbones.encoded import Encoded, mask_of
from xmodal_jax.models.backbones.vit import PatchEmbed, behind_class_token, check_grid
from xmodal_jax.models.dense import Dense
from xmodal_jax.models.transformer import Style, encoder_of


def relations_of(grid):
    """R: offsets between two patches of a grid (h, w), then class token to patch, patch to class token, and to itself."""
    return (2 * grid[0] - 1) * (2 * grid[1] - 1) + 3


def relation_index(grid):
    """int32 [N, N]: the relation of each query and key of a grid (h, w) behind a class token."""
    rows, columns = grid
    y, x = np.divmod(np.arange(rows * columns), columns)
    dy, dx = y[:, None] - y + rows - 1, x[:, None] - x + columns - 1
    index = np.zeros((1 + rows * columns,) * 2, np.int32)
    index[1:, 1:] = dy * (2 * columns - 1) + dx
    index[0], index[1:, 0], index[0, 0] = (relations_of(grid) - back for back in (3, 2, 1))
    return index


def resize_relations(table, old, new):
    """Table [R, H] of a grid `old` (h, w) for a grid `new`, bilinear, as MiDaS 3.1 does (Birkl et al., 2023)."""
    (h, w), size = old, tuple(2 * side - 1 for side in new)
    if old == new and h == w:
        return table
    # transformers takes the sides of a grid that is not square for each other, and so must we to give the same
    offsets = table[:-3].reshape(2 * w - 1, 2 * h - 1, -1)
    offsets = jax.image.resize(offsets, (*size, table.shape[1]), "linear", antialias=False)
    return jnp.concatenate([offsets.reshape(-1, table.shape[1]), table[-3:]])


class ResizedTableAttention(TableAttention):
    """`TableAttention` with the table of one grid, used on another.

    Its relation is (int32 [N, N], bias that all layers share [1, H, N, N] or None).
    Attributes: old: (h, w) of the table; new: (h, w) of the images.
    """

    old: tuple = ()
    new: tuple = ()

    def relate(self, q, k, relation):
        index, shared = relation
        table = self.param("relation_table", nn.initializers.zeros, (self.relations, self.heads))
        bias = bias_of(resize_relations(table, self.old, self.new), index)
        return bias if shared is None else bias + shared, self.scale


def bias_of(table, index):
    """Table [R, H], index [N, N] -> [1, H, N, N]."""
    return jnp.moveaxis(table[index], -1, 0)[None]


class BEiT(nn.Module):
    """Normalised images float [B, H, W, C] -> Encoded with x [B, N, D].

    Attributes:
      grid: (rows, columns) of patches that the tables are made for. Images may have others: the tables of relative positions
        are interpolated; the absolute ones are not.
      absolute: learned positions are added to the patches. relative: every layer has a table of biases; shared: all have one
        more in common.
      mask_token: there is a vector that takes the place of masked patches.
      mean: no norm closes the encoder, and pooled is the mean of the patches, normalised if there is a `pooler` (else None);
        not mean: pooled is the class token.
      labels: classes of a head on pooled (0: none). remat: see `Stack`.
    Raises:
      UserError: patches that do not divide the image, or absolute positions for another image size; masked without mask_token.
    """

    width: int = 768
    heads: int = 12
    layers: int = 12
    mlp_ratio: float = 4.0
    patch: int = 16
    grid: tuple = (14, 14)
    absolute: bool = False
    relative: bool = True
    shared: bool = False
    mask_token: bool = False
    mean: bool = True
    pooler: bool = True
    labels: int = 0
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    style: Style = Style(epsilon=1e-12, activation="gelu_exact", layer_scale=True, closing_norm=False)

    @nn.compact
    def __call__(self, images, masked=None, train=False):
        """masked: bool [B, h w], True for patches that the mask token hides."""
        x = PatchEmbed(self.width, self.patch, dtype=self.dtype, name="patch_embed")(images)
        B, *grid, D = x.shape
        grid, old, init = tuple(grid), tuple(self.grid), nn.initializers.normal(0.02)
        if self.mask_token:
            token = self.param("mask_token", init, (1, 1, D)).astype(x.dtype)
            x = x if masked is None else jnp.where(masked.reshape(B, *grid, 1), token, x)
        elif masked is not None:
            raise UserError("This BEiT has no mask token to hide patches with: load a checkpoint with use_mask_token.")
        x = behind_class_token(x, self.param("class_token", init, (1, 1, D)))  # [B, N, D]
        if self.absolute:
            check_grid(images, grid, old)
            x = x + self.param("position_table", init, (1, x.shape[1], D)).astype(x.dtype)

        style, index, relation = self.style, jnp.asarray(relation_index(grid)), None
        if self.shared:
            table = self.param("relation_table", nn.initializers.zeros, (relations_of(old), self.heads))
            relation = bias_of(resize_relations(table, old, grid), index)
        if self.relative:
            attention = functools.partial(ResizedTableAttention, relations=relations_of(old), old=old, new=grid)
            style, relation = dataclasses.replace(style, attention=attention), (index, relation)
        x, _ = encoder_of(self, style)(x, relation=relation, train=train)
        if not self.mean:
            pooled = x[:, 0]
        elif self.pooler:
            pooled = style.norm(self.dtype, "pooler")(x[:, 1:].mean(axis=1))
        else:
            pooled = None
        logits = Dense(self.labels, name="classifier")(pooled) if self.labels else None
        return Encoded(x, mask_of(x), pooled, logits, class_tokens=1)

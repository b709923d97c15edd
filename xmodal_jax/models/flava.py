"""FLAVA (Singh et al., 2022): an encoder of images, one of texts, and one of both, as its public checkpoints have it.

Letters: B pairs, h and w rows and columns of patches, N = 1 + h w, T tokens of a text, D width of a tower, P shared width.
"""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from xmodal_jax.models.backbones.bert import TextEmbed
from xmodal_jax.models.backbones.encoded import Encoded, mask_of
from xmodal_jax.models.backbones.vit import PatchEmbed, behind_class_token, check_grid
from xmodal_jax.models.dense import Dense
from xmodal_jax.models.transformer import Style, encoder_of


class Tower(nn.Module):
    """Blocks that normalise first, a norm and a pooler behind them; `finish` gives also what went into the norm."""

    width: int = 768
    heads: int = 12
    layers: int = 12
    mlp_ratio: float = 4.0
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    style: Style = Style(epsilon=1e-12, activation="gelu_exact", closing_norm=False)

    def finish(self, x, mask, train):
        """x [B, N, D], mask bool [B, N] or None -> (Encoded, pooled tanh(W x_0); tokens before the last norm)."""
        raw, _ = encoder_of(self)(x, None if mask is None else mask[:, None, None], train=train)
        x = self.style.norm(self.dtype, "norm")(raw)
        pooled = jnp.tanh(Dense(self.width, dtype=self.dtype, name="pooler")(x[:, 0]))
        return Encoded(x, mask_of(x, mask), pooled, class_tokens=1), raw


class ImageTower(Tower):
    """Normalised images float [B, H, W, C], masked bool [B, h, w] or None: patches that a learned vector hides."""

    patch: int = 16
    grid: tuple = (14, 14)

    @nn.compact
    def __call__(self, images, masked=None, train=False):
        x = PatchEmbed(self.width, self.patch, dtype=self.dtype, name="patch_embed")(images)
        B, rows, columns, D = x.shape
        check_grid(images, (rows, columns), self.grid)
        init = nn.initializers.normal(0.02)
        token = self.param("mask_token", init, (1, 1, D)).astype(x.dtype)
        x = x if masked is None else jnp.where(masked.reshape(B, rows, columns, 1), token, x)
        positions = self.param("position_table", init, (1, 1 + rows * columns, D)).astype(x.dtype)
        return self.finish(behind_class_token(x, self.param("class_token", init, (1, 1, D))) + positions, None, train)


class TextTower(Tower):
    """ids, types int32 [B, T], mask bool [B, T] or None."""

    vocabulary: int = 30522
    positions: int = 512
    types: int = 2

    @nn.compact
    def __call__(self, ids, mask=None, types=None, train=False):
        embed = TextEmbed(
            self.vocabulary, self.positions, self.types, self.width, None, self.dropout, self.style.epsilon, self.dtype,
            name="embed",
        )  # fmt: skip
        return self.finish(embed(ids, mask, types, train), mask, train)


class PairTower(Tower):
    """Tokens of both float [B, N + T, D], mask bool [B, N + T] or None; a class token of its own stands in front."""

    layers: int = 6

    @nn.compact
    def __call__(self, x, mask=None, train=False):
        first = self.param("class_token", nn.initializers.normal(0.02), (1, 1, self.width))
        x = jnp.concatenate([jnp.broadcast_to(first.astype(x.dtype), (len(x), 1, self.width)), x], axis=1)
        mask = None if mask is None else jnp.pad(mask.astype(bool), ((0, 0), (1, 0)), constant_values=True)
        return self.finish(x, mask, train)[0]


class Outputs(NamedTuple):
    """Encoded of the image, the text and the pair, and the vectors [B, P] whose cosines the contrastive loss compares."""

    image: Encoded
    text: Encoded
    pair: Encoded
    image_vector: jnp.ndarray
    text_vector: jnp.ndarray


class FLAVA(nn.Module):
    """images float [B, H, W, C] and ids int32 [B, T] -> Outputs.

    Attributes: image, text, pair: its encoders, that this module takes a copy of; shared_width: P.
    """

    image: ImageTower = ImageTower()
    text: TextTower = TextTower()
    pair: PairTower = PairTower()
    shared_width: int = 768
    dtype: str = "float32"

    @nn.compact
    def __call__(self, images, ids, mask=None, types=None, masked=None, train=False):
        """mask bool [B, T] (None: no padding), types int32 [B, T], masked bool [B, h, w]: hidden patches."""

        def dense(size, name):
            return Dense(size, dtype=self.dtype, name=name)

        image, seen = self.image(images, masked, train=train)
        text, read = self.text(ids, mask, types, train=train)
        both = [dense(self.pair.width, f"{name}_to_pair")(x) for name, x in (("image", seen), ("text", read))]
        there = None if mask is None else jnp.concatenate([image.mask, text.mask], axis=1)
        pair = self.pair(jnp.concatenate(both, axis=1), there, train=train)
        self.param("log_scale", nn.initializers.constant(2.6592), ())
        vectors = [dense(self.shared_width, f"{n}_projection")(e.x[:, 0]) for n, e in (("image", image), ("text", text))]
        return Outputs(image, text, pair, *vectors)

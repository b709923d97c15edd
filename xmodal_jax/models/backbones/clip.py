"""CLIP (Radford et al., 2021): an image and a text encoder whose vectors of a pair that belongs together point the same way.

Letters: B images, T texts, h and w rows and columns of patches, N = 1 + h w, M tokens of a text, D width, P shared width.
"""

import flax.linen as nn
import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.models.backbones.encoded import Encoded, mask_of
from xmodal_jax.models.backbones.vit import PatchEmbed, behind_class_token, check_grid
from xmodal_jax.models.dense import Dense
from xmodal_jax.models.transformer import Style, encoder_of
from xmodal_jax.models.vectors import at

LAST = -1


class VisionTower(nn.Module):
    """Normalised images float [B, H, W, C] -> Encoded with x [B, N, D], unnormed, and pooled [B, D]: the class token, normed.

    Attributes: grid: (rows, columns) of the learned position table; images must have as many patches. remat: see `Stack`.
    """

    width: int = 768
    heads: int = 12
    layers: int = 12
    mlp_ratio: float = 4.0
    patch: int = 32
    grid: tuple = (7, 7)
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    style: Style = Style(epsilon=1e-5, activation="gelu_quick", closing_norm=False)

    @nn.compact
    def __call__(self, images, train=False):
        x = PatchEmbed(self.width, self.patch, use_bias=False, dtype=self.dtype, name="patch_embed")(images)
        _, rows, columns, D = x.shape
        check_grid(images, (rows, columns), self.grid)
        init = nn.initializers.normal(0.02)
        first = self.param("class_token", init, (D,))
        positions = self.param("position_table", init, (1, 1 + rows * columns, D)).astype(x.dtype)
        x = self.style.norm(self.dtype, "norm_in")(behind_class_token(x, first) + positions)
        x, _ = encoder_of(self)(x, train=train)
        return Encoded(x, mask_of(x), self.style.norm(self.dtype, "norm_pooled")(x[:, 0]), class_tokens=1)


class TextTower(nn.Module):
    """ids int32 [T, M], mask bool [T, M] -> Encoded with x [T, M, D] and pooled [T, D]: the token at the text's end.

    Attributes:
      positions: longest text. end: id of the token that ends a text, of which the first counts; None: the highest id of a text
        is its end, as in checkpoints whose config says 2, wrongly; LAST: the last token that the mask shows.
      remat: see `Stack`.
    """

    vocabulary: int = 49408
    positions: int = 77
    width: int = 512
    heads: int = 8
    layers: int = 12
    mlp_ratio: float = 4.0
    end: int | None = 49407
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    style: Style = Style(epsilon=1e-5, activation="gelu_quick")

    @nn.compact
    def __call__(self, ids, mask=None, train=False):
        length = ids.shape[1]
        if length > self.positions:
            raise UserError(f"A text of {length} tokens is too long: this model has positions for {self.positions}.")
        init = nn.initializers.normal(0.02)
        x = nn.Embed(self.vocabulary, self.width, embedding_init=init, dtype=self.dtype, name="words")(ids)
        x = x + self.param("position_table", init, (self.positions, self.width))[:length].astype(x.dtype)
        mask = mask_of(x, mask)
        seen = jnp.tril(jnp.ones((length, length), bool)) & mask[:, None, None]  # [T, 1, M, M]
        x, _ = encoder_of(self)(x, seen, train=train)
        if self.end == LAST:
            end = mask.sum(1) - 1
        else:
            end = jnp.argmax(ids if self.end is None else ids == self.end, axis=1)
        return Encoded(x, mask, at(x, end))


class CLIP(nn.Module):
    """Two towers, a projection of each to vectors of `shared_width`, and a temperature.

    Verbs: encode_image(images), encode_text(ids, mask), and the call of both. Each gives an Encoded with the tower's tokens x
    and pooled [B or T, P], which is projected, but not of length 1.
    Attributes: vision, text: towers, that this module takes a copy of.
    """

    vision: VisionTower = VisionTower()
    text: TextTower = TextTower()
    shared_width: int = 512
    dtype: str = "float32"

    def setup(self):
        self.image_projection = Dense(self.shared_width, use_bias=False, dtype=self.dtype)
        self.text_projection = Dense(self.shared_width, use_bias=False, dtype=self.dtype)
        self.log_scale = self.param("log_scale", nn.initializers.constant(2.6592), ())

    def __call__(self, images, ids, mask=None, train=False):
        """images float [B, H, W, C], ids int32 [T, M], mask bool [T, M] (None: no padding).

        Returns:
          (Encoded of the images, Encoded of the texts, logits [B, T]: cosines times the temperature's inverse).
        """
        image, text = self.encode_image(images, train), self.encode_text(ids, mask, train)
        cosines = direction(image.pooled) @ direction(text.pooled).T
        return image, text, cosines * jnp.exp(self.log_scale)

    def encode_image(self, images, train=False):
        """images float [B, H, W, C] -> Encoded with pooled [B, P]."""
        out = self.vision(images, train)
        return out.replace(pooled=self.image_projection(out.pooled))

    def encode_text(self, ids, mask=None, train=False):
        """ids int32 [T, M], mask bool [T, M] -> Encoded with pooled [T, P]."""
        out = self.text(ids, mask, train)
        return out.replace(pooled=self.text_projection(out.pooled))


def direction(x):
    """Vectors [..., P] of length 1, float32."""
    x = x.astype(jnp.float32)
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)

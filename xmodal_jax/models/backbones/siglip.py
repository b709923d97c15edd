"""SigLIP (Zhai et al., 2023): CLIP's towers without class token and causal mask, whose pairs are told apart by a sigmoid.

Letters: B images, T texts, h and w rows and columns of patches, N = h w, M tokens of a text, D width, P shared width.
"""

import flax.linen as nn
import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.models.attend import attend
from xmodal_jax.models.attention import heads_first
from xmodal_jax.models.backbones.clip import direction
from xmodal_jax.models.backbones.encoded import Encoded, mask_of
from xmodal_jax.models.backbones.vit import PatchEmbed, check_grid
from xmodal_jax.models.dense import Dense
from xmodal_jax.models.transformer import ACTIVATIONS, Style, encoder_of

STYLE = Style(epsilon=1e-6, activation="gelu")


class Probe(nn.Module):
    """Tokens [B, N, D] -> [B, D]: a learned query attends to them, and an MLP follows (Lee et al., 2019)."""

    heads: int
    mlp_width: int
    dtype: str = "float32"
    style: Style = STYLE

    @nn.compact
    def __call__(self, x):
        B, _, D = x.shape
        probe = self.param("probe_token", nn.initializers.normal(0.02), (1, 1, D)).astype(x.dtype)
        both = jnp.concatenate([jnp.broadcast_to(probe, (B, 1, D)), x], axis=1)
        q, k, v = heads_first(Dense((3, self.heads, D // self.heads), dtype=self.dtype, name="qkv")(both))
        y = attend(q[:, :, :1], k[:, :, 1:], v[:, :, 1:])  # [B, H, 1, d]
        y = Dense(D, dtype=self.dtype, name="out")(y.reshape(B, D))
        z = self.style.norm(self.dtype, "norm")(y)
        z = ACTIVATIONS[self.style.activation](Dense(self.mlp_width, dtype=self.dtype, name="up")(z))
        return y + Dense(D, dtype=self.dtype, name="down")(z)


class SiglipVision(nn.Module):
    """Normalised images float [B, H, W, C] -> Encoded with x [B, N, D] and pooled [B, D], of `Probe`.

    Attributes: grid: (rows, columns) of the learned position table; images must have as many patches. pool: whether there is a
    probe; else pooled is the mean of x. remat: see `Stack`.
    """

    width: int = 768
    heads: int = 12
    layers: int = 12
    mlp_ratio: float = 4.0
    patch: int = 16
    grid: tuple = (14, 14)
    pool: bool = True
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    style: Style = STYLE

    @nn.compact
    def __call__(self, images, train=False):
        x = PatchEmbed(self.width, self.patch, dtype=self.dtype, name="patch_embed")(images)
        B, rows, columns, D = x.shape
        check_grid(images, (rows, columns), self.grid)
        positions = self.param("position_table", nn.initializers.normal(0.02), (1, rows * columns, D))
        x, _ = encoder_of(self)(x.reshape(B, -1, D) + positions.astype(x.dtype), train=train)
        if not self.pool:
            return Encoded(x, mask_of(x), x.mean(1))
        pooled = Probe(self.heads, round(D * self.mlp_ratio), self.dtype, self.style, name="probe")(x)
        return Encoded(x, mask_of(x), pooled)


class SiglipText(nn.Module):
    """ids int32 [T, M], mask bool [T, M] -> Encoded with x [T, M, D] and pooled [T, P]: the projected last token.

    The public models see a text filled up to `positions` tokens with its end mark, all of which attend to each other: leave out
    the mask to do as they do. Attributes: positions: longest text; shared_width: P. remat: see `Stack`.
    """

    vocabulary: int = 32000
    positions: int = 64
    width: int = 768
    heads: int = 12
    layers: int = 12
    mlp_ratio: float = 4.0
    shared_width: int = 768
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    style: Style = STYLE

    @nn.compact
    def __call__(self, ids, mask=None, train=False):
        length = ids.shape[1]
        if length > self.positions:
            raise UserError(f"A text of {length} tokens is too long: this model has positions for {self.positions}.")
        init = nn.initializers.normal(0.02)
        x = nn.Embed(self.vocabulary, self.width, embedding_init=init, dtype=self.dtype, name="words")(ids)
        x = x + self.param("position_table", init, (self.positions, self.width))[:length].astype(x.dtype)
        seen = None if mask is None else mask[:, None, None].astype(bool)
        x, _ = encoder_of(self)(x, seen, train=train)
        return Encoded(x, mask_of(x, mask), Dense(self.shared_width, dtype=self.dtype, name="projection")(x[:, -1]))


class SigLIP(nn.Module):
    """Two towers whose pooled vectors lie in one space, a temperature and an offset.

    Verbs: encode_image(images), encode_text(ids, mask), and the call of both. Attributes: vision, text: towers, that this
    module takes a copy of.
    """

    vision: SiglipVision = SiglipVision()
    text: SiglipText = SiglipText()

    def setup(self):
        self.log_scale = self.param("log_scale", nn.initializers.zeros, (1,))
        self.similarity_bias = self.param("similarity_bias", nn.initializers.zeros, (1,))

    def __call__(self, images, ids, mask=None, train=False):
        """images float [B, H, W, C], ids int32 [T, M], mask bool [T, M] (None: no padding).

        Returns:
          (Encoded of the images, Encoded of the texts, logits [B, T]: cosines times the temperature's inverse, and the offset:
          the probability of a pair is their sigmoid).
        """
        image, text = self.vision(images, train), self.text(ids, mask, train)
        cosines = direction(image.pooled) @ direction(text.pooled).T
        return image, text, cosines * jnp.exp(self.log_scale) + self.similarity_bias

    def encode_image(self, images, train=False):
        """images float [B, H, W, C] -> Encoded with pooled [B, P]."""
        return self.vision(images, train)

    def encode_text(self, ids, mask=None, train=False):
        """ids int32 [T, M], mask bool [T, M] -> Encoded with pooled [T, P]."""
        return self.text(ids, mask, train)

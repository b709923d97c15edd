"""BLIP (Li et al., 2022): a vision transformer and a BERT that reads the image, as its public checkpoints have them.

Letters: B pairs, N image tokens, T tokens of a text, D width of the texts, V vocabulary, P shared width.
"""

import flax.linen as nn
import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.models.backbones.bert import TextEmbed
from xmodal_jax.models.backbones.encoded import Encoded, mask_of
from xmodal_jax.models.backbones.gpt2 import causal
from xmodal_jax.models.backbones.vit import PatchEmbed, behind_class_token, check_grid
from xmodal_jax.models.dense import Dense
from xmodal_jax.models.transformer import ACTIVATIONS, Stack, Style, encoder_of


class BlipVision(nn.Module):
    """Normalised images float [B, H, W, C] -> Encoded with x [B, N, D], and pooled [B, D]: the class token, normed twice."""

    width: int = 768
    heads: int = 12
    layers: int = 12
    mlp_ratio: float = 4.0
    patch: int = 16
    grid: tuple = (24, 24)
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    style: Style = Style(epsilon=1e-5, activation="gelu_exact", closing_norm=False)

    @nn.compact
    def __call__(self, images, train=False):
        x = PatchEmbed(self.width, self.patch, dtype=self.dtype, name="patch_embed")(images)
        _, rows, columns, D = x.shape
        check_grid(images, (rows, columns), self.grid)
        first = self.param("class_token", nn.initializers.normal(0.02), (1, 1, D))
        positions = self.param("position_table", nn.initializers.normal(0.02), (1, 1 + rows * columns, D))
        x, _ = encoder_of(self)(behind_class_token(x, first) + positions.astype(x.dtype), train=train)
        norm = self.style.norm(self.dtype, "norm")
        x = norm(x)
        return Encoded(x, mask_of(x), norm(x[:, 0]), class_tokens=1)


class BlipText(nn.Module):
    """ids int32 [B, T] and what they read, float [B, N, *] or None -> Encoded with x [B, T, D].

    Attributes: writes: words see only those before them, and logits [B, T, V] are of each next one. pooler: pooled is
    tanh(W x_0), else x_0. remat: see `Stack`.
    """

    vocabulary: int = 30524
    positions: int = 512
    width: int = 768
    heads: int = 12
    layers: int = 12
    mlp_ratio: float = 4.0
    writes: bool = False
    pooler: bool = False
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    style: Style = Style(post_norm=True, epsilon=1e-12, activation="gelu_exact")

    @nn.compact
    def __call__(self, ids, mask=None, context=None, context_mask=None, train=False):
        mask = jnp.ones(ids.shape, bool) if mask is None else mask.astype(bool)
        embed = TextEmbed(
            self.vocabulary, self.positions, 0, self.width, None, self.dropout, self.style.epsilon, self.dtype, name="embed"
        )  # fmt: skip
        stack = Stack(
            self.layers, self.width, self.heads, self.mlp_ratio, True, self.dropout, self.remat, self.dtype, style=self.style,
            name="encoder",
        )  # fmt: skip
        seen = None if context_mask is None else context_mask[:, None, None].astype(bool)
        x, _ = stack(
            embed(ids, mask, train=train), causal(mask) if self.writes else mask[:, None, None], context, seen, train=train
        )
        pooled = jnp.tanh(Dense(self.width, dtype=self.dtype, name="pooler")(x[:, 0])) if self.pooler else x[:, 0]
        if not self.writes:
            return Encoded(x, mask, pooled)
        y = ACTIVATIONS[self.style.activation](Dense(self.width, dtype=self.dtype, name="lm_hidden")(x))
        y = embed.scores(self.style.norm(self.dtype, "lm_norm")(y))
        return Encoded(x, mask, pooled, y + self.param("lm_bias", nn.initializers.zeros, (self.vocabulary,)).astype(y.dtype))


class BLIP(nn.Module):
    """What a checkpoint holds of: vision; text, which reads the image or goes without; decoder, which writes of what it reads.

    Verbs: encode_image(images); encode_text(ids, mask, image): with `image`, what `encode_image` gave, a text that has read it,
    without, the text alone; vectors(image, text) [B, P] each, for cosines; match(text) [B, 2], of a text that has read the
    image; decode(ids, mask, seen): the logits [B, T, V] of captions, or of answers to a text that has read the image.
    Attributes: text, decoder: None where the checkpoint has none. shared_width: P, of linear maps with `projection_bias` (those
    for retrieval have one), 0: none. matches: whether there is a head for it. scaled: whether there is a temperature.
    """

    vision: BlipVision = BlipVision()
    text: BlipText | None = None
    decoder: BlipText | None = None
    shared_width: int = 0
    projection_bias: bool = True
    matches: bool = False
    scaled: bool = False
    dtype: str = "float32"

    def setup(self):
        if self.shared_width:
            self.image_projection, self.text_projection = (
                Dense(self.shared_width, use_bias=self.projection_bias, dtype=self.dtype) for _ in range(2)
            )
        if self.matches:
            self.match_head = Dense(2, dtype=self.dtype)
        if self.scaled:
            self.log_scale = self.param("log_scale", nn.initializers.constant(2.6592), ())

    def encode_image(self, images, train=False):
        return self.vision(images, train=train)

    def encode_text(self, ids, mask=None, image=None, train=False):
        if self.text is None:
            raise UserError("This BLIP writes captions alone: it has no encoder of texts.")
        return self.text(ids, mask, None if image is None else image.x, train=train)

    def vectors(self, image, text):
        """Not of length 1. The model for retrieval projects the normed class token, the dual encoder the pooled vectors."""
        seen = image.x[:, 0] if self.projection_bias else image.pooled
        return self.image_projection(seen), self.text_projection(text.pooled)

    def match(self, text):
        return self.match_head(text.x[:, 0])

    def decode(self, ids, mask, seen, train=False):
        if self.decoder is None:
            raise UserError("This BLIP writes nothing: it has no decoder.")
        return self.decoder(ids, mask, seen.x, seen.mask, train=train).logits

    def __call__(self, images, ids, mask=None, train=False):
        """Touches every parameter; -> (Encoded of the images, of the texts that have read them or None, logits or None)."""
        image = self.encode_image(images, train)
        text = self.encode_text(ids, mask, image, train) if self.text is not None else None
        if self.shared_width:
            self.vectors(image, text)
        if self.matches:
            self.match(text)
        logits = None
        if self.decoder is not None:
            logits = self.decode(ids, mask, image if text is None else text, train)
        return image, text, logits

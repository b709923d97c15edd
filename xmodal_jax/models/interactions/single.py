"""Fusion in a single stream: words and image tokens side by side in one transformer (VisualBERT, UNITER, ViLT, ...).

Letters: B batch, T words, N image tokens, M = T + N, D width.
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.models.backbones.encoded import Encoded
from xmodal_jax.models.backbones.t5 import LONGEST, NEW, relations_of, relative_bias
from xmodal_jax.models.backbones.vit import behind_class_token
from xmodal_jax.models.interactions.fused import Fused, pooled, refuse_mode
from xmodal_jax.models.transformer import Stack, Style, encoder_of
from xmodal_jax.models.vectors import masked_mean

MODES = ("both", "prefix", "causal", "sequence")


class Single(nn.Module):
    """[text + kind 0 ; image + kind 1] through one stack.

    Attributes:
      post_norm: BERT's order of normalisation, else ViT's. kinds: add a learned vector of each modality (ViLT); rows whose
        encoders add their own go without.
      after: further blocks behind, of each modality alone (InterBERT, Lin et al., 2020); after_heads: of the image's, 0: heads.
      pictured_words: every word also carries the picture, the mean of its tokens, normalised to nothing at the start (VL-BERT,
        Su et al., 2020).
      unimodal: where texts and pictures have vectors of one space, each goes through the stack alone for it (UNIMO, Li et al.,
        2021); else these are the encoders' own (FLAVA).
      blocks: "bert", whose words bring their positions along; "t5", whose attention knows how far apart words are, while image
        tokens have no order (VL-T5, Cho et al., 2021).
      class_token: a learned vector stands in front of the words, and the pair's vector is read from it (FLAVA, Singh et al.,
        2022); else from the first word.
      pool: what the pair's vector is, see `fused.pooled`.
    """

    width: int = 768
    heads: int = 12
    layers: int = 12
    mlp_ratio: float = 4.0
    post_norm: bool = False
    kinds: bool = True
    after: int = 0
    after_heads: int = 0
    pictured_words: bool = False
    unimodal: bool = False
    class_token: bool = False
    blocks: str = "bert"
    pool: str = "first"
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    style: Style = Style(epsilon=1e-12, activation="gelu_exact")

    def alone(self, encoded, modality, train=False):
        """`Encoded` of one modality -> its tokens [B, M, D] through the same stack (UNIMO, Li et al., 2021), None: there is no
        other way through it."""
        if modality == "text":
            return self(encoded, None, train=train).text, None
        return self(None, encoded, train=train).image, None

    @nn.compact
    def __call__(self, text, image, mode="both", train=False):
        """text, image: `Encoded`, one of them may be None. mode: "both", every token sees every token; "prefix", the image sees
        itself alone, words see it and one another; "causal", words see the image and the words before them, as a decoder does;
        "sequence", every token sees those before it, the image stands behind the words (DALL-E, Ramesh et al., 2021); bool [B]:
        which rows are causal, the others are both (UniLM, Dong et al., 2019)."""
        if isinstance(mode, str):
            refuse_mode(self, mode, MODES)
        if self.blocks not in ("bert", "t5"):
            raise UserError(f"config.model.interaction.blocks={self.blocks!r}: must be bert or t5.")
        one = image if text is None else text
        none = Encoded(jnp.zeros((len(one.x), 0, self.width), self.dtype), jnp.zeros((len(one.x), 0), bool))
        text, image = text or none, image or none
        if text.x.shape[-1] != self.width or image.x.shape[-1] != self.width:
            raise UserError(
                f"config.model.interaction: a single stream {self.width} wide cannot take words {text.x.shape[-1]} and image "
                f"tokens {image.x.shape[-1]} wide: give all three one width."
            )
        words, places = text.x, image.x
        if self.pictured_words:
            norm = nn.LayerNorm(self.style.epsilon, dtype=self.dtype, scale_init=nn.initializers.zeros, name="norm_picture")
            words = words + norm(masked_mean(places, image.mask))[:, None]
        if self.kinds:
            kinds = self.param("modality", nn.initializers.normal(0.02), (2, self.width)).astype(words.dtype)
            words, places = words + kinds[0], places + kinds[1]
        read = text.mask
        if self.class_token:
            first = self.param("class_token", nn.initializers.normal(0.02), (1, 1, self.width)).astype(words.dtype)
            words, read = behind_class_token(words[:, None], first), jnp.pad(read, ((0, 0), (1, 0)), constant_values=True)
        T = words.shape[1]
        x = jnp.concatenate([words, places], axis=1)  # [B, M, D]
        style, relation = dataclasses.replace(self.style, post_norm=self.post_norm), None
        if self.blocks == "t5":
            style, behind = NEW, x.shape[1] - T
            relation = relative_bias(relations_of(self), LONGEST, T, T, 0, True)  # [1, H, T, T]
            relation = jnp.pad(relation, ((0, 0), (0, 0), (0, behind), (0, behind)))  # [1, H, M, M]
        x, _ = encoder_of(self, style)(x, allowed(read, image.mask, mode), relation=relation, train=train)
        words, places = x[:, :T], x[:, T:]
        if self.after and words.shape[1] and places.shape[1]:
            own = {"dropout": self.dropout, "remat": self.remat, "dtype": self.dtype, "style": style}
            behind = Stack(self.after, self.width, self.heads, self.mlp_ratio, **own, name="text")
            words, _ = behind(words, allowed(read, image.mask[:, :0], mode), train=train)
            behind = Stack(self.after, self.width, self.after_heads or self.heads, self.mlp_ratio, **own, name="image")
            places, _ = behind(places, image.mask[:, None, None], train=train)
        if not (words.shape[1] and places.shape[1]):
            return Fused(words, places, text.mask, image.mask, None)
        pair = pooled(self.pool, self.width, self.dtype, words[:, 0], places[:, 0])
        words = words[:, int(self.class_token) :]
        return Fused(words, places, text.mask, image.mask, pair)


def allowed(text, image, mode):
    """Masks of real words bool [B, T] and of real image tokens [B, N] -> what may attend to what, bool [B, 1, 1 or M, M]."""
    there = jnp.concatenate([text, image], axis=1)[:, None, None]  # [B, 1, 1, M]
    if not isinstance(mode, str):
        return jnp.where(mode[:, None, None, None], allowed(text, image, "causal"), there)
    if mode == "both":
        return there
    T, M = text.shape[1], there.shape[-1]
    if mode == "sequence":
        return there & jnp.tri(M, dtype=bool)
    from_word, to_word = jnp.arange(M)[:, None] < T, jnp.arange(M)[None] < T
    seen = from_word | ~to_word  # words see all, image tokens image tokens
    if mode == "causal":
        seen &= ~(from_word & to_word) | jnp.tri(M, dtype=bool)
    return there & seen[None, None]

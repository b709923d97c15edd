"""Fusion in a single stream: words and image tokens side by side in one transformer (VisualBERT, UNITER, ViLT, ...).

Letters: B batch, T words, N image tokens, M = T + N, D width.
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.models.dense import Dense
from xmodal_jax.models.interactions.fused import Fused
from xmodal_jax.models.transformer import Style, encoder_of

MODES = ("both", "prefix", "causal")


class Single(nn.Module):
    """[text + kind 0 ; image + kind 1] through one stack.

    Attributes:
      post_norm: BERT's order of normalisation, else ViT's. kinds: add a learned vector of each modality (ViLT); rows whose
        encoders add their own go without. pooler: pooled is tanh(W x_0) of the first word, else x_0 itself.
    """

    width: int = 768
    heads: int = 12
    layers: int = 12
    mlp_ratio: float = 4.0
    post_norm: bool = False
    kinds: bool = True
    pooler: bool = True
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    style: Style = Style(epsilon=1e-12, activation="gelu_exact")

    @nn.compact
    def __call__(self, text, image, mode="both", train=False):
        """mode: "both", every token sees every token; "prefix", the image sees itself alone, words see it and one another;
        "causal", words see the image and the words before them, as a decoder does."""
        if text.x.shape[-1] != self.width or image.x.shape[-1] != self.width:
            raise UserError(
                f"config.model.interaction: a single stream {self.width} wide cannot take words {text.x.shape[-1]} and image "
                f"tokens {image.x.shape[-1]} wide: give all three one width."
            )
        words, places = text.x, image.x
        if self.kinds:
            kinds = self.param("modality", nn.initializers.normal(0.02), (2, self.width)).astype(words.dtype)
            words, places = words + kinds[0], places + kinds[1]
        T = words.shape[1]
        x = jnp.concatenate([words, places], axis=1)  # [B, M, D]
        style = dataclasses.replace(self.style, post_norm=self.post_norm)
        x, _ = encoder_of(self, style)(x, allowed(text.mask, image.mask, mode), train=train)
        pooled = jnp.tanh(Dense(self.width, dtype=self.dtype, name="pooler")(x[:, 0])) if self.pooler else x[:, 0]
        return Fused(x[:, :T], x[:, T:], text.mask, image.mask, pooled)


def allowed(text, image, mode):
    """Masks of real words bool [B, T] and of real image tokens [B, N] -> what may attend to what, bool [B, 1, 1 or M, M]."""
    if mode not in MODES:
        raise UserError(f"mode={mode!r}: must be one of {', '.join(MODES)}.")
    there = jnp.concatenate([text, image], axis=1)[:, None, None]  # [B, 1, 1, M]
    if mode == "both":
        return there
    T, M = text.shape[1], there.shape[-1]
    from_word, to_word = jnp.arange(M)[:, None] < T, jnp.arange(M)[None] < T
    seen = from_word | ~to_word  # words see all, image tokens image tokens
    if mode == "causal":
        seen &= ~(from_word & to_word) | jnp.tri(M, dtype=bool)
    return there & seen[None, None]

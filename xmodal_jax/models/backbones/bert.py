"""BERT (Devlin et al., 2019) and RoBERTa (Liu et al., 2019): text encoders that normalise after each sub-layer.

Letters: B batch, T tokens, D width, V vocabulary.
"""

import flax.linen as nn
import jax.numpy as jnp

from xmodal_jax.models.backbones.encoded import Encoded
from xmodal_jax.models.dense import Dense
from xmodal_jax.models.transformer import ACTIVATIONS, Style, encoder_of


class TextEmbed(nn.Module):
    """ids, types int32 [B, T], mask bool [B, T] -> [B, T, D]: words + positions + types, normalised.

    Attributes: types: kinds of segments, 0: no vectors of them. pad_positions: RoBERTa's: words are counted from this number
    + 1, padding stands at it. None: 0, 1, 2, ...
    """

    vocabulary: int
    positions: int
    types: int
    width: int
    pad_positions: int | None = None
    dropout: float = 0.0
    epsilon: float = 1e-12
    dtype: str = "float32"

    def setup(self):
        init = nn.initializers.normal(0.02)
        self.words = nn.Embed(self.vocabulary, self.width, embedding_init=init, dtype=self.dtype)
        self.places = nn.Embed(self.positions, self.width, embedding_init=init, dtype=self.dtype)
        if self.types:
            self.kinds = nn.Embed(self.types, self.width, embedding_init=init, dtype=self.dtype)
        self.norm = Style(epsilon=self.epsilon).norm(self.dtype, None)
        self.drop = nn.Dropout(self.dropout)

    def __call__(self, ids, mask, types=None, train=False):
        if self.pad_positions is None:
            places = jnp.arange(ids.shape[1])[None]
        else:
            places = jnp.cumsum(mask, axis=1) * mask + self.pad_positions
        x = self.words(ids) + self.places(places)
        if self.types:
            x = x + self.kinds(jnp.zeros_like(ids) if types is None else types)
        return self.drop(self.norm(x), deterministic=not train)

    def scores(self, x):
        """Products with every word's vector: [..., D] -> [..., V]."""
        return self.words.attend(x)


class BERT(nn.Module):
    """Text encoder -> Encoded with x [B, T, D].

    Attributes:
      pooler: pooled is tanh(W x_0), else x_0. masked_lm: logits [B, T, V] over words, whose vectors are the output's weights.
      next_sentence: pair_logits [B, 2]. labels: classes of a head (0: none), on the pooled vector; with head_hidden (RoBERTa's)
        on tanh(W x_0).
      pad_positions: see `TextEmbed`. remat: see `Stack`.
    """

    vocabulary: int = 30522
    positions: int = 512
    types: int = 2
    width: int = 768
    heads: int = 12
    layers: int = 12
    mlp_ratio: float = 4.0
    pad_positions: int | None = None
    pooler: bool = False
    masked_lm: bool = False
    next_sentence: bool = False
    labels: int = 0
    head_hidden: bool = False
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    style: Style = Style(post_norm=True, epsilon=1e-12, activation="gelu_exact")

    @nn.compact
    def __call__(self, ids, mask=None, types=None, train=False):
        """ids, types int32 [B, T], mask bool [B, T] (None: no padding)."""
        mask = jnp.ones(ids.shape, bool) if mask is None else mask.astype(bool)

        def dense(size, name):
            return Dense(size, dtype=self.dtype, name=name)

        embed = TextEmbed(
            self.vocabulary, self.positions, self.types, self.width, self.pad_positions, self.dropout, self.style.epsilon,
            self.dtype, name="embed",
        )  # fmt: skip
        x = embed(ids, mask, types, train)
        x, _ = encoder_of(self)(x, mask[:, None, None], train=train)
        pooled = jnp.tanh(dense(self.width, "pooler")(x[:, 0])) if self.pooler else x[:, 0]
        pair = dense(2, "next_sentence")(pooled) if self.next_sentence else None
        logits = None
        if self.masked_lm:
            y = ACTIVATIONS[self.style.activation](dense(self.width, "lm_hidden")(x))
            y = embed.scores(self.style.norm(self.dtype, "lm_norm")(y))
            logits = y + self.param("lm_bias", nn.initializers.zeros, (self.vocabulary,)).astype(y.dtype)
        elif self.labels:
            y = jnp.tanh(dense(self.width, "head_hidden")(x[:, 0])) if self.head_hidden else pooled
            logits = dense(self.labels, "classifier")(y)
        return Encoded(x, mask, pooled, logits, pair)

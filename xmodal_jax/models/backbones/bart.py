"""BART (Lewis et al., 2020): BERT's blocks as an encoder and a decoder of text, with learned positions in each.

Letters: B batch, M encoder tokens, T decoder tokens, D width, V vocabulary.
"""

import math

import flax.linen as nn
import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.models.backbones.encoded import Encoded, mask_of
from xmodal_jax.models.backbones.gpt2 import GPT2, causal
from xmodal_jax.models.transformer import Style, empty_cache, encoder_of

STYLE = Style(post_norm=True, epsilon=1e-5, activation="gelu_exact")


class BARTDecoder(GPT2):
    """Of text, as a part of larger models: what `GPT2` gives, by blocks that normalise after each sum, as their embeddings do.

    Attributes: offset: rows of the table of positions before that of the first token. scaled: words' vectors are multiplied by
    sqrt D.
    """

    cross: bool = True
    style: Style = STYLE
    offset: int = 0
    scaled: bool = False

    def setup(self):
        if self.unimodal:
            raise UserError(f"decoder.unimodal={self.unimodal}: blocks that never see the context are GPT-2's alone.")
        super().setup()
        self.norm_in = self.style.norm(self.dtype, None)

    def embed(self, ids, start, train):
        x = self.vectors(ids) + self.places(self.offset + start + jnp.arange(ids.shape[1]))[None]
        return self.drop(self.norm_in(x), deterministic=not train)

    def vectors(self, ids):
        """Of words: ids [B, T] -> [B, T, D]."""
        return self.words(ids) * math.sqrt(self.width) if self.scaled else self.words(ids)


class BART(nn.Module):
    """An encoder, and a decoder that attends to what it gives: ids -> logits of the next word.

    Attributes: layers, decoder_layers: of the two stacks; positions: rows of either table, `offset` of them before that of the
    first token; scaled: see `BARTDecoder`; biased: logits have a constant each. dropout, remat: see `Stack`.
    """

    vocabulary: int = 50265
    positions: int = 1026
    width: int = 768
    heads: int = 12
    layers: int = 6
    decoder_layers: int = 6
    mlp_ratio: float = 4.0
    offset: int = 2
    scaled: bool = False
    biased: bool = False
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    style: Style = STYLE

    def setup(self):
        self.encoder = encoder_of(self)
        self.places = nn.Embed(self.positions, self.width, embedding_init=nn.initializers.normal(0.02), dtype=self.dtype)
        self.norm_in = self.style.norm(self.dtype, None)
        self.drop = nn.Dropout(self.dropout)
        self.decoder = BARTDecoder(
            self.vocabulary, self.positions, self.width, self.heads, self.decoder_layers, self.mlp_ratio, dropout=self.dropout,
            remat=self.remat, dtype=self.dtype, style=self.style, offset=self.offset, scaled=self.scaled,
        )  # fmt: skip
        if self.biased:
            self.logits_bias = self.param("logits_bias", nn.initializers.zeros, (1, self.vocabulary))

    def __call__(self, ids, inputs, mask=None, inputs_mask=None, train=False):
        """ids int32 [B, M] to be encoded; inputs int32 [B, T] of the decoder; masks bool (None: no padding).

        Returns Encoded of the decoder, with x [B, T, D] and logits float32 [B, T, V].
        """
        encoded, inputs_mask = self.encode(ids, mask, train), mask_of(inputs, inputs_mask)
        x, _ = self.decoder.states(inputs, 0, causal(inputs_mask), encoded.x, encoded.mask, train=train)
        return Encoded(x, inputs_mask, logits=self.told(self.decoder.scores(x)))

    def encode(self, ids, mask=None, train=False):
        """ids int32 [B, M], mask bool [B, M] -> Encoded with x [B, M, D]."""
        mask = mask_of(ids, mask)
        x = self.decoder.vectors(ids) + self.places(self.offset + jnp.arange(ids.shape[1]))[None]
        x = self.drop(self.norm_in(x), deterministic=not train)
        return Encoded(self.encoder(x, mask[:, None, None], train=train)[0], mask)

    def decode(self, ids, encoded, cache, index):
        """Logits float32 [B, T, V] of ids [B, T] that stand at positions index, index + 1, ..., and the cache with them
        written. encoded: what `encode` gave; cache: of `cache`."""
        logits, cache = self.decoder.decode(ids, cache, index, encoded.x, encoded.mask)
        return self.told(logits), cache

    def told(self, logits):
        return logits + self.logits_bias if self.biased else logits

    def cache(self, batch, length):
        """An empty key-value cache for `length` words."""
        return empty_cache(self.decoder_layers, batch, self.heads, length, self.width, self.dtype)

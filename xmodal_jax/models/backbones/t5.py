"""T5 (Raffel et al., 2020): an encoder and a decoder of text whose only positions are biases of the attention scores.

Letters: B batch, M encoder tokens, T decoder tokens, N queries, S keys or length of a cache, D width, H heads, V vocabulary.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from xmodal_jax.errors import UserError
from xmodal_jax.models.backbones.encoded import Encoded, mask_of
from xmodal_jax.models.backbones.gpt2 import GPT2
from xmodal_jax.models.dense import Dense
from xmodal_jax.models.transformer import Stack, Style, empty_cache, encoder_of
from xmodal_jax.models.vectors import masked_mean


def log_buckets(distances, buckets, longest, both_ways):
    """Distances key - query -> buckets, int32: half of them exact, the others logarithmic up to `longest` (section 2.1).

    both_ways: half of the buckets are for keys behind the query; else those count as distance 0.
    """
    first = 0
    if both_ways:
        buckets //= 2
        first = np.where(distances > 0, buckets, 0)
    size = np.abs(distances) if both_ways else np.maximum(-distances, 0)
    exact = buckets // 2
    # in float32, as the original: a bucket must not change where the logarithm is all but a whole number
    far = np.log(np.maximum(size, exact).astype(np.float32) / np.float32(exact))
    far = exact + (far / np.float32(math.log(longest / exact)) * np.float32(buckets - exact)).astype(np.int32)
    return (first + np.where(size < exact, size, np.minimum(far, buckets - 1))).astype(np.int32)


def relative_bias(table, longest, queries, keys, start, both_ways):
    """[1, H, N, S] of a table [buckets, H]: for queries at start, start + 1, ... and keys at 0, 1, ...; all layers share it."""
    rows = jnp.asarray(log_buckets(np.arange(1 - keys, keys), len(table), longest, both_ways))  # of each distance
    distances = jnp.arange(keys) - (start + jnp.arange(queries))[:, None]
    return jnp.moveaxis(table[rows[distances + keys - 1]], -1, 0)[None]


# Of new parts: scores are divided by sqrt d. T5 itself lets its projections start so much smaller: the same functions.
NEW = Style(rms=True, use_bias=False, activation="relu")
BUCKETS, LONGEST = 32, 128


def relations_of(module):
    """The parameter [buckets, H] of a module's relative positions."""
    return module.param("relations", nn.initializers.normal(module.width**-0.5), (BUCKETS, module.heads))


class T5Encoder(nn.Module):
    """Of text, as a part of larger models: ids -> Encoded with x [B, M, D] and their mean; without layers words' vectors."""

    vocabulary: int = 32128
    width: int = 512
    heads: int = 8
    layers: int = 6
    mlp_ratio: float = 4.0
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    style: Style = NEW

    @nn.compact
    def __call__(self, ids, mask=None, train=False):
        """ids int32 [B, M], mask bool [B, M] (None: no padding)."""
        mask, drop = mask_of(ids, mask), nn.Dropout(self.dropout, deterministic=not train)
        init = nn.initializers.normal(1.0)
        x = drop(nn.Embed(self.vocabulary, self.width, embedding_init=init, dtype=self.dtype, name="words")(ids))
        if self.layers:
            bias = relative_bias(relations_of(self), LONGEST, ids.shape[1], ids.shape[1], 0, True)
            x = drop(encoder_of(self)(x, mask[:, None, None], relation=bias, train=train)[0])
        return Encoded(x, mask, masked_mean(x, mask))


class T5Decoder(GPT2):
    """Of text, as a part of larger models: what `GPT2` gives, by T5's blocks, which count no positions."""

    positions: int = 0
    cross: bool = True
    style: Style = NEW

    def setup(self):
        if self.unimodal:
            raise UserError(f"decoder.unimodal={self.unimodal}: blocks that never see the context are GPT-2's alone.")
        self.words = nn.Embed(self.vocabulary, self.width, embedding_init=nn.initializers.normal(1.0), dtype=self.dtype)
        shape = (self.layers, self.width, self.heads, self.mlp_ratio, self.cross)
        self.decoder = Stack(*shape, self.dropout, self.remat, self.dtype, False, self.style)
        self.relations = relations_of(self)
        self.drop = nn.Dropout(self.dropout)

    def states(self, ids, start, mask, context, context_mask, cache=None, index=None, train=False):
        keys = ids.shape[1] if cache is None else cache["k"].shape[3]
        bias = relative_bias(self.relations, LONGEST, ids.shape[1], keys, start, False)
        seen = None if context_mask is None else context_mask[:, None, None].astype(bool)
        x, cache = self.decoder(self.embed(ids, start, train), mask, context, seen, cache, index, bias, train)
        return self.drop(x, deterministic=not train), cache

    def embed(self, ids, start, train):
        return self.drop(self.words(ids), deterministic=not train)

    def scores(self, x):
        return self.words.attend(x * self.width**-0.5).astype(jnp.float32)


class T5(nn.Module):
    """An encoder, and a decoder that attends to what it gives: ids -> logits of the next word.

    Attributes:
      layers, decoder_layers: of the two stacks. buckets: of relative positions; longest: from this distance on all are alike.
      tied: the words' vectors are the output's weights, else it has its own. scale_outputs: decoder states are divided by
        sqrt D before them (T5 1.0, not 1.1). dropout, remat: see `Stack`.
      style: head_width is that of the checkpoint, which need not be D / H.
    """

    vocabulary: int = 32128
    width: int = 512
    heads: int = 8
    layers: int = 6
    decoder_layers: int = 6
    mlp_ratio: float = 4.0
    buckets: int = 32
    longest: int = 128
    tied: bool = True
    scale_outputs: bool = True
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    style: Style = Style(rms=True, use_bias=False, scale=1.0, activation="relu")

    def setup(self):
        def stack(layers, cross):
            return Stack(
                layers, self.width, self.heads, self.mlp_ratio, cross, self.dropout, self.remat, self.dtype, False, self.style
            )

        init, shape = nn.initializers.normal(self.width**-0.5), (self.buckets, self.heads)
        self.words = nn.Embed(self.vocabulary, self.width, embedding_init=nn.initializers.normal(1.0), dtype=self.dtype)
        self.encoder, self.decoder = stack(self.layers, False), stack(self.decoder_layers, True)
        self.encoder_relations = self.param("encoder_relations", init, shape)
        self.decoder_relations = self.param("decoder_relations", init, shape)
        self.drop = nn.Dropout(self.dropout)
        if not self.tied:
            self.lm_head = Dense(self.vocabulary, use_bias=False, dtype=self.dtype)

    def __call__(self, ids, inputs, mask=None, inputs_mask=None, train=False):
        """ids int32 [B, M] to be encoded; inputs int32 [B, T] of the decoder; masks bool (None: no padding).

        Returns Encoded of the decoder, with x [B, T, D] after the closing norm and logits float32 [B, T, V].
        """
        encoded = self.encode(ids, mask, train)
        x, _ = self.states(inputs, encoded, mask_of(inputs, inputs_mask)[:, None, None], train=train)
        return Encoded(x, mask_of(x, inputs_mask), logits=self.scores(x))

    def encode(self, ids, mask=None, train=False):
        """ids int32 [B, M], mask bool [B, M] -> Encoded with x [B, M, D]."""
        mask, length = mask_of(ids, mask), ids.shape[1]
        bias = self.biases(self.encoder_relations, length, length, 0, True)
        x, _ = self.encoder(self.embed(ids, train), mask[:, None, None], relation=bias, train=train)
        return Encoded(self.drop(x, deterministic=not train), mask)

    def decode(self, ids, encoded, cache=None, index=None):
        """Logits float32 [B, T, V] of ids [B, T], and the cache with them written (None without one).

        Args:
          encoded: what `encode` gave. cache: of `cache`; the ids stand at positions index, index + 1, ...; without a cache
            they are the whole text.
        """
        x, cache = self.states(ids, encoded, None, cache, index)
        return self.scores(x), cache

    def states(self, ids, encoded, mask, cache=None, index=None, train=False):
        """Decoder states [B, T, D] after the closing norm, and the cache; mask: broadcastable to [B, H, T, S], or None."""
        length, start = (ids.shape[1], 0) if cache is None else (cache["k"].shape[3], index)
        allowed = ((start + jnp.arange(ids.shape[1]))[:, None] >= jnp.arange(length))[None, None]
        bias = self.biases(self.decoder_relations, ids.shape[1], length, start, False)
        x, cache = self.decoder(
            self.embed(ids, train), allowed if mask is None else allowed & mask, encoded.x, encoded.mask[:, None, None], cache,
            index, bias, train,
        )  # fmt: skip
        return self.drop(x, deterministic=not train), cache

    def embed(self, ids, train):
        return self.drop(self.words(ids), deterministic=not train)

    def biases(self, table, queries, keys, start, both_ways):
        return relative_bias(table, self.longest, queries, keys, start, both_ways)

    def scores(self, x):
        """Logits float32: [..., D] -> [..., V]."""
        if self.scale_outputs:
            x = x * self.width**-0.5
        return (self.words.attend(x) if self.tied else self.lm_head(x)).astype(jnp.float32)

    def cache(self, batch, length):
        """An empty key-value cache for `length` words."""
        width = self.heads * (self.style.head_width or self.width // self.heads)
        return empty_cache(self.decoder_layers, batch, self.heads, length, width, self.dtype)

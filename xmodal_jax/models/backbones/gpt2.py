"""GPT-2 (Radford et al., 2019): a causal language model, with cross-attention where it describes something.

Letters: B batch, T tokens, S length of a cache, M context tokens, D width, V vocabulary.
"""

import flax.linen as nn
import jax.numpy as jnp

from xmodal_jax.models.backbones.encoded import Encoded
from xmodal_jax.models.transformer import Stack, Style, empty_cache


class GPT2(nn.Module):
    """Attributes: cross: blocks also attend to a context [B, M, D]. dropout, remat: see `Stack`."""

    vocabulary: int = 50257
    positions: int = 1024
    width: int = 768
    heads: int = 12
    layers: int = 12
    mlp_ratio: float = 4.0
    cross: bool = False
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    style: Style = Style(epsilon=1e-5)

    def setup(self):
        init = nn.initializers.normal(0.02)
        self.words = nn.Embed(self.vocabulary, self.width, embedding_init=init, dtype=self.dtype)
        self.places = nn.Embed(self.positions, self.width, embedding_init=init, dtype=self.dtype)
        self.decoder = Stack(
            self.layers, self.width, self.heads, self.mlp_ratio, self.cross, self.dropout, self.remat, self.dtype, False,
            self.style,
        )  # fmt: skip
        self.drop = nn.Dropout(self.dropout)

    def __call__(self, ids, mask=None, context=None, context_mask=None, train=False):
        """ids int32 [B, T], mask bool [B, T] (None: no padding) -> Encoded with logits of the next word, float32 [B, T, V]."""
        mask = jnp.ones(ids.shape, bool) if mask is None else mask.astype(bool)
        causal = jnp.tri(ids.shape[1], dtype=bool)
        x, _ = self.states(ids, 0, causal[None, None] & mask[:, None, None], context, context_mask, train=train)
        return Encoded(x, mask, logits=self.scores(x))

    def decode(self, ids, cache, index, context=None, context_mask=None):
        """Logits float32 [B, T, V] of ids [B, T] that stand at positions index ..., and the cache with them written."""
        length = cache["k"].shape[3]
        allowed = (index + jnp.arange(ids.shape[1]))[:, None] >= jnp.arange(length)  # [T, S]
        x, cache = self.states(ids, index, allowed[None, None], context, context_mask, cache, index)
        return self.scores(x), cache

    def states(self, ids, start, mask, context, context_mask, cache=None, index=None, train=False):
        """Hidden states [B, T, D] after the closing norm, and the cache."""
        x = self.words(ids) + self.places(start + jnp.arange(ids.shape[1]))[None]
        x = self.drop(x, deterministic=not train)
        seen = None if context_mask is None else context_mask[:, None, None].astype(bool)
        return self.decoder(x, mask, context, seen, cache, index, train=train)

    def scores(self, x):
        """Products with every word's vector, float32: [..., D] -> [..., V]."""
        return self.words.attend(x).astype(jnp.float32)

    def cache(self, batch, length):
        """An empty key-value cache for `length` words."""
        return empty_cache(self.layers, batch, self.heads, length, self.width, self.dtype)

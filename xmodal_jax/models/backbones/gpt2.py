"""GPT-2 (Radford et al., 2019): a causal language model, with cross-attention where it describes something.

Letters: B batch, T tokens, S length of a cache, M context tokens, D width, V vocabulary, L layers, H heads, d width of a head.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.models.attention import project_context
from xmodal_jax.models.backbones.encoded import Encoded
from xmodal_jax.models.stacks import is_apart, stacked
from xmodal_jax.models.transformer import Stack, Style, empty_cache


class GPT2(nn.Module):
    """A context is [B, M, D], or what `project_context` made of it; without one the blocks go without cross-attention.

    Attributes: cross: blocks also attend to a context. unimodal: the first blocks, which never do, as in CoCa's decoder (Yu et
    al., 2022): half-way through the text is still the text alone. dropout, remat: see `Stack`.
    """

    vocabulary: int = 50257
    positions: int = 1024
    width: int = 768
    heads: int = 12
    layers: int = 12
    mlp_ratio: float = 4.0
    cross: bool = False
    unimodal: int = 0
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    style: Style = Style(epsilon=1e-5)

    def setup(self):
        if not 0 <= self.unimodal < max(self.layers, 1):
            raise UserError(f"unimodal={self.unimodal} of layers={self.layers}: at least one block must see the context.")
        init = nn.initializers.normal(0.02)
        self.words = nn.Embed(self.vocabulary, self.width, embedding_init=init, dtype=self.dtype)
        self.places = nn.Embed(self.positions, self.width, embedding_init=init, dtype=self.dtype)

        def stack(layers, cross, style):
            shape = (layers, self.width, self.heads, self.mlp_ratio, cross)
            return Stack(*shape, self.dropout, self.remat, self.dtype, False, style)

        if self.unimodal:
            self.text = stack(self.unimodal, False, dataclasses.replace(self.style, closing_norm=False))
        self.decoder = stack(self.layers - self.unimodal, self.cross, self.style)
        self.drop = nn.Dropout(self.dropout)

    def __call__(self, ids, mask=None, context=None, context_mask=None, train=False):
        """ids int32 [B, T], mask bool [B, T] (None: no padding) -> Encoded with logits of the next word, float32 [B, T, V]."""
        mask = jnp.ones(ids.shape, bool) if mask is None else mask.astype(bool)
        x, _ = self.states(ids, 0, causal(mask), context, context_mask, train=train)
        return Encoded(x, mask, logits=self.scores(x))

    def decode(self, ids, cache, index, context=None, context_mask=None):
        """Logits float32 [B, T, V] of ids [B, T] that stand at positions index ..., and the cache with them written."""
        length = cache["k"].shape[3]
        allowed = (index + jnp.arange(ids.shape[1]))[:, None] >= jnp.arange(length)  # [T, S]
        x, cache = self.states(ids, index, allowed[None, None], context, context_mask, cache, index)
        return self.scores(x), cache

    def unimodal_states(self, ids, mask, train=False):
        """Hidden states [B, T, D] of the first blocks alone, of the whole text."""
        x = self.embed(ids, 0, train)
        return self.text(x, causal(mask), train=train)[0]

    def states(self, ids, start, mask, context, context_mask, cache=None, index=None, train=False):
        """Hidden states [B, T, D] after the closing norm, and the cache."""
        x = self.embed(ids, start, train)
        seen = None if context_mask is None else context_mask[:, None, None].astype(bool)
        if not self.unimodal:
            return self.decoder(x, mask, context, seen, cache, index, train=train)
        lower, upper = (jax.tree.map(lambda c, part=part: c[part], cache) for part in self._parts())  # None stays None
        x, lower = self.text(x, mask, cache=lower, index=index, train=train)
        x, upper = self.decoder(x, mask, context, seen, upper, index, train=train)
        return x, jax.tree.map(lambda *parts: jnp.concatenate(parts), lower, upper)

    def _parts(self):
        return slice(None, self.unimodal), slice(self.unimodal, None)

    def embed(self, ids, start, train):
        """ids [B, T] at positions start ... -> [B, T, D]."""
        x = self.words(ids) + self.places(start + jnp.arange(ids.shape[1]))[None]
        return self.drop(x, deterministic=not train)

    def scores(self, x):
        """Products with every word's vector, float32: [..., D] -> [..., V]."""
        return self.words.attend(x).astype(jnp.float32)

    def project_context(self, context):
        """Context [B, M, D] -> its k and v in every cross-attention, {"k", "v": [L, B, H, M, d]}: once for a whole text."""
        layers = self.variables["params"]["decoder"]["layers"]
        if is_apart(layers):
            layers = stacked({name: {"cross": layer["cross"]} for name, layer in layers.items()})
        made = layers["cross"]["kv"]
        return project_context(made["kernel"], made.get("bias"), context, self.dtype)

    def cache(self, batch, length):
        """An empty key-value cache for `length` words."""
        return empty_cache(self.layers, batch, self.heads, length, self.width, self.dtype)


def causal(mask):
    """Padding bool [B, T] -> what each word may attend to: bool [B, 1, T, T]."""
    return jnp.tri(mask.shape[1], dtype=bool)[None, None] & mask[:, None, None]

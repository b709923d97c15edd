"""DeBERTa v2 and v3 (He et al., 2021; 2023): a post-norm text encoder whose attention scores also relate words to distances.

Letters: B batch, T tokens, N queries (and keys), D width, H heads, d width of a head, K span of distances, V vocabulary.
"""

import dataclasses
import functools

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from xmodal_jax.errors import UserError
from xmodal_jax.models.attend import product
from xmodal_jax.models.attention import Attention
from xmodal_jax.models.backbones.encoded import Encoded, mask_of
from xmodal_jax.models.dense import Dense
from xmodal_jax.models.transformer import ACTIVATIONS, Style, encoder_of


def log_buckets(distances, buckets, longest):
    """Distances -> signed buckets, int: exact up to buckets / 2, of growing width up to `longest` (He et al., 2023)."""
    middle, size = buckets // 2, np.abs(distances)
    # in float32, as the original: a bucket must not change where the logarithm is all but a whole number
    far = np.log(np.maximum(size, middle).astype(np.float32) / np.float32(middle))
    far = np.ceil(far / np.log(np.float32((longest - 1) / middle)) * np.float32(middle - 1)) + middle
    return np.where(size <= middle, distances, far * np.sign(distances)).astype(np.int32)


def rows_of_distances(length, buckets, longest):
    """int32 [2 N - 1]: the row of a table [2 K, D] for key - query = -(N - 1) .. N - 1. K: buckets, or `longest` without."""
    distances, span = np.arange(length - 1, -length, -1), buckets or longest  # query - key
    if buckets:
        distances = log_buckets(distances, buckets, longest)
    return np.clip(distances + span, 0, 2 * span - 1).astype(np.int32)


def by_keys(scores):
    """[..., N, 2 N - 1], a column for each key - query = -(N - 1) .. N - 1 -> [..., N, N], a column for each key.

    Row n moves by N - 1 - n: one more column, and the end of a row becomes the start of the next (as in Transformer-XL, Dai et
    al., 2019, appendix B). No gather, whose gradient would be a scatter.
    """
    *axes, N, columns = scores.shape
    scores = jnp.pad(scores, [(0, 0)] * (len(axes) + 1) + [(0, 1)]).reshape(*axes, -1)
    return scores[..., N - 1 : N - 1 + N * columns].reshape(*axes, N, columns)[..., :N]


class DisentangledAttention(Attention):
    """Self-attention with scores between words and distances (He et al., 2021, section 3.1).

    Its relation is (vectors of distances [2 K, D], the row for each key - query, int32 [2 N - 1]).
    Attributes:
      terms: "c2p", a query's word to the key's distance; "p2c", a key's word to the query's distance.
      shared: distances are projected by the kernels of the words' queries and keys, else by their own.
    """

    terms: tuple = ("c2p", "p2c")
    shared: bool = True

    def relate(self, q, k, relation):
        table, rows = relation
        scale = (q.shape[-1] * (1 + len(self.terms))) ** -0.5
        bias = None
        for term in self.terms:
            words, part, name = {"c2p": (q, 1, "place_k"), "p2c": (k, 0, "place_q")}[term]
            if self.shared:
                weights = self.variables["params"]["qkv"]
                places = jnp.tensordot(table, weights["kernel"][:, part].astype(table.dtype), 1)
                places = places + weights["bias"][part].astype(table.dtype)
            else:
                places = Dense((1, self.heads, q.shape[-1]), dtype=self.dtype, name=name)(table)[:, 0]
            places = places.astype(q.dtype)[rows if term == "c2p" else rows[::-1]]  # [2 N - 1, H, d]
            scores = by_keys(product("bhnd,rhd->bhnr", words * scale, places))
            scores = scores if term == "c2p" else jnp.swapaxes(scores, -1, -2)  # its rows are the keys
            bias = scores if bias is None else bias + scores
        return bias, scale


class DebertaEmbed(nn.Module):
    """ids, types int32 [B, T], mask bool [B, T] -> [B, T, D]: words [+ positions] [+ types], normalised; 0 where masked.

    Attributes: positions, types: 0 where it has none; inner: width of the tables, projected to `width` where it differs.
    """

    vocabulary: int
    positions: int
    types: int
    inner: int
    width: int
    dropout: float = 0.0
    epsilon: float = 1e-7
    dtype: str = "float32"

    def setup(self):
        def table(rows):
            return nn.Embed(rows, self.inner, embedding_init=nn.initializers.normal(0.02), dtype=self.dtype)

        self.words = table(self.vocabulary)
        if self.positions:
            self.places = table(self.positions)
        if self.types:
            self.kinds = table(self.types)
        if self.inner != self.width:
            self.projection = Dense(self.width, use_bias=False, dtype=self.dtype)
        self.norm = Style(epsilon=self.epsilon).norm(self.dtype, None)
        self.drop = nn.Dropout(self.dropout)

    def __call__(self, ids, mask, types=None, train=False):
        x = self.words(ids)
        if self.positions:
            if ids.shape[1] > self.positions:
                raise UserError(f"A text of {ids.shape[1]} tokens is too long: this model has {self.positions} positions.")
            x = x + self.places(jnp.arange(ids.shape[1]))[None]
        if self.types:
            x = x + self.kinds(jnp.zeros_like(ids) if types is None else types)
        if self.inner != self.width:
            x = self.projection(x)
        x = self.norm(x) * mask[..., None].astype(x.dtype)
        return self.drop(x, deterministic=not train)

    def scores(self, x):
        """Products with every word's vector: [..., D] -> [..., V]."""
        return self.words.attend(x)


class DeBERTa(nn.Module):
    """Text encoder -> Encoded with x [B, T, D].

    Attributes:
      positions, types, inner: see `DebertaEmbed` (inner 0: width).
      distances: whether the attention knows them; terms, shared: see `DisentangledAttention`; buckets: of distances, 0: none;
        longest: about where all become alike; norm_distances: their vectors are normalised.
      pooler: the activation of pooled = activation(W x_0) ("": pooled is x_0). masked_lm: logits [B, T, V] over words, whose
        vectors are the output's weights. labels: classes of a head on the pooled vector (0: none). remat: see `Stack`.
    """

    vocabulary: int = 128100
    positions: int = 0
    types: int = 0
    inner: int = 0
    width: int = 768
    heads: int = 12
    layers: int = 12
    mlp_ratio: float = 4.0
    distances: bool = True
    terms: tuple = ("c2p", "p2c")
    shared: bool = True
    buckets: int = 256
    longest: int = 512
    norm_distances: bool = True
    pooler: str = ""
    masked_lm: bool = False
    labels: int = 0
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    style: Style = Style(post_norm=True, epsilon=1e-7, activation="gelu_exact")

    @nn.compact
    def __call__(self, ids, mask=None, types=None, train=False):
        """ids, types int32 [B, T], mask bool [B, T] (None: no padding). Raises UserError for more tokens than positions.

        What x holds at masked tokens means nothing, and differs from transformers': it reaches no other token.
        """
        inner, style, relation = self.inner or self.width, self.style, None
        mask = mask_of(ids, mask)
        embed = DebertaEmbed(
            self.vocabulary, self.positions, self.types, inner, self.width, self.dropout, style.epsilon, self.dtype,
            name="embed",
        )  # fmt: skip
        x = embed(ids, mask, types, train)
        if self.distances:
            span = self.buckets or self.longest
            table = self.param("distance_table", nn.initializers.normal(0.02), (2 * span, self.width)).astype(x.dtype)
            if self.norm_distances:
                table = style.norm(self.dtype, "distance_norm")(table)
            relation = table, rows_of_distances(ids.shape[1], self.buckets, self.longest)
            attention = functools.partial(DisentangledAttention, terms=self.terms, shared=self.shared)
            style = dataclasses.replace(style, attention=attention)
        else:  # the original counts the terms all the same
            style = dataclasses.replace(style, scale=(self.width // self.heads * (1 + len(self.terms))) ** -0.5)
        x, _ = encoder_of(self, style)(x, mask[:, None, None], relation=relation, train=train)
        pooled, logits = x[:, 0], None
        if self.pooler:
            pooled = ACTIVATIONS[self.pooler](Dense(self.width, dtype=self.dtype, name="pooler")(pooled))
        if self.masked_lm:
            y = ACTIVATIONS[style.activation](Dense(inner, dtype=self.dtype, name="lm_hidden")(x))
            y = embed.scores(style.norm(self.dtype, "lm_norm")(y))
            logits = y + self.param("lm_bias", nn.initializers.zeros, (self.vocabulary,)).astype(y.dtype)
        elif self.labels:
            logits = Dense(self.labels, dtype=self.dtype, name="classifier")(pooled)
        return Encoded(x, mask, pooled, logits)

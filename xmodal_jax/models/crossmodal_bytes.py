"""System 1: the crossmodal byte language model (US 12,393,789 B2, claims 1-10) behind the four verbs.

Letters: B batch, T text tokens, N groups of second-modality bytes, K vectors left after reduction, S target bytes, D width,
P width of the shared space for retrieval.
"""

import math
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp

from xmodal_jax.data.bytes import FIRST_SENTINEL, VOCABULARY
from xmodal_jax.data.examples import NAME_BUCKETS
from xmodal_jax.errors import UserError
from xmodal_jax.models.backbones.encoded import Encoded
from xmodal_jax.models.byte_embedding import ByteGroups, FileBytes, PixelBytes, TextBytes, in_rows
from xmodal_jax.models.dense import Dense
from xmodal_jax.models.fusion import PairTokens
from xmodal_jax.models.pixels import standardised
from xmodal_jax.models.reducers import REDUCERS, masked_softmax, pool
from xmodal_jax.models.transformer import Stack, Style, empty_cache
from xmodal_jax.models.vectors import LOG_SCALE, inverse_temperature, masked_mean, unit


@flax.struct.dataclass
class Tokens:
    """One modality: x [B, n, D], mask bool [B, n], pooled [B, P] of unit length, summary [B, D] the mean of its vectors.

    Of a second modality also: reduced, what the reducer gave; names [B, buckets], logits of the words that name it. Of a text
    also: gaps int32 [B, T], the number of the masked word that a token stands for, -1 where it stands for none.
    """

    x: Any
    mask: Any
    pooled: Any
    summary: Any
    reduced: Any = None
    names: Any = None
    gaps: Any = None


@flax.struct.dataclass
class Fused:
    """Both modalities: x [B, T + K, D], mask bool [B, T + K], association [B, T, K] (rows sum to 1, or 0 without K).

    summary [B, D]: mean vector of the second modality, 0 where there is none. Where the decoder sees the second modality
    through the association alone (`grounded`) x and mask are those of the text, and taken [B, T, D] is what each of its tokens
    is associated with, gaps those of the text; there is no summary.
    """

    x: Any
    mask: Any
    association: Any
    summary: Any = None
    taken: Any = None
    gaps: Any = None


class CrossmodalBytes(nn.Module):
    """Bytes of text and of a second modality -> association matrix and generated text.

    Attributes:
      second: "raw" (image pixels), "file" (encoded file), "audio" (PCM) or "series" (float32 records): who groups the bytes.
      image: a backbone that gives `Encoded`, from a checkpoint or new, which sees the pixels of raw images in place of `stem`
        and the second tower; its pooled vector is the summary.
      stem: how raw pixels become vectors: "patch" (ViT's projection) or "conv" (overlapping convolutions, learns sooner)
        with `stem_channels` (0: as many as the tower is wide).
      group: bytes per group (image: patch * patch * 3); grid: columns of the patch grid; stride: file bytes per token.
      table_width: width of the byte table of raw groups; 0 is the fixed E(b) = (b / 255 - mean) / std, i.e. ViT's patch
        projection of normalised pixels.
      text_window, text_kernel, text_residual: bytes per text token, bytes that its local convolution sees, and whether the sum
        of its bytes stands beside that.
      text_layers, second_layers: unimodal blocks before the fusion; layers, decoder_layers: crossmodal blocks and decoder.
      fuse_by: "attention" of both modalities together in `layers` blocks, or "ume": every token with the pairs that it forms
        with all of the other modality (`PairTokens`), once.
      grounded: text tokens take up what they are associated with first, and only they are seen by the `layers` crossmodal
        blocks and by the decoder: nothing of the second modality reaches a byte but through the association. Otherwise both
        modalities meet in the blocks, the decoder sees both, and the mean of the second stands beside (runs of before).
      association_heads: of a grounded model's association; what is shown is their mean. coverage: tokens can avoid what the
        others are associated with, see `Association`, so that a gap can look for what no other word has.
      pointer: of a grounded model: beside every byte that it writes the decoder is told what the gap that it fills is
        associated with, or the text in a weighted mean where it fills none: its vector, and the thing it shows (`name_words`).
      attributes: of a pointer: the decoder is also told what that thing is like (`name_attributes`).
      registers: vectors beside the second modality's own in its tower (Darcet et al., 2024, arXiv:2309.16588),
        whose mean is its summary. Without any that is the mean of its own vectors, and empty ones may take up what others show.
      reducer, slots: how the second modality is brought down to K vectors.
      second_width: width of its tower if it differs from `width` (the reducer projects back).
      shared_width: P.
      remat: what the backward pass recomputes ("none", "dots", "full"; see `Stack`).
      shard_sequence: between blocks, split tokens over the mesh's tensor axis.
      kernel: of attention: "plain", "flash" (TPU, GPU), or "auto", flash where it is there and the scores are many.
    """

    second: str = "raw"
    image: nn.Module | None = None
    stem: str = "patch"
    stem_channels: int = 0
    group: int = 192
    grid: int = 8
    stride: int = 16
    table_width: int = 0
    mean: Any = 0.5
    std: Any = 0.25
    width: int = 128
    heads: int = 4
    text_layers: int = 1
    text_window: int = 1
    text_kernel: int = 5
    text_residual: bool = False
    second_layers: int = 2
    second_width: int = 0
    layers: int = 2
    fuse_by: str = "attention"
    grounded: bool = False
    association_heads: int = 1
    coverage: bool = False
    pointer: bool = False
    attributes: bool = False
    decoder_layers: int = 2
    mlp_ratio: float = 4.0
    reducer: str = "relation"
    slots: int = 16
    registers: int = 0
    shared_width: int = 64
    dropout: float = 0.0
    remat: str = "none"
    shard_sequence: bool = False
    kernel: str = "auto"
    dtype: str = "float32"

    def setup(self):
        if self.stem not in ("patch", "conv") or (self.stem == "conv" and self.second != "raw"):
            raise UserError(f"model.stem={self.stem!r}: must be patch, or conv where model.second is raw.")
        if self.image is not None and (self.second != "raw" or self.registers):
            raise UserError("model.image sees raw pixels and has a summary of its own: model.second=raw, model.registers=0.")
        if self.stem_channels < 0 or self.stem_channels == 1:
            raise UserError(f"model.stem_channels={self.stem_channels}: must be 0 (as the tower is wide), or 2 or more.")
        if self.fuse_by not in ("attention", "ume"):
            raise UserError(f"model.fuse_by={self.fuse_by!r}: must be attention or ume.")
        if self.grounded and self.fuse_by != "attention":
            raise UserError("model.grounded: the text alone goes through the crossmodal blocks: model.fuse_by=attention.")
        if (self.coverage or self.pointer) and not self.grounded:
            raise UserError("model.coverage and model.pointer belong to a grounded model: model.grounded=True.")
        if self.attributes and not self.pointer:
            raise UserError("model.attributes are what a pointer tells: model.pointer=True.")
        if self.association_heads < 1 or self.width % self.association_heads:
            raise UserError(f"model.association_heads={self.association_heads} must divide model.width={self.width}.")
        if self.reducer not in REDUCERS:
            raise UserError(f"model.reducer={self.reducer!r}: must be one of {', '.join(REDUCERS)}.")

        def stack(layers, width=self.width, cross=False):
            heads = max(1, self.heads * width // self.width)
            shape = (layers, width, heads, self.mlp_ratio, cross)
            style = Style(kernel=self.kernel)
            return Stack(*shape, self.dropout, self.remat, self.dtype, self.shard_sequence, style)

        second_width = self.second_width or self.width if self.image is None else self.image.width
        self.text_bytes = TextBytes(
            self.width, self.text_window, self.text_kernel, residual=self.text_residual, dtype=self.dtype
        )
        if self.image is not None:
            self.second_bytes = self.second_tower = None
        elif self.second == "file":
            self.second_bytes = FileBytes(second_width, self.stride, dtype=self.dtype)
        elif self.stem == "conv":
            patch = math.isqrt(self.group // 3)
            pixels = (patch, self.grid, self.mean, self.std, self.dtype, self.stem_channels)
            self.second_bytes = PixelBytes(second_width, *pixels)
        else:
            table = (self.table_width, self.mean, self.std)
            self.second_bytes = ByteGroups(second_width, self.group, self.grid, *table, dtype=self.dtype)
        self.text_tower = stack(self.text_layers)
        if self.image is None:
            self.second_tower = stack(self.second_layers, second_width)
        out_width = self.width if second_width != self.width else 0
        self.reduce = REDUCERS[self.reducer](self.slots, out_width, dtype=self.dtype)
        if self.registers:
            self.register = self.param("register", nn.initializers.normal(0.5), (self.registers, second_width))
        self.modality = self.param("modality", nn.initializers.normal(0.1), (2, self.width))
        self.fusion = stack(self.layers) if self.fuse_by == "attention" else PairTokens(self.width, self.heads, 0, self.dtype)
        self.associate = Association(self.width, self.association_heads, self.coverage, self.dtype)
        self.decoder = stack(self.decoder_layers, cross=True)
        if self.grounded:
            self.to_words = Dense(NAME_BUCKETS, dtype=self.dtype)
            if self.pointer:
                self.asked = Dense(1, dtype=self.dtype)
                self.from_taken = Dense(self.width, use_bias=False, dtype=self.dtype)
                self.from_words = Dense(self.width, use_bias=False, dtype=self.dtype)
            if self.attributes:
                self.to_attributes = Dense(NAME_BUCKETS, dtype=self.dtype)
                self.from_attributes = Dense(self.width, use_bias=False, dtype=self.dtype)
        else:
            self.from_summary = Dense(self.width, use_bias=False, dtype=self.dtype)
        self.logits = Dense(VOCABULARY, dtype=self.dtype)
        self.to_shared_text = Dense(self.shared_width, use_bias=False, dtype=self.dtype)
        self.to_shared_second = Dense(self.shared_width, use_bias=False, dtype=self.dtype)
        self.to_names = Dense(NAME_BUCKETS, dtype=self.dtype)
        self.log_scale = self.param("log_scale", nn.initializers.constant(LOG_SCALE), ())

    def encode_image(self, raw, length, train=False):
        """Bytes of the second modality: raw uint8 [B, L], length [B] -> Tokens with x [B, K, D]."""
        x, mask, summary = self.towered(raw, length, train) if self.image is None else self.seen(raw, length, train)
        reduced = self.reduce(x, mask)  # [B, K, D]
        names = self.to_names(summary).astype(jnp.float32)
        return Tokens(reduced.x, reduced.mask, unit(self.to_shared_second(summary)), summary, reduced, names)

    def seen(self, raw, length, train):
        """What `image` makes of raw pixels: x [B, N, D2], mask bool [B, N], summary [B, D2]."""
        pixels = in_rows(raw, math.isqrt(self.group // 3), self.grid)  # [B, H, W, 3]
        found = self.image(standardised(pixels, self.mean, self.std, self.dtype), train=train)
        there, first = length > 0, found.class_tokens
        return found.x[:, first:], found.mask[:, first:] & there[:, None], jnp.where(there[:, None], found.pooled, 0)

    def towered(self, raw, length, train):
        """What the second tower makes of groups of bytes: x [B, N, D2], mask bool [B, N], summary [B, D2]."""
        x, mask = self.second_bytes(raw, length)  # [B, N, D2]
        if self.registers:
            more = jnp.broadcast_to(self.register.astype(x.dtype), (len(x), *self.register.shape))
            x = jnp.concatenate([x, more], axis=1)  # [B, N + R, D2]
            mask = jnp.pad(mask, ((0, 0), (0, self.registers)), constant_values=True)
        x, _ = self.second_tower(x, mask[:, None, None], train=train)
        own = x.shape[1] - self.registers  # N
        summary = x[:, own:].mean(1) if self.registers else masked_mean(x, mask)  # [B, D2]
        return x[:, :own], mask[:, :own], summary

    def encode_text(self, ids, segments=None, train=False):
        """ids int32 [B, T'] -> Tokens with x [B, T, D], T = T' / text_window."""
        x, mask = self.text_bytes(ids, segments)
        x, _ = self.text_tower(x, mask[:, None, None], train=train)
        summary = masked_mean(x, mask)
        spare = -ids.shape[1] % self.text_window
        gaps = jnp.pad(numbers(ids), ((0, 0), (0, spare)), constant_values=-1)  # [B, T * window]
        gaps = gaps.reshape(*mask.shape, self.text_window).max(-1)
        return Tokens(x, mask, unit(self.to_shared_text(summary)), summary, gaps=gaps)

    def fuse(self, text, second, train=False, association=None):
        """The crossmodal encoder (claims 4, 8-10): attention or pairs of both, then the association of every text token; of a
        grounded model first the association, then attention of the text. association [B, T, K]: in place of its own."""
        if self.grounded:
            x, shown, taken = self.associate(text.x, text.mask, second.x, second.mask, association)
            x, _ = self.fusion(x + self.modality[0].astype(x.dtype), text.mask[:, None, None], train=train)
            return Fused(x, text.mask, shown, taken=taken, gaps=text.gaps)
        told, seen = text.x + self.modality[0].astype(text.x.dtype), second.x + self.modality[1].astype(text.x.dtype)
        mask = jnp.concatenate([text.mask, second.mask], axis=1)
        if self.fuse_by == "ume":
            told, seen = self.fusion([Encoded(told, text.mask), Encoded(seen, second.mask)], train)
        else:
            x, _ = self.fusion(jnp.concatenate([told, seen], 1), mask[:, None, None], train=train)
            told, seen = jnp.split(x, [text.x.shape[1]], axis=1)  # [B, T, D], [B, K, D]
        told, association, _ = self.associate(told, text.mask, seen, second.mask, association)
        return Fused(jnp.concatenate([told, seen], axis=1), mask, association, second.summary)

    def decode(self, inputs, fused, cache=None, index=None, train=False):
        """Next-byte logits, float32 [B, S, 384], of inputs int32 [B, S] (a PAD starts a text), causal.

        With `cache` (`empty_cache`), the inputs stand at positions index ...; returns (logits, cache).
        """
        start = 0 if index is None else index
        x = self.text_bytes.decoder_input(inputs, start)
        if not self.grounded:
            x = x + self.from_summary(fused.summary)[:, None]  # a short way from the picture to the bytes: it is learned first
        if self.pointer:
            gap = filled(inputs, None if cache is None else cache["gap"][0])  # [B, S]
            told = jnp.where(gap[..., None] < 0, fused.mask[:, None], fused.gaps[:, None] == gap[..., None])  # [B, S, T]
            taken = pool(masked_softmax(self.asked(fused.x)[:, None, :, 0], told), fused.taken)  # [B, S, D]
            x = x + self.from_taken(taken) + self.from_words(jax.nn.softmax(self.name_words(taken)).astype(x.dtype))
            if self.attributes:
                x = x + self.from_attributes(jax.nn.softmax(self.name_attributes(taken)).astype(x.dtype))
        keys = inputs.shape[1] if cache is None else cache["k"].shape[3]
        mask = (start + jnp.arange(inputs.shape[1]))[:, None] >= jnp.arange(keys)[None]  # [S, keys]
        own = None if cache is None else {name: cache[name] for name in ("k", "v")}
        x, own = self.decoder(x, mask[None, None], fused.x, fused.mask[:, None, None], own, index, train=train)
        if cache is not None:
            cache = own | ({"gap": gap[None, :, -1]} if self.pointer else {})
        return self.logits(x).astype(jnp.float32), cache

    def name_words(self, taken):
        """Logits of the thing that each vector of `Fused.taken` [B, T, D] shows, float32 [B, T, buckets]."""
        return self.to_words(taken).astype(jnp.float32)

    def name_attributes(self, taken):
        """Logits of what that thing is like, float32 [B, T, buckets]."""
        return self.to_attributes(taken).astype(jnp.float32)

    @property
    def lacking(self):
        """Verbs that this instance does not offer."""
        return (*["name_words"] * (not self.grounded), *["name_attributes"] * (not self.attributes))

    def groups(self, length):
        """N: vectors that `length` bytes of the second modality become before reduction."""
        if self.image is not None:  # which tells by being run, on nothing
            shape = jax.ShapeDtypeStruct((1, length), jnp.uint8)
            found = jax.eval_shape(
                lambda raw: self.init_with_output(jax.random.PRNGKey(0), raw, jnp.ones(1, jnp.int32), method="encode_image")[0],
                shape,
            )
            return found.reduced.assignment.shape[2]
        return -(-length // self.stride) if self.second == "file" else length // self.group

    def scale(self):
        """1 / temperature of the retrieval similarities, at most 100."""
        return inverse_temperature(self.log_scale)

    def cache(self, batch, length):
        """An empty key-value cache for `length` decoded bytes; of a pointer also which gap is being filled, [1, B]."""
        cache = empty_cache(self.decoder_layers, batch, self.heads, length, self.width, self.dtype)
        return cache | ({"gap": jnp.full((1, batch), -1)} if self.pointer else {})

    def __call__(self, batch, train=False):
        """Touches every parameter once (initialisation): logits and pooled vectors."""
        second = self.encode_image(batch["second"], batch["second_length"], train)
        text = self.encode_text(batch["text"], batch["segments"], train)
        fused = self.fuse(text, second, train)
        if self.grounded:
            self.name_words(fused.taken)
        if self.attributes:
            self.name_attributes(fused.taken)
        return self.decode(batch["inputs"], fused, train=train)[0], text.pooled, second.pooled, self.scale()


class Association(nn.Module):
    """Semantic association information matched for each token unit (claim 4), and its use for the masked words.

    A = softmax_K(S), S_tk = W_q h_t . W_k z_k / sqrt d; every text token takes up what it is associated with: h_t +
    (A W_v z)_t, of each of its heads a part; d: width of a head. With `coverage`, as translation has it of the words before
    (Tu et al., 2016, "Modeling coverage for neural machine translation"), here of all tokens at once:

        A' = softmax_K(S_tk - softplus(w_a . h_t + b_a) sum_s sigmoid(w_c . h_s + b_c - 2) A_sk)
    what tokens that name things (c) have found is left to them by tokens that look for something else (a).
    """

    width: int
    heads: int = 1
    coverage: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(self, text, text_mask, second, second_mask, given=None):
        """text [B, T, D], second [B, K, D], second_mask bool [B, K], given: association [B, T, K] that takes the place of the
        computed one in all heads, or None -> (text [B, T, D], association [B, T, K], mean of the heads, and what each token is
        associated with, A z [B, T, D])."""

        def parts(x, name):  # [B, n, D] -> [B, n, H, d]
            y = Dense(self.width, use_bias=False, dtype=self.dtype, name=name)(x)
            return y.reshape(*x.shape[:2], self.heads, -1)

        scores = jnp.einsum("bthd,bkhd->bhtk", parts(text, "q"), parts(second, "k")) * (self.width // self.heads) ** -0.5
        weights = masked_softmax(scores, second_mask[:, None, None])  # [B, H, T, K]
        if self.coverage:
            naming = jax.nn.sigmoid(Dense(1, name="covers")(text).astype(jnp.float32)[..., 0] - 2) * text_mask  # [B, T]
            covered = jnp.einsum("bt,btk->bk", naming, weights.mean(1))
            avoiding = jax.nn.softplus(Dense(1, name="avoids")(text).astype(jnp.float32))  # [B, T, 1]
            scores = scores - (avoiding * covered[:, None])[:, None]
            weights = masked_softmax(scores, second_mask[:, None, None])
        if given is not None:
            weights = jnp.broadcast_to(jnp.where(second_mask[:, None], given, 0)[:, None], weights.shape)
        taken = jnp.einsum("bhtk,bkhd->bthd", weights.astype(second.dtype), parts(second, "v")).reshape(text.shape)
        association = weights.mean(1)
        return text + taken, association, pool(association, second)


def numbers(ids):
    """The number of the masked word that each id stands for, -1 where it is no sentinel."""
    return jnp.where(ids >= FIRST_SENTINEL, ids - FIRST_SENTINEL, -1)


def filled(inputs, before=None):
    """Which gap each id [B, S] of a decoder fills, that of the last sentinel up to it; -1 before the first. before [B]: that of
    the id before them."""
    first = jnp.full(inputs.shape[:1], -1) if before is None else before
    found = jnp.concatenate([first[:, None], numbers(inputs)], 1)  # [B, 1 + S]
    last = jax.lax.cummax(jnp.where(found >= 0, jnp.arange(found.shape[1]), 0), axis=1)
    return jnp.take_along_axis(found, last, axis=1)[:, 1:]


def over_groups(association, assignment):
    """Association with the original groups (patches): [B, T, K] x [B, K, N] -> [B, T, N], rows still sum to 1 (or 0)."""
    return jnp.einsum("btk,bkn->btn", association, assignment)

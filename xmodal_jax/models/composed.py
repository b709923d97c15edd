"""A model composed of encoders, of what makes one vector of each, and of a way in which they meet.

One vector of each is the search model of US 12,386,873 B2 (figures 8 and 9): feature extraction by an encoder, transformation
by a projection into the shared space, weighting of each token, aggregation. What meets otherwise is a row of the survey's
table ("A Survey of Vision-Language Pre-Trained Models", Du et al., 2022). Letters: B batch, N image tokens, T text length with
both end marks, D width, P width of the shared space, V vocabulary.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.models.attended import attended
from xmodal_jax.models.backbones.gpt2 import causal
from xmodal_jax.models.dense import Dense
from xmodal_jax.models.heads import HEADS, Linear, Predictor, Projector, Transformed, Words
from xmodal_jax.models.images.codes import PatchCodes
from xmodal_jax.models.images.dictionary import Dictionary
from xmodal_jax.models.images.regions import Regions
from xmodal_jax.models.locator import Locator
from xmodal_jax.models.pixels import standardised
from xmodal_jax.models.vectors import LOG_SCALE, inverse_temperature, masked_mean, unit

AGGREGATES = ("first", "mean", "weighted")
OFFSET = -10.0  # SigLIP's, at which nearly all pairs are told to be none
LOG_SHARPNESS = 2.2  # log 9, SCAN's for words that attend to regions


READ = {  # image encoders that read more than pixels: what of a batch they cannot go without, by their own names
    Regions: {"boxes": "boxes", "there": "regions_there"}, PatchCodes: {"codes": "codes"}, Dictionary: {},
}  # fmt: skip


class Composed(nn.Module):
    """uint8 images and ids of captions -> unit vectors of both, in one space, and vectors of tokens that have met.

    Attributes:
      image, text: modules that give `Encoded`. interaction: one of `models.interactions`, or None: a dual encoder, whose
        modalities meet in their vectors alone. decoder: a `GPT2` (or `T5Decoder`) that attends to what it gives, or None.
        predicts: heads on what it gives, of `models.heads`. teacher: another such model, which this one learns from, or None.
      aggregate: what a modality's vector is: "first", the projection of the encoder's own pooled vector, as CLIP; "mean" of the
        projected tokens that the mask shows; "weighted", their mean by a learned importance w of each:
        v = sum_n softmax_n(w . x_n) x_n, x the projected tokens.
      attended: whether words and regions are compared too (`models.attended`). locator: layers of what finds the object that a
        phrase means (`models.locator`), 0: none.
      shared_width: P; 0: no shared space. temperature: of the similarities there, at the start. biased: they have a learned
        offset too (SigLIP). again: each modality has a second vector, of the pair's experts (VLMo).
        names: predict the words of the captions from the image alone (0: no such head; else V).
      vocabulary: V, for the head "words"; classes: of objects, for "classes" and "detector"; attributes: of objects; answers:
        that can be given; codes: of patches.
      mean, std: of the pixels, 0..1, of red, green, blue or of all.
    """

    image: nn.Module
    text: nn.Module
    interaction: nn.Module | None = None
    decoder: nn.Module | None = None
    teacher: nn.Module | None = None
    predicts: tuple = ()
    vocabulary: int = 0
    classes: int = 0
    attributes: int = 0
    answers: int = 0
    codes: int = 0
    aggregate: str = "weighted"
    attended: bool = False
    locator: int = 0
    shared_width: int = 256
    temperature: float = 0.07
    biased: bool = False
    again: bool = False
    names: int = 0
    mean: Any = 0.5
    std: Any = 0.25
    dtype: str = "float32"

    def setup(self):
        if self.aggregate not in AGGREGATES:
            raise UserError(f"config.model.aggregate={self.aggregate!r}: must be one of {', '.join(AGGREGATES)}.")
        if unknown := set(self.predicts) - set(HEADS):
            raise UserError(f"config.model.predicts={tuple(self.predicts)}: {min(unknown)} is none of {', '.join(HEADS)}.")
        if self.shared_width:
            self.to_shared_image = Dense(self.shared_width, use_bias=False, dtype=self.dtype)
            self.to_shared_text = Dense(self.shared_width, use_bias=False, dtype=self.dtype)
            if self.aggregate == "weighted":
                self.weigh_image = Dense(1, use_bias=False, dtype=self.dtype)
                self.weigh_text = Dense(1, use_bias=False, dtype=self.dtype)
            self.log_scale = self.param("log_scale", nn.initializers.constant(-math.log(self.temperature)), ())
            if self.again:
                if not getattr(self.interaction, "joint", 0):
                    raise UserError(
                        "objectives.contrastive.again: the model has no experts of the pair, model.interaction.joint."
                    )
                self.to_shared_image_again = Dense(self.shared_width, use_bias=False, dtype=self.dtype)
                self.to_shared_text_again = Dense(self.shared_width, use_bias=False, dtype=self.dtype)
                self.log_scale_again = self.param("log_scale_again", nn.initializers.constant(-math.log(self.temperature)), ())
            if self.biased:
                self.similarity_bias = self.param("similarity_bias", nn.initializers.constant(OFFSET), ())
        if self.names:
            self.to_names = Dense(self.names, dtype=self.dtype)
        if self.decoder:
            self.to_context = Dense(self.decoder.width, dtype=self.dtype)
        if "words" in self.predicts:
            self.words_head = Words(self.vocabulary, dtype=self.dtype)
        if "match" in self.predicts:
            self.match_head = Linear(2, dtype=self.dtype)
        if "answers" in self.predicts:
            self.answers_head = Transformed(self.answers, wider=2, dtype=self.dtype)
        if "classes" in self.predicts:
            self.classes_head = Transformed(self.classes, dtype=self.dtype)
        if "attributes" in self.predicts:
            self.attributes_head = Transformed(self.attributes, dtype=self.dtype)
        if "detector" in self.predicts:
            self.detector_head = Linear(self.classes, dtype=self.dtype)
        if "codes" in self.predicts:
            self.codes_head = Transformed(self.codes, dtype=self.dtype)
        if "image_codes" in self.predicts:
            self.image_codes_head = Transformed(self.codes, dtype=self.dtype)
        if "text_words" in self.predicts:
            self.text_words_head = Words(self.vocabulary, dtype=self.dtype)
        if "visual_tokens" in self.predicts:
            self.visual_tokens_head = Linear(self.image.entries, dtype=self.dtype)
        if "states" in self.predicts:
            self.states_head = Linear(self.teacher.interaction.width, dtype=self.dtype)
        if "projector" in self.predicts:
            self.projector_head = Projector(dtype=self.dtype)
        if "predictor" in self.predicts:
            self.predictor_head = Predictor(dtype=self.dtype)
        for modality in ("text", "image"):
            if f"{modality}_teacher" in self.predicts:
                setattr(self, f"{modality}_teacher_head", Transformed(getattr(self, modality).width, dtype=self.dtype))
        if "features" in self.predicts:
            self.features_head = Transformed(self.image.feature_width, dtype=self.dtype)
        if self.attended:
            self.log_scale_attended = self.param("log_scale_attended", nn.initializers.constant(LOG_SCALE), ())
            self.log_sharpness = self.param("log_sharpness", nn.initializers.constant(LOG_SHARPNESS), ())

        if self.locator:
            self.locate = Locator(self.locator, dtype=self.dtype)

    @property
    def lacking(self):
        """Verbs that this instance does not offer, though its class has them."""
        there = {
            "fuse": self.interaction, "decode": self.decoder, "predict": self.predicts, "scale": self.shared_width,
            "offset": self.biased,
        }  # fmt: skip
        return {verb for verb, part in there.items() if not part}

    def encode_image(self, images, more=None, train=False):
        """images uint8 [B, H, W, 3] -> Encoded: own [B, N, D], x [B, N, P] projected, pooled [B, P], names [B, V] or None.
        more: what an encoder of `models.images` reads beside the pixels."""
        pixels = standardised(images, self.mean, self.std, self.dtype)
        encoded = self.image(pixels, more, train=train) if self.reads_more else self.image(pixels, train=train)
        names = self.to_names(encoded.x.mean(1)).astype(jnp.float32) if self.names else None
        return self._shared(encoded, "image", train).replace(names=names)

    @property
    def reads_more(self):
        """Whether the image encoder reads more than pixels."""
        return type(self.image) in READ

    def encode_text(self, ids, length, seen=None, types=None, train=False):
        """ids int32 [B, T] from end mark to end mark, length [B]: the place of the closing one -> Encoded with own [B, T, D],
        x [B, T, P] projected and pooled [B, P]. seen: what objectives have of the image, which no text's vector depends on;
        types: of segments, int32 [B, T], for encoders that know them."""
        del seen
        mask = jnp.arange(ids.shape[1])[None] <= length[:, None]
        segments = {} if types is None else {"types": types}
        return self._shared(self.text(ids, mask, train=train, **segments), "text", train)

    def _shared(self, encoded, modality, train):
        """Encoded of a tower -> Encoded in the shared space, pooled float32 of unit length; without one as it is."""
        if not self.shared_width:
            return encoded.replace(own=encoded.x)
        project, own = getattr(self, f"to_shared_{modality}"), encoded.x
        if getattr(self.interaction, "unimodal", False):  # it encodes each modality too
            x, again = self.interaction.alone(encoded, modality, train)
            encoded = encoded.replace(x=x, pooled=x[:, 0], alone=x)
            if self.again:
                encoded = encoded.replace(again=unit(getattr(self, f"to_shared_{modality}_again")(again[:, 0])))
        x = project(encoded.x)  # [B, N, P]
        if self.aggregate == "first":
            pooled = project(encoded.pooled)
        elif self.aggregate == "mean":
            pooled = masked_mean(x, encoded.mask)
        else:
            pooled = jnp.einsum("bn,bnp->bp", self._importance(x, encoded.mask, modality), x.astype(jnp.float32))
        return encoded.replace(x=x, pooled=unit(pooled), own=own)

    def _importance(self, x, mask, modality):
        """Learned weights of tokens [B, N, P], float32 [B, N], which sum to 1 over those that the mask shows."""
        scores = getattr(self, f"weigh_{modality}")(x)[..., 0].astype(jnp.float32)
        return jax.nn.softmax(jnp.where(mask, scores, -1e9))

    def words(self, text):
        """Of an encoded text: unit vectors of its words float32 [B, T, P], and how much each counts [B, T]."""
        if self.aggregate == "weighted":
            return unit(text.x), self._importance(text.x, text.mask, "text")
        return unit(text.x), text.mask / text.mask.sum(-1, keepdims=True)

    def regions(self, image):
        """Of an encoded image: unit vectors of its regions or of the places of its grid, float32 [B, N, P]; zeros where there
        is none."""
        return (unit(image.x) * image.mask[..., None])[:, image.class_tokens :]

    def attend(self, words, importance, regions):
        """Attended similarities [texts, pictures], -1..1, of what `words` and `regions` give."""
        return attended(words, importance, regions, jnp.exp(self.log_sharpness))

    def attended_scale(self):
        """1 / temperature of the attended similarities, at most 100."""
        return inverse_temperature(self.log_scale_attended)

    def refer(self, image, phrases, lengths, train=False):
        """What phrases mean in their encoded images, ids int32 [B, K, T] with lengths [B, K] -> Located of B K rows."""
        B, K, T = phrases.shape
        text = self.encode_text(phrases.reshape(B * K, T), lengths.reshape(B * K), train=train)
        regions = image.x[:, image.class_tokens :]
        side = math.isqrt(regions.shape[1])
        if side * side != regions.shape[1]:
            raise UserError(f"objectives.referring: the {regions.shape[1]} regions of the image encoder are no square grid.")
        return self.locate(jnp.repeat(regions, K, axis=0), (side, side), text.x, text.mask, train)

    def fuse(self, text, image, mode="both", train=False):
        """What `encode_text` and `encode_image` gave -> Fused. mode: see the interaction."""
        return self.interaction(text.replace(x=text.own), image.replace(x=image.own), mode, train=train)

    def decode(self, ids, length, fused, train=False):
        """Teacher-forced: ids int32 [B, T] from mark to mark, length [B]: the place of the closing one, fused: `Fused` ->
        logits of each next word, float32 [B, T, V]."""
        mask = jnp.arange(ids.shape[1])[None] <= length[:, None]
        context = self.to_context(jnp.concatenate([fused.text, fused.image], axis=1))  # [B, M, D]
        seen = jnp.concatenate([fused.text_mask, fused.image_mask], axis=1)
        return self.decoder.scores(self.decoder.states(ids, 0, causal(mask), context, seen, train=train)[0])

    def written_context(self, fused):
        """What the decoder attends to of `Fused`, for a whole search: (its k and v in every layer, which tokens are there)."""
        context = self.to_context(jnp.concatenate([fused.text, fused.image], axis=1))
        return self.decoder.project_context(context), jnp.concatenate([fused.text_mask, fused.image_mask], axis=1)

    def step(self, ids, cache, index, context, seen):
        """Logits [R, n, V] of ids [R, n] at positions index ..., and the cache; R a multiple of the context's rows."""
        return self.decoder.decode(ids, cache, index, context, seen)

    def cache(self, batch, length):
        """The decoder's empty key-value cache for `length` words."""
        return self.decoder.cache(batch, length)

    def predict(self, head, x):
        """What a head of `models.heads` tells, float32: "match" and "answers" of pooled vectors [B, D], "detector" of features
        [..., F], "projector" and "predictor" of a picture's vectors, the others of tokens [..., D]."""
        if head in ("words", "text_words"):
            return getattr(self, f"{head}_head")(x, self._word_vectors())
        return getattr(self, f"{head}_head")(x)

    def _word_vectors(self):
        """The text encoder's own vectors of words [V, D], where it has such a table, else None."""
        table = self.text.variables.get("params", {}).get("embed", {}).get("words", {}).get("embedding")
        return table if table is not None and len(table) == self.vocabulary else None

    def scale(self, again=False):
        """1 / temperature of the retrieval similarities, or those of the second vectors, at most 100."""
        return inverse_temperature(self.log_scale_again if again else self.log_scale)

    def offset(self):
        """What is added to the scaled similarities."""
        return self.similarity_bias

    def __call__(self, batch, train=False):
        """Touches every parameter once (initialisation)."""
        more = {name: batch[key] for name, key in READ.get(type(self.image), {}).items()}
        if "region_features" in batch:
            more["features"] = batch["region_features"]
        seen = self.encode_image(batch["image"], more or None, train)
        text = self.encode_text(batch["caption"], batch["caption_length"], seen, batch.get("caption_types"), train)
        if self.locator:
            self.refer(seen, batch["caption"][:, None], batch["caption_length"][:, None], train)
        given = {"detector": seen.features, "text_words": text.own, "text_teacher": text.own}
        given |= dict.fromkeys(("image_codes", "image_teacher", "projector"), seen.own)
        if "projector" in self.predicts:
            given["predictor"] = self.predict("projector", seen.own)
        if self.interaction:
            fused = self.fuse(text, seen, train=train)
            given |= dict.fromkeys(("words", "states"), fused.text) | dict.fromkeys(("match", "answers"), fused.pooled)
            given |= dict.fromkeys(("codes", "classes", "attributes", "features", "visual_tokens"), fused.image)
            if self.decoder:
                self.decode(batch["caption"], batch["caption_length"], fused, train)
        for head in self.predicts:
            self.predict(head, given[head])
        if self.teacher:
            self.teacher(batch)
        return text.pooled, seen.pooled

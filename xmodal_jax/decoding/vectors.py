"""A model that gives pictures and texts vectors of one space, as plain functions of pictures and strings.

Rows are padded to a few batch sizes, so that only the first call of a kind compiles.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from xmodal_jax.decoding.predictor import ALIGNED, Predictor, round_up_rows
from xmodal_jax.errors import UserError
from xmodal_jax.models.attended import attention
from xmodal_jax.models.vectors import unit


class VectorPredictor(Predictor):
    """Vectors of a shared space.

    Args: model, params: an architecture with encode_image and encode_text, and its parameters; maker: the `CaptionMaker` of its
    training. others: as `Predictor`.
    """

    more = ("features",)

    @property
    def verbs(self):
        return ALIGNED * self.aligned

    def pooled(self, seconds=None, texts=None):
        """Unit vectors of the shared space: (pictures [B, P] or None, texts [B, P] or None)."""
        left = right = None
        if seconds is not None:
            left = np.asarray(self._encode(self.params, *self._inputs(seconds)).pooled)[: len(seconds)]
        if texts is not None:
            right = np.asarray(self._encode_text(self.params, *self._stack_texts(texts)).pooled)[: len(texts)]
        return left, right

    @property
    def attends(self):
        """Whether words and regions can be compared too, by `seen`, `words` and `attended`."""
        return getattr(self.model, "attended", False)

    def seen(self, pictures):
        """What an index keeps of pictures: {"vector": unit vectors [B, P], "regions": [B, N, P] where it `attends`}."""
        encoded = self._encode(self.params, *self._inputs(pictures))
        found = {"vector": encoded.pooled}
        if self.attends:
            found["regions"] = self._regions(self.params, encoded)
        return {name: np.asarray(array)[: len(pictures)] for name, array in found.items()}

    def words(self, texts):
        """Unit vectors of the words of texts [B, T, P], and how much each counts [B, T]."""
        found = self._words(self.params, *self._stack_texts(texts))
        return tuple(np.asarray(array)[: len(texts)] for array in found)

    def attended(self, words, importance, regions):
        """Attended similarities [texts, pictures] of what `words` and `seen` give."""
        rows = [round_up_rows(len(part)) - len(part) for part in (words, regions)]
        words, importance, regions = (
            np.concatenate([part, np.repeat(part[:1], more, axis=0)])
            for part, more in ((words, rows[0]), (importance, rows[0]), (regions, rows[1]))
        )
        found = self._attended(self.params, words, importance, np.asarray(regions, np.float32))
        return np.asarray(found)[: len(words) - rows[0], : len(regions) - rows[1]]

    def features(self, images):
        """Unit vectors of what the image encoder sees, the mean of its tokens: float32 [B, W]."""
        x = self._encode(self.params, *self._inputs(images)).x.mean(1)
        return np.asarray(unit(x))[: len(images)]

    @property
    def refers(self):
        """Whether it finds the object that a phrase means, by `located`."""
        return bool(getattr(self.model, "locator", 0))

    def located(self, pictures, phrases):
        """What each phrase means in its picture -> scores [B], 1 - the probability that it is not there; boxes [B, 4], x0, y0,
        x1, y1 in 0..1; alignment of words and regions [B, T, N], end marks among the words. UserError without `refers`."""
        if not self.refers:
            raise UserError(f"{self.title}: this model finds no objects: train it with configs/search.py:refer=True.")
        found = self._located(self.params, self._stack(pictures), *self._stack_texts(phrases))
        return tuple(np.asarray(array)[: len(pictures)] for array in found)

    def word_maps(self, picture, text):
        """Where each word of a text looks in a picture: [(word, shares [h, w] that sum to 1)]. Raises UserError where the model
        neither refers nor attends."""
        if self.refers:
            (aligned,) = self.located([picture], [text])[2]  # [T, N]
            shares = np.exp(aligned - aligned.max(-1, keepdims=True))
            shares /= shares.sum(-1, keepdims=True)
        elif self.attends:
            (words,), _ = self.words([text])
            shares = np.asarray(self._attention(self.params, words, self.seen([picture])["regions"][0]))
        else:
            raise UserError(f"{self.title}: this model does not compare words and regions: train it with refer or attend.")
        side = math.isqrt(shares.shape[1])
        told = [self.maker.tokenizer.decode([number]).strip() for number in self.maker.ids(text)]
        return [(word, row.reshape(side, side)) for word, row in zip(told, shares[1:], strict=False)]  # the first is a mark

    def as_example(self, picture):
        """A picture in the form that batches are made of; raises UserError for a file that is none."""
        return self.maker.picture(picture)

    def _stack(self, images):
        made = [self.as_example(image) for image in images]
        return np.stack(made + made[:1] * (round_up_rows(len(made)) - len(made)))

    def _inputs(self, pictures):
        """What `encode_image` takes of pictures: pixels [B, H, W, 3], and what the encoder reads beside them, or None."""
        pixels = self._stack(pictures)
        made = [self.maker.beside(picture, image) for picture, image in zip(pictures, pixels, strict=False)]
        made += made[:1] * (len(pixels) - len(made))
        return pixels, {name: np.stack([one[name] for one in made]) for name in made[0]} or None

    def _stack_texts(self, texts):
        made = [self.maker.caption(text) for text in texts]
        made += made[:1] * (round_up_rows(len(made)) - len(made))
        return np.stack([ids for ids, _ in made]), np.stack([length for _, length in made])

    @functools.cached_property
    def _encode(self):
        def encode(params, images, more=None):
            given = (images,) if more is None else (images, more)
            return self.model.apply({"params": params}, *given, method="encode_image")

        return jax.jit(encode)

    @functools.cached_property
    def _encode_text(self):
        model = self.text_model
        return jax.jit(lambda params, ids, length: model.apply({"params": params}, ids, length, method="encode_text"))

    @functools.cached_property
    def _regions(self):
        return jax.jit(lambda params, image: self.model.apply({"params": params}, image, method="regions"))

    @functools.cached_property
    def _words(self):
        return jax.jit(
            lambda params, ids, length: self.model.apply(
                {"params": params}, ids, length, method=lambda model, *text: model.words(model.encode_text(*text))
            )
        )

    @functools.cached_property
    def _located(self):
        def locate(model, images, ids, length):
            found = model.refer(model.encode_image(images), ids[:, None], length[:, None])
            best = found.logits[:, 1:].argmax(-1)
            boxes = jnp.take_along_axis(found.boxes, best[:, None, None], axis=1)[:, 0]
            return 1 - jax.nn.softmax(found.logits)[:, 0], jnp.clip(boxes, 0, 1), found.words

        return jax.jit(lambda params, *given: self.model.apply({"params": params}, *given, method=locate))

    @functools.cached_property
    def _attention(self):
        return jax.jit(
            lambda params, words, regions: attention(words[None], regions[None], jnp.exp(params["log_sharpness"]))[0]
        )

    @functools.cached_property
    def _attended(self):
        return jax.jit(lambda params, *parts: self.model.apply({"params": params}, *parts, method="attend"))

    @property
    def text_model(self):
        """The model as it encodes a text without a picture."""
        return self.model

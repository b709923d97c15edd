"""A model that gives pictures and texts vectors of one space, as plain functions of pictures and strings.

Rows are padded to a few batch sizes, so that only the first call of a kind compiles.
"""

import functools

import jax
import numpy as np

from xmodal_jax.decoding.predictor import ALIGNED, Predictor, round_up_rows
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
            left = np.asarray(self._encode(self.params, self._stack(seconds)).pooled)[: len(seconds)]
        if texts is not None:
            made = [self.maker.caption(text) for text in texts]
            made += made[:1] * (round_up_rows(len(made)) - len(made))
            right = self._encode_text(self.params, np.stack([ids for ids, _ in made]), np.stack([n for _, n in made]))
            right = np.asarray(right.pooled)[: len(texts)]
        return left, right

    def features(self, images):
        """Unit vectors of what the image encoder sees, the mean of its tokens: float32 [B, W]."""
        x = self._encode(self.params, self._stack(images)).x.mean(1)
        return np.asarray(unit(x))[: len(images)]

    def as_example(self, picture):
        """A picture in the form that batches are made of; raises UserError for a file that is none."""
        return self.maker.picture(picture)

    def _stack(self, images):
        made = [self.as_example(image) for image in images]
        return np.stack(made + made[:1] * (round_up_rows(len(made)) - len(made)))

    @functools.cached_property
    def _encode(self):
        return jax.jit(lambda params, images: self.model.apply({"params": params}, images, method="encode_image"))

    @functools.cached_property
    def _encode_text(self):
        model = self.text_model
        return jax.jit(lambda params, ids, length: model.apply({"params": params}, ids, length, method="encode_text"))

    @property
    def text_model(self):
        """The model as it encodes a text without a picture."""
        return self.model

"""ALIGN (Jia et al., 2021): an EfficientNet and a BERT whose vectors of a pair that belongs together point the same way."""

import flax.linen as nn
import jax.numpy as jnp

from xmodal_jax.models.backbones.bert import BERT
from xmodal_jax.models.backbones.clip import direction
from xmodal_jax.models.backbones.efficientnet import EfficientNet
from xmodal_jax.models.dense import Dense


class ALIGN(nn.Module):
    """Two towers, a projection of the text's first word to the width of the image's mean, and a temperature.

    Verbs: encode_image(images), encode_text(ids, mask), and the call of both. Attributes: vision, text: towers, that this
    module takes a copy of.
    """

    vision: EfficientNet = EfficientNet(top=0)
    text: BERT = BERT()
    dtype: str = "float32"

    def setup(self):
        self.text_projection = Dense(self.vision.width, dtype=self.dtype)
        self.temperature_scale = self.param("temperature_scale", nn.initializers.ones, ())

    def __call__(self, images, ids, mask=None, train=False):
        """images float [B, H, W, 3], ids int32 [T, M], mask bool [T, M] (None: no padding).

        Returns:
          (Encoded of the images, Encoded of the texts, logits [B, T]: cosines divided by the temperature).
        """
        image, text = self.encode_image(images, train), self.encode_text(ids, mask, train)
        return image, text, direction(image.pooled) @ direction(text.pooled).T / self.temperature_scale

    def encode_image(self, images, train=False):
        """images float [B, H, W, 3] -> Encoded with pooled [B, P]."""
        return self.vision(images, train=train)

    def encode_text(self, ids, mask=None, train=False):
        """ids int32 [T, M], mask bool [T, M] -> Encoded with pooled [T, P]."""
        mask = jnp.ones(ids.shape, bool) if mask is None else mask
        out = self.text(ids, mask, train=train)
        return out.replace(pooled=self.text_projection(out.x[:, 0]))

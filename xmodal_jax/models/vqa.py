"""Visual question answering by any uni-modal encoders and any fusion of them (system 4, UME).

Letters: B batch, N image tokens, T tokens of a question, S samples of a sound, D width of the fusion, K answers.
"""

from typing import Any

import flax
import flax.linen as nn
import jax.numpy as jnp

from xmodal_jax.models.backbones.encoded import Encoded
from xmodal_jax.models.dense import Dense
from xmodal_jax.models.mixing import LayerMix
from xmodal_jax.models.pixels import standardised
from xmodal_jax.models.transformer import ACTIVATIONS


@flax.struct.dataclass
class Answered:
    """x [B, D] of the fusion; logits float32 [B, K] of the answers."""

    x: Any
    logits: Any


class VQA(nn.Module):
    """uint8 pictures and ids of questions -> scores of the answers.

    Attributes:
      image, text: modules that give `Encoded`; a caption as a third modality is read by `text` too; sound: a module that gives
        `Encoded` of int16 [B, S], or None.
      fusion: of `FUSIONS`; answers: K; hidden: width of the classifier's inner layer; dropout: in it.
      names: predict so many names of a picture's objects from the picture alone (0: no such head).
      mix_layers: take a learned mix of the encoders' layers in place of the last (`LayerMix`).
      mean, std: of the pixels, 0..1, of red, green, blue or of all.
    """

    image: nn.Module
    text: nn.Module
    fusion: nn.Module
    answers: int
    sound: Any = None
    hidden: int = 256
    dropout: float = 0.0
    names: int = 0
    mix_layers: bool = False
    mean: Any = 0.5
    std: Any = 0.25
    dtype: str = "float32"

    def setup(self):
        if self.names:
            self.to_names = Dense(self.names, dtype=self.dtype)
        if self.mix_layers:
            self.mix_image, self.mix_text = LayerMix(), LayerMix()
        self.up = Dense(self.hidden, dtype=self.dtype)
        self.drop = nn.Dropout(self.dropout)
        self.classifier = Dense(self.answers, dtype=self.dtype)

    def encode_image(self, images, train=False) -> Encoded:
        """images uint8 [B, H, W, 3]."""
        pixels = standardised(images, self.mean, self.std, self.dtype)
        encoded = self.mix_image(self.image, pixels, train=train) if self.mix_layers else self.image(pixels, train=train)
        return encoded.replace(names=self.to_names(encoded.x.mean(1)).astype(jnp.float32)) if self.names else encoded

    def encode_text(self, ids, length, train=False) -> Encoded:
        """ids int32 [B, T], length [B]."""
        mask = jnp.arange(ids.shape[1])[None] < length[:, None]
        return self.mix_text(self.text, ids, mask, train=train) if self.mix_layers else self.text(ids, mask, train=train)

    def encode_sound(self, samples, train=False) -> Encoded:
        """samples int16 [B, S]."""
        return self.sound(samples, train=train)

    def fuse(self, sources, train=False) -> Answered:
        """A list of `Encoded`, the question first."""
        x = self.fusion(sources, train)
        y = self.drop(ACTIVATIONS["gelu"](self.up(x)), deterministic=not train)
        return Answered(x, self.classifier(y).astype(jnp.float32))

    def __call__(self, batch, train=False):
        """Logits of a batch of any of the modalities."""
        question = self.encode_text(batch["question"], batch["question_length"], train)
        sources = [question, self.encode_image(batch["image"], train)]
        if "caption" in batch:
            sources.append(self.encode_text(batch["caption"], batch["caption_length"], train))
        if "sound" in batch:
            sources.append(self.encode_sound(batch["sound"], train))
        return self.fuse(sources, train).logits

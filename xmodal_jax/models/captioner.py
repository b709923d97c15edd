"""Image captioning by any image encoder and a GPT-2 decoder, a variational latent between them, and contrastive alignment.

System 2, Transformer-VAE-CL; without latent the plain encoder-decoder. Letters: B batch, N image tokens, M context tokens,
T text length with both end marks, D width of the decoder, P width of the shared space, V vocabulary.
"""

from typing import Any

import flax
import flax.linen as nn
import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.models.backbones.gpt2 import GPT2, causal
from xmodal_jax.models.dense import Dense
from xmodal_jax.models.latent import LATENTS, GaussianLatent
from xmodal_jax.models.pixels import standardised
from xmodal_jax.models.vectors import LOG_SCALE, at, inverse_temperature, unit

EOS_SOURCES = ("text_only", "decoder_final", "unimodal_half")


@flax.struct.dataclass
class Seen:
    """An image: context [B, M, D] for the decoder; pooled [B, P] of unit length; latents (`Latents`) or None; x [B, N, W] of
    the encoder; names [B, V], logits of the words that name it, or None.
    """

    context: Any
    pooled: Any
    latents: Any
    x: Any
    names: Any = None


@flax.struct.dataclass
class Told:
    """A text: pooled [B, P] of unit length; logits [B, T, V] of each next word and x [B, T, D], where it was decoded."""

    pooled: Any = None
    logits: Any = None
    x: Any = None


class Captioner(nn.Module):
    """uint8 images and ids of captions -> logits, unit vectors of both, latents.

    Attributes:
      image: a module that gives `Encoded`; decoder: a `GPT2` (or `T5Decoder`) that attends to it, or None:
        a dual encoder, which cannot write.
      latent: "none", "cls", "patch" or "patch_concat" (`GaussianLatent`); latent_size: Z.
      eos_source: where a caption's vector C_EOS comes from: "text_only", a second pass of the decoder without the image;
        "decoder_final", its last states, which have seen the image (the paper's words: they can copy it); "unimodal_half", the
        first decoder.unimodal blocks.
      text: a module that gives `Encoded`: a caption's vector is made from its pooled one. None: from the decoder's C_EOS.
      contrast_on: the image's vector is made from the "encoder" output or from the "latent" means.
      shared_width: P. names: predict the words of the captions from the image alone (0: no such head; else V).
      mean, std: of the pixels, 0..1, of red, green, blue or of all.
    """

    image: nn.Module
    decoder: GPT2 | None
    latent: str = "patch"
    latent_size: int = 128
    eos_source: str = "text_only"
    text: nn.Module | None = None
    contrast_on: str = "encoder"
    shared_width: int = 256
    names: int = 0
    mean: Any = 0.5
    std: Any = 0.25
    dtype: str = "float32"

    def setup(self):
        for name, valid in {
            "latent": ("none", *LATENTS), "eos_source": EOS_SOURCES, "contrast_on": ("encoder", "latent"),
        }.items():  # fmt: skip
            if getattr(self, name) not in valid:
                raise UserError(f"config.model.{name}={getattr(self, name)!r}: must be one of {', '.join(valid)}.")
        if self.contrast_on == "latent" and self.latent == "none":
            raise UserError("config.model.contrast_on='latent' needs a latent: set config.model.latent.")
        if self.decoder is None and self.text is None:
            raise UserError("config.model: without a decoder there must be a text encoder, config.model.text.")
        if self.eos_source == "unimodal_half" and self.text is None and not self.decoder.unimodal:
            raise UserError("config.model.eos_source='unimodal_half' needs config.model.decoder.unimodal blocks.")
        if self.latent != "none":
            self.bottleneck = GaussianLatent(self.latent, self.latent_size, dtype=self.dtype)
        width, wanted = self.image.width if self.latent == "none" else self.latent_size, self.decoder and self.decoder.width
        self.to_context = Dense(wanted, dtype=self.dtype) if wanted and width != wanted else None
        self.to_shared_image = Dense(self.shared_width, use_bias=False, dtype=self.dtype)
        self.to_shared_text = Dense(self.shared_width, use_bias=False, dtype=self.dtype)
        if self.names:
            self.to_names = Dense(self.names, dtype=self.dtype)
        self.log_scale = self.param("log_scale", nn.initializers.constant(LOG_SCALE), ())

    def encode_image(self, images, train=False):
        """images uint8 [B, H, W, 3] -> Seen."""
        pixels = standardised(images, self.mean, self.std, self.dtype)
        encoded = self.image(pixels, train=train)
        latents = None if self.latent == "none" else self.bottleneck(encoded.x, encoded.pooled, train)
        context = encoded.x if latents is None else latents.z.astype(self.dtype)
        if self.to_context is not None:
            context = self.to_context(context)  # [B, M, D]
        whole = encoded.pooled if self.contrast_on == "encoder" else latents.mu.mean(1)
        names = self.to_names(encoded.x.mean(1)).astype(jnp.float32) if self.names else None
        return Seen(context, unit(self.to_shared_image(whole)), latents, encoded.x, names)

    def encode_text(self, ids, length, seen=None, train=False):
        """ids int32 [B, T] from end mark to end mark, length [B]: the place of the closing one -> Told with pooled [B, P]."""
        mask = jnp.arange(ids.shape[1])[None] <= length[:, None]
        if self.text is not None:
            return Told(unit(self.to_shared_text(self.text(ids, mask, train=train).pooled)))
        if self.eos_source == "unimodal_half":
            x = self.decoder.unimodal_states(ids, mask, train=train)
        else:
            if self.eos_source == "decoder_final" and seen is None:
                raise UserError("With eos_source='decoder_final' a caption has a vector only beside an image.")
            context = seen.context if self.eos_source == "decoder_final" else None
            x, _ = self.decoder.states(ids, 0, causal(mask), context, None, train=train)
        return Told(unit(self.to_shared_text(at(x, length))))

    def decode(self, ids, length, seen, train=False):
        """Teacher-forced: ids int32 [B, T], length [B] -> Told with logits float32 [B, T, V] and states x [B, T, D]."""
        mask = jnp.arange(ids.shape[1])[None] <= length[:, None]
        x, _ = self.decoder.states(ids, 0, causal(mask), seen.context, None, train=train)
        return Told(logits=self.decoder.scores(x), x=x)

    def project_context(self, context):
        """Context [B, M, D] -> its k and v in every layer, once for a whole search."""
        return self.decoder.project_context(context)

    def step(self, ids, cache, index, context):
        """Logits [R, n, V] of ids [R, n] at positions index ..., and the cache; R a multiple of the context's rows."""
        return self.decoder.decode(ids, cache, index, context)

    def scale(self):
        """1 / temperature of the retrieval similarities, at most 100."""
        return inverse_temperature(self.log_scale)

    def cache(self, batch, length):
        """An empty key-value cache for `length` words."""
        return self.decoder.cache(batch, length)

    def __call__(self, batch, train=False):
        """Touches every parameter once (initialisation)."""
        seen = self.encode_image(batch["image"], train)
        text = self.encode_text(batch["caption"], batch["caption_length"], seen, train)
        logits = self.decode(batch["caption"], batch["caption_length"], seen, train).logits if self.decoder else None
        return logits, text.pooled, seen.pooled, self.scale()

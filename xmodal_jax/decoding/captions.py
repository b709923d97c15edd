"""A trained captioner as plain functions of pictures and strings.

Rows are padded to a few batch sizes, so that only the first call of a kind compiles.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from xmodal_jax.decoding.generation import generate
from xmodal_jax.decoding.vectors import VectorPredictor
from xmodal_jax.decoding.writing import Writer, numbers_of
from xmodal_jax.models.stacks import sown


class CaptionPredictor(Writer, VectorPredictor):
    """Captions and vectors of a shared space.

    Args: model, params: a `Captioner` and its parameters; others: as `VectorPredictor`.
    """

    more = ("candidates", "features", "latents", "look")

    @property
    def verbs(self):
        return (*["caption"] * (self.model.decoder is not None), *super().verbs)

    def _written(self, settings, images, key):
        pixels = self._stack(images)
        return self._generate(settings, self.params, pixels, key, numbers_of(pixels))

    def latents(self, images):
        """(mu, log_variance), float32 [B, n, Z] each, or None of a model without latents."""
        found = self._encode(self.params, self._stack(images)).latents
        return found and tuple(np.asarray(part)[: len(images)] for part in (found.mu, found.log_variance))

    def look(self, image, caption):
        """Where the decoder looks for each word of a caption: (words with the end mark, float32 [words, M]); rows sum to 1.

        The mean of its cross-attention over layers and heads; M: tokens of the image, or 1 of a model with one latent.
        """
        ids, length = self.maker.caption(caption)
        weights = np.asarray(self._look(self.params, self._stack([image]), ids[None], length[None]))[0, :length]
        words = [self.maker.tokenizer.decode([i]) for i in ids[1:length]]
        return [*words, "."], weights

    @property
    def text_model(self):
        """Of a model whose captions have vectors only beside an image (eos_source "decoder_final"): that of the text alone."""
        return self.model.clone(eos_source="text_only") if self.model.eos_source == "decoder_final" else self.model

    @functools.cached_property
    def _look(self):
        def look(params, images, ids, length):
            seen = self.model.apply({"params": params}, images, method="encode_image")
            _, found = self.model.apply({"params": params}, ids, length, seen, method="decode", mutable="attention")
            weights = sown(found["attention"]["decoder"]["decoder"]["layers"], "cross", "weights")  # [L, B, H, T, M]
            return weights.mean((0, 2))

        return jax.jit(look)

    @functools.cached_property
    def _generate(self):
        model = self.model

        def run(settings, params, images, key, numbers):
            variables = {"params": params}
            seen = model.apply(variables, images, method="encode_image")
            context = model.apply(variables, seen.context, method="project_context")

            def step(ids, cache, index):
                return model.apply(variables, ids, cache, index, context, method="step")

            prompt = jnp.full((len(images), 1), self.maker.begin, jnp.int32)
            cache = model.apply(variables, len(images), 1 + settings.length, method="cache")
            return generate(step, cache, prompt, settings, key, numbers)

        return jax.jit(run, static_argnums=0)

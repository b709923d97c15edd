"""A trained captioner as plain functions of pictures and strings.

Rows are padded to a few batch sizes, so that only the first call of a kind compiles.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from xmodal_jax.decoding.generation import Generation, generate
from xmodal_jax.decoding.vectors import VectorPredictor
from xmodal_jax.errors import UserError
from xmodal_jax.models.stacks import sown


class CaptionPredictor(VectorPredictor):
    """Captions and vectors of a shared space.

    Args: model, params: a `Captioner` and its parameters; others: as `VectorPredictor`.
    """

    more = ("candidates", "features", "latents", "look")

    @property
    def verbs(self):
        return (*["caption"] * (self.model.decoder is not None), *super().verbs)

    def write_captions(self, images, lang=None, returned=1, seed=0, **settings):
        """n-best captions of every picture, lists of strings."""
        if lang:
            raise UserError("This model writes captions in the language of its training: it takes no lang.")
        return [texts for texts, _ in self.candidates(images, seed, returned=returned, **settings)]

    def candidates(self, images, seed=0, **settings):
        """n-best captions: for each picture (list of texts, scores float32 [n]), the best first; n: setting `returned`."""
        self.need("caption")
        wanted, rows, count = self.settings(**settings), self._stack(images), len(images)
        found = self._generate(wanted, self.params, rows, jax.random.PRNGKey(seed))
        ids, scores = np.asarray(found.ids)[:count], np.asarray(found.scores)[:count]
        return [([self.maker.text(one) for one in row], score) for row, score in zip(ids, scores, strict=True)]

    def settings(self, **settings):
        """A `Generation` with this model's end mark and length, that never writes the unknown word."""
        end, unknown = self.maker.end, self.maker.tokenizer.unk_token_id
        suppress = () if unknown in (None, end) else (unknown,)  # GPT-2's one special token is its unknown word too
        made = {"length": self.maker.config.length + 1, "end": end, "pad": end, "suppress": suppress}
        return Generation(**made | settings)

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

        def run(settings, params, images, key):
            variables = {"params": params}
            seen = model.apply(variables, images, method="encode_image")
            context = model.apply(variables, seen.context, method="project_context")

            def step(ids, cache, index):
                return model.apply(variables, ids, cache, index, context, method="step")

            prompt = jnp.full((len(images), 1), self.maker.begin, jnp.int32)
            cache = model.apply(variables, len(images), 1 + settings.length, method="cache")
            return generate(step, cache, prompt, settings, key)

        return jax.jit(run, static_argnums=0)

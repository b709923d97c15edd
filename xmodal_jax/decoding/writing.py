"""What models that write captions have in common, whatever writes them."""

import jax
import numpy as np

from xmodal_jax.decoding.generation import Generation
from xmodal_jax.errors import UserError


class Writer:
    """Of a `VectorPredictor` with `_written(settings, images, key)` -> `Generated` of rows of images."""

    def write_captions(self, images, lang=None, returned=1, seed=0, **settings):
        """n-best captions of every picture, lists of strings."""
        if lang:
            raise UserError("This model writes captions in the language of its training: it takes no lang.")
        return [texts for texts, _ in self.candidates(images, seed, returned=returned, **settings)]

    def candidates(self, images, seed=0, **settings):
        """n-best captions: for each picture (list of texts, scores float32 [n]), the best first; n: setting `returned`."""
        self.need("caption")
        return self.texts_of(self._written(self.settings(**settings), images, jax.random.PRNGKey(seed)), len(images))

    def texts_of(self, found, count):
        """`Generated` of at least `count` rows -> [(list of texts, scores), ...] of the first `count`."""
        ids, scores = np.asarray(found.ids)[:count], np.asarray(found.scores)[:count]
        return [([self.maker.text(one) for one in row], score) for row, score in zip(ids, scores, strict=True)]

    def settings(self, **settings):
        """A `Generation` with this model's end mark and length, that never writes the unknown word, nor a mask it was shown."""
        end, tokenizer = self.maker.end, self.maker.tokenizer
        never = {tokenizer.unk_token_id} | ({tokenizer.mask_token_id} if getattr(self.maker.config, "masks", False) else set())
        never -= {None, end}  # GPT-2's one special token is its unknown word too
        made = {"length": self.maker.config.length + 1, "end": end, "pad": end, "suppress": tuple(sorted(never))}
        return Generation(**made | settings)

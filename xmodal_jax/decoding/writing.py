"""What models that write captions have in common, whatever writes them."""

import zlib

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
        length = self.maker.config.length + 1  # with the mark
        length = min(length, self.positions - 1) if self.positions else length
        made = {"length": length, "end": end, "pad": end, "suppress": tuple(sorted(never))}
        made |= settings
        if self.positions and made["length"] >= self.positions:
            raise UserError(
                f"length={made['length']}: this model has {self.positions} positions, the first of them for the mark before a "
                f"text: it writes at most {self.positions - 1} words."
            )
        return Generation(**made)

    @property
    def positions(self):
        """Places of a text that the decoder knows, or 0 where it does not count them."""
        return getattr(self.model.decoder, "positions", 0)


def numbers_of(pixels):
    """uint32 [B] of pictures [B, H, W, 3], by their contents: what is drawn for one does not depend on those beside it."""
    return np.array([zlib.crc32(np.ascontiguousarray(one)) for one in pixels], np.uint32)

"""What a model whose texts and pictures meet in its layers does with them, beside giving them vectors where it has these."""

import functools

import jax
import numpy as np

from xmodal_jax.decoding.predictor import BLANK, paired
from xmodal_jax.decoding.vectors import VectorPredictor
from xmodal_jax.errors import UserError


class PairPredictor(VectorPredictor):
    """A composed model's predictor.

    `fill`, of models with the head "words": the likeliest word in the place of a blank. `match`, of models with the head
    "match": the probability that a text and a picture are a pair, which puts the best of a search in order.
    """

    @property
    def verbs(self):
        fills = self.model.interaction and "words" in self.model.predicts and self.maker.tokenizer.mask_token_id is not None
        return super().verbs + ("fill",) * bool(fills)

    @property
    def more(self):
        return super().more + ("match",) * ("match" in self.model.predicts)

    def match(self, pictures, texts):
        """Probabilities that each text and its picture are a pair, float32 [B], or a float of one of each."""
        if "match" not in self.model.predicts:
            raise UserError(f"{self.title}: this model does not tell pairs: train it with objectives.match or match_hard.")
        pictures, texts, one = paired(pictures, texts, "texts")
        ids, lengths = self._stack_texts(texts)
        logits = self._fused(self.params, *self._inputs(pictures), ids, lengths)[1]
        shares = np.asarray(jax.nn.softmax(logits))[: len(texts), 1]
        return float(shares[0]) if one else shares

    def fill_blanks(self, pictures, texts):
        tokenizer = self.maker.tokenizer
        ids, lengths = self._stack_texts([text.replace(BLANK, f" {tokenizer.mask_token} ", 1) for text in texts])
        masked = ids == tokenizer.mask_token_id
        if not masked.any(1).all():
            raise UserError(f"The blank stands behind the {self.maker.config.length} words that this model reads of a text.")
        logits = self._fused(self.params, *self._inputs(pictures), ids, lengths)[0]  # [B, T, V]
        own = np.asarray(jax.nn.log_softmax(logits))[np.arange(len(ids)), masked.argmax(1)]
        own[:, [tokenizer.mask_token_id, self.maker.end]] = -np.inf
        best = own.argmax(-1)
        return [(tokenizer.decode([word]).strip(), float(row[word])) for word, row in zip(best, own, strict=True)][: len(texts)]

    @functools.cached_property
    def _fused(self):
        def fused(model, pixels, more, ids, lengths):
            image = model.encode_image(pixels) if more is None else model.encode_image(pixels, more)
            pair = model.fuse(model.encode_text(ids, lengths), image)
            given = {"words": pair.text, "match": pair.pooled}
            return tuple(model.predict(head, x) if head in model.predicts else None for head, x in given.items())

        return jax.jit(lambda params, *given: self.model.apply({"params": params}, *given, method=fused))

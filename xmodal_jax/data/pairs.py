"""From an example to the views of a pair that objectives of fused models learn from: words masked, a text that is another's.

Letters: T text length with both end marks, K masked words at most.
"""

import copy
import dataclasses

import numpy as np

from xmodal_jax.data.captioning import CaptionExamples, CaptionMaker
from xmodal_jax.errors import UserError

MASKS = ("none", "random", "whole_word", "span")
OTHERS = ("none", "text")
TRIES = 20  # draws, before what may be impossible is given up


@dataclasses.dataclass(frozen=True)
class PairExamples(CaptionExamples):
    """How the examples of a fused model are made.

    Attributes:
      masked: which of the caption's words are masked: "none"; "random", each token by itself (BERT, Devlin et al., 2019);
        "whole_word", all tokens of a word together (ViLT, Kim et al., 2021); "span", runs of words of geometric lengths,
        about four on average, at most ten (SpanBERT, Joshi et al., 2020).
      mask_share: of the tokens, at least one. replaced, retained: shares of the masked tokens that become another word, and
        that stay; the others become the mask token.
      other: "text": also a text that is the picture's own or, as often, another picture's, for the matching of both.
    """

    masked: str = "none"
    mask_share: float = 0.15
    replaced: float = 0.1
    retained: float = 0.1
    other: str = "none"

    def __post_init__(self):
        super().__post_init__()
        for name, valid in {"masked": MASKS, "other": OTHERS}.items():
            if getattr(self, name) not in valid:
                raise UserError(f"examples.{name}={getattr(self, name)!r}: must be one of {', '.join(valid)}.")
        if not 0 < self.mask_share <= 1:
            raise UserError(f"examples.mask_share={self.mask_share} must lie within 0..1, and not be 0.")
        if min(self.replaced, self.retained) < 0 or self.replaced + self.retained > 1:
            raise UserError(
                f"examples.replaced={self.replaced} and retained={self.retained} are shares of the masked words, together at "
                "most 1."
            )


class PairMaker(CaptionMaker):
    """Also gives "masked" int32 [T], "masked_places" int32 [K] and "masked_words" int32 [K] (-1: none), and "other" int32 [T]
    with "other_length" and "match" (1: it is the picture's own, else 0), as far as its config asks for them.

    The tokeniser needs a mask token where words are masked.
    """

    def over(self, source):
        """The same over another source, whose texts are those of wrong pairs."""
        other = copy.copy(self)
        other.source = source
        return other

    @property
    def places(self):
        """K: of the longest caption, and a few more, so that its last word is masked whole."""
        return int(np.ceil(self.config.length * self.config.mask_share)) + 3 * (self.config.masked != "random")

    def __call__(self, example, position):
        made = super().__call__(example, position)
        rng = np.random.default_rng((self.seed, position, 1))  # the caption stays that of a model without these views
        if self.config.masked != "none":
            made |= self.masked(made["caption"], int(made["caption_length"]), rng)
        if self.config.other != "none":
            made |= self.matched(example, made, rng)
        return made

    def masked(self, ids, length, rng):
        """A caption's ids from end mark to end mark at `length` -> the caption masked, where, and what stood there."""
        config, hidden = self.config, ids.copy()
        count = min(self.places, max(1, round((length - 1) * config.mask_share)))
        chosen = chosen_words(self.words_of(ids, length), config.masked, count, self.places, rng)
        places, words = np.zeros(self.places, np.int32), np.full(self.places, -1, np.int32)
        for number, place in enumerate(sorted(chosen)):
            places[number], words[number] = place, ids[place]
            drawn = rng.random()
            if drawn < config.replaced:
                hidden[place] = rng.integers(self.vocabulary)
            elif drawn >= config.replaced + config.retained:
                hidden[place] = self.tokenizer.mask_token_id
        return {"masked": hidden, "masked_places": places, "masked_words": words}

    def words_of(self, ids, length):
        """Places of the tokens of each word between the end marks: [[place, ...], ...]."""
        if self.config.masked == "random":
            return [[place] for place in range(1, length)]
        pieces = self.tokenizer.convert_ids_to_tokens(ids[1:length])
        words = []
        for place, piece in enumerate(pieces, 1):
            if words and continues(piece, pieces):
                words[-1].append(place)
            else:
                words.append([place])
        return words

    def matched(self, example, made, rng):
        """The own text, or another picture's."""
        if rng.random() < 0.5 or (text := self.wrong(example["captions"], rng)) is None:
            return {"other": made["caption"], "other_length": made["caption_length"], "match": np.int32(1)}
        ids, length = self.caption(text)
        return {"other": ids, "other_length": length, "match": np.int32(0)}

    def wrong(self, own, rng):
        """A text of another picture that is none of this one's, or None where none was found."""
        for _ in range(TRIES):
            captions = self.source.captions(int(rng.integers(len(self.source))))[0]
            text = captions[int(rng.integers(len(captions)))]
            if text not in own:
                return text
        return None

    def example_batch(self, rows):
        batch, T = super().example_batch(rows), self.config.length + 2
        if self.config.masked != "none":
            batch |= {"masked": np.zeros((rows, T), np.int32)}
            batch |= {name: np.zeros((rows, self.places), np.int32) for name in ("masked_places", "masked_words")}
        if self.config.other != "none":
            batch |= {"other": np.zeros((rows, T), np.int32)}
            batch |= {name: np.zeros(rows, np.int32) for name in ("other_length", "match")}
        return batch


def continues(piece, pieces):
    """Whether a token goes on with the word before it, in the marks of WordPiece ("##") or of byte pairs and SentencePiece,
    whose words begin with a mark of the space before them."""
    starts = [mark for mark in ("Ġ", "▁") if any(other.startswith(mark) for other in pieces)]
    return piece.startswith("##") or bool(starts and not piece.startswith(tuple(starts)))


def chosen_words(words, masks, count, most, rng):
    """Places of about `count` tokens, never more than `most`, of whole words [[place, ...], ...]."""
    chosen = set()

    def choose(word):
        if len(chosen) < count and len(chosen.union(word)) <= most:
            chosen.update(word)

    if masks != "span":
        for number in rng.permutation(len(words)):
            choose(words[number])
        return chosen
    for _ in range(TRIES * count):
        run, start = min(int(rng.geometric(0.2)), 10), int(rng.integers(len(words)))  # 3.8 words on average
        for word in words[start : start + run]:
            choose(word)
    return chosen

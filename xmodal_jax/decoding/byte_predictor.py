"""A trained crossmodal byte model as plain functions of pictures and strings.

Shapes are padded to a few sizes, so that only the first call of a kind compiles.
"""

import functools
import re

import jax
import numpy as np

from xmodal_jax.data import bytes as byte_ids
from xmodal_jax.data import images, masking
from xmodal_jax.data.bytes import cut, shift_right, with_end, with_gaps
from xmodal_jax.data.examples import caption_prompt
from xmodal_jax.decoding.greedy import greedy, log_likelihood
from xmodal_jax.decoding.predictor import ALIGNED, BLANK, Predictor, refuse, round_up, round_up_rows
from xmodal_jax.errors import UserError
from xmodal_jax.models.crossmodal_bytes import over_groups
from xmodal_jax.spelling import MARKS, spelled


class BytePredictor(Predictor):
    """Association, masked words, senses, captions, answers and vectors.

    Args:
      model, params: a `CrossmodalBytes` and its parameters; maker: the `ExampleMaker` of its training. others: as `Predictor`.
    Images may be None (text alone), and are sounds, int16 [samples], where the second modality is audio.
    """

    more = ("associate", "associate_word", "associate_blank", "pick_sense", "relation")

    def __init__(self, model, params, maker, **others):
        super().__init__(model, params, maker, **others)
        self.examples, self.inventories = maker.config, maker.inventories

    @property
    def verbs(self):
        return ("caption", *["answer"] * self.examples.asks, "fill", *ALIGNED * self.aligned)

    # -- one picture, one text ------------------------------------------------------------------------------------

    def associate(self, image, text):
        """The association matrix (claim 4): which part of the second modality each character of `text` goes with.

        Returns:
          (pieces: list of the text's tokens as bytes, weights float32 [tokens, groups], rows sum to 1; groups are
          patches in rows where the second modality is a raw image).
        """
        text = spelled(text)
        fused, second = self.encode([image], [with_end(text, self.examples.text_length)])
        weights = over_groups(fused.association, second.reduced.assignment)[0]
        window = self.model.text_window
        raw = cut(text, self.examples.text_length - 1).encode()
        pieces = [raw[i : i + window] for i in range(0, len(raw), window)]
        return pieces, np.asarray(weights)[: len(pieces)]

    def associate_word(self, image, text, span):
        """Mean association of the characters text[start:end]: float32 [groups]."""
        start, end = (len(spelled(text[:at]).encode()) for at in span)
        pieces, weights = self.associate(image, text)
        window = self.model.text_window
        if start // window >= len(pieces):
            raise UserError(f"The word {text[slice(*span)]!r} lies beyond the {self.examples.text_length} bytes that are read.")
        return weights[start // window : max(start // window + 1, -(-end // window))].mean(0)

    def associate_blank(self, image, text, span):
        """Where the masked word text[start:end] is looked for: float32 [groups]."""
        masked = self.mask(text, span)
        fused, second = self.encode([image], [masked])
        weights = np.asarray(over_groups(fused.association, second.reduced.assignment)[0])
        gap = np.flatnonzero(masked >= byte_ids.FIRST_SENTINEL) // self.model.text_window
        return weights[gap].mean(0)

    def relation(self, image):
        """(assignment [K, N], relation [N, N] or [K, K] or None) of the reducer (claim 3)."""
        _, second = self.encode([image], [with_end("", 2)])
        reduced = second.reduced
        return np.asarray(reduced.assignment[0]), None if reduced.relation is None else np.asarray(reduced.relation[0])

    def pick_sense(self, image, text, word, lang="en"):
        """Which sense `word` has in `text` beside `image` -> list of (Sense, probability), likeliest first.

        A sense that has no word of its own, which no other sense shares, cannot be told from the others: it stands behind them
        with None in place of a probability. Raises UserError where at most one sense can be told.
        """
        word, text = spelled(word), spelled(text)
        found = where(word, text)
        if found is None:
            raise UserError(f"The word {word!r} does not stand in the text {text!r}.")
        inventory = self.inventories.get(lang)
        lemma = inventory.lemma(word) if inventory is not None else None
        if lemma is None:
            raise UserError(f"No sense inventory for language {lang!r} lists {word!r}; there are {sorted(self.inventories)}.")
        known = inventory.senses(lemma)
        own = dict(zip(known, expressions(known, lemma), strict=True))
        told = [sense for sense in known if own[sense]]
        if len(told) < 2:
            alike = ", ".join(repr(sense.gloss) for sense in known if not own[sense]) or "there is but one"
            raise UserError(f"The senses of {lemma!r} cannot be told apart by words of their own: {alike}.")
        item = {"text": text, "span": found.span(), "expressions": [own[sense] for sense in told]}
        probabilities = self.sense_probabilities([image], [item])[0]
        order = np.argsort(-probabilities, kind="stable")
        return [(told[i], float(probabilities[i])) for i in order] + [(sense, None) for sense in known if not own[sense]]

    # -- batches --------------------------------------------------------------------------------------------------

    def write_captions(self, seconds, lang=None, returned=1, seed=0, length=None, **settings):
        """[text] for each second modality, the likeliest: no seed matters."""
        del seed
        langs = self.maker.langs or sorted(self.inventories)
        if lang and langs and lang not in langs:
            raise UserError(f"{self.title}: no captions in {lang!r} were learned; there are {', '.join(langs)}.")
        lang = lang or ("en" if "en" in langs or not langs else langs[0])
        beside = self.examples.caption_length if "caption" in self.examples.beside else 0  # learned as long as that
        length = length or max(self.examples.target_length, beside)
        prompts = [caption_prompt(lang)] * len(seconds)
        return self._likeliest(seconds, prompts, returned, length, settings, self.examples.caption_gaps)

    def write_answers(self, seconds, questions, returned=1, length=None, **settings):
        """[text] for each second modality and its question."""
        gap = (byte_ids.sentinel(0),) * self.examples.answer_gap
        return self._likeliest(seconds, questions, returned, length, settings, len(gap), gap)

    def _likeliest(self, seconds, prompts, returned, length, settings, gaps=0, first=()):
        """gaps: behind each prompt. first: ids that what is written begins with."""
        refuse({**settings, **({"returned": returned} if returned > 1 else {})}, "writes the likeliest text")
        fused, _ = self.encode(seconds, [with_gaps(prompt, self.examples.text_length, gaps) for prompt in prompts])
        prefix = (byte_ids.PAD, *first)
        ids, _ = greedy(self.model, self.params, fused, prefix, length or self.examples.target_length)
        return [[byte_ids.decode_text(row)] for row in np.asarray(ids)[: len(prompts)]]

    def fill_blanks(self, seconds, texts):
        """(word, log-probability) for the first blank of each text."""
        starts = [text.index(BLANK) for text in texts]
        words, scores = self.fill_batch(seconds, texts, [(start, start + len(BLANK)) for start in starts])
        return [(word, float(score)) for word, score in zip(words, scores, strict=True)]

    def fill_batch(self, seconds, texts, spans):
        """The words for the masked spans, one a text -> (list of words, log-probabilities [B])."""
        return self.fill_masked(seconds, [self.mask(text, span) for text, span in zip(texts, spans, strict=True)])

    def fill_masked(self, seconds, masked, segments=None):
        """The same of texts that are masked already, ids; segments: of each of their ids, where further texts stand behind."""
        fused, _ = self.encode(seconds, masked, segments=segments)
        prefix = (byte_ids.PAD, byte_ids.sentinel(0))
        ids, scores = greedy(self.model, self.params, fused, prefix, min(48, self.examples.target_length))
        return [byte_ids.decode_text(row) for row in np.asarray(ids)[: len(masked)]], np.asarray(scores)[: len(masked)]

    def sense_probabilities(self, seconds, items, associate=None):
        """P(sense | second modality, text with the word masked) from what could stand in the gap instead.

        A sense's score is the summed probability of its own expressions (words that no other sense of the word shares).

        Args:
          items: dictionaries with "text", "span" and "expressions" (list over senses of lists of strings).
          associate: (texts as ids, association [rows, T, K]) -> the association to take in its place.
        Returns:
          list of float64 [senses]; uniform where no sense has an expression of its own.
        """
        masked = [self.mask(item["text"], item["span"]) for item in items]
        counts = [[len(e) for e in item["expressions"]] for item in items]
        most = max(1, max(sum(count) for count in counts))
        scores = self.score_candidates(seconds, masked, [sum(item["expressions"], []) for item in items], most, associate)
        out = []
        for row, count in zip(scores, counts, strict=True):
            parts = np.split(row[: sum(count)], np.cumsum(count)[:-1])
            logs = np.array([np.logaddexp.reduce(part) if len(part) else -np.inf for part in parts])
            if not np.isfinite(logs).any():
                out.append(np.full(len(count), 1 / len(count)))
                continue
            weights = np.exp(logs - logs.max())
            out.append(weights / weights.sum())
        return out

    def score_candidates(self, seconds, masked, candidates, most, associate=None):
        """log p(candidate fills the first gap), float64 [B, most], -inf where a row has fewer candidates. associate: as of
        `sense_probabilities`."""
        length = round_up(max([len(with_end(c, 4096)) for row in candidates for c in row] + [1]) + 1, 16)
        rows = round_up_rows(len(masked))
        target = np.zeros((rows, most, length), np.int32)
        weights = np.zeros((rows, most, length), np.float32)
        scores = np.full((len(masked), most), -np.inf)
        for i, row in enumerate(candidates):
            for j, candidate in enumerate(row):
                ids = np.append(np.int32(byte_ids.sentinel(0)), with_end(candidate, length - 1))
                target[i, j, : len(ids)] = ids
                weights[i, j, 1 : len(ids)] = 1
        fused, _ = self.encode(seconds, masked)
        if associate is not None:
            fused, _ = self.encode(seconds, masked, associate(masked, np.asarray(fused.association)[: len(masked)]))
        flat = target.reshape(-1, length)
        inputs = np.stack([shift_right(row) for row in flat])
        found = log_likelihood(self.model, self.params, fused, inputs, flat, weights.reshape(-1, length))
        found = np.asarray(found, np.float64).reshape(rows, most)
        for i, row in enumerate(candidates):
            scores[i, : len(row)] = found[i, : len(row)]
        return scores

    def pooled(self, seconds=None, texts=None):
        """Unit vectors of the shared space: (second modality [B, P] or None, texts [B, P] or None)."""
        left = right = None
        if seconds is not None:
            raw, used = self._stack_seconds(seconds)
            left = np.asarray(self._encode_second(self.params, raw, used).pooled)[: len(seconds)]
        if texts is not None:
            ids = self._stack_texts([with_end(text, self.examples.caption_length) for text in texts])
            right = np.asarray(self._encode_text(self.params, ids).pooled)[: len(texts)]
        return left, right

    def text_vectors(self, texts):
        """Mean-pooled hidden states of the text encoder alone: float32 [texts, D]."""
        ids = self._stack_texts([with_end(text, self.examples.text_length) for text in texts])
        return np.asarray(self._encode_text(self.params, ids).summary, np.float32)[: len(texts)]

    def encode(self, seconds, texts, association=None, segments=None):
        """Fused tokens and second-modality tokens of rows; texts are int32 ids. Rows are padded to a few batch sizes.
        association: float [rows, T, K] in place of the model's own, or None; segments: of the ids, None: all 0."""
        raw, used = self._stack_seconds(seconds)
        if association is not None:
            association = np.pad(association, ((0, len(raw) - len(association)), (0, 0), (0, 0)))
        ids = self._stack_texts(texts)
        segments = np.zeros_like(ids) if segments is None else self._stack_texts(segments)
        return self._encode(self.params, raw, used, ids, segments, association)

    def mask(self, text, span):
        """Ids of `text` with characters start..end masked; of a text too long for the model, what is around the gap."""
        ids, most = masking.mask_text(text, [span], self.examples.mask_span), self.examples.text_length
        if len(ids) > most:
            gap = int(np.flatnonzero(ids >= byte_ids.FIRST_SENTINEL)[0])
            start = max(0, min(gap - most // 2, len(ids) - most))
            ids = ids[start : start + most]
        return ids

    def _stack_texts(self, texts):
        out = np.zeros((round_up_rows(len(texts)), self.examples.text_length), np.int32)
        for row, ids in zip(out, texts, strict=False):
            row[: len(ids)] = ids[: len(row)]
        return out

    def _stack_seconds(self, seconds):
        rows = round_up_rows(len(seconds))
        raw, used = np.zeros((rows, self.examples.second_length), np.uint8), np.zeros(rows, np.int32)
        for i, second in enumerate(seconds):
            if second is not None:
                raw[i], used[i] = self.examples.second_modality(self.as_example(second))
        return raw, used

    def as_example(self, second):
        examples = self.examples
        if isinstance(second, dict):
            return second
        if examples.second in ("audio", "series"):
            return {"id": examples.second, examples.second: np.asarray(second)}
        if examples.image_bytes == "file":
            return {"id": "picture", "image_file": images.file_of(second)}
        return {"id": "picture", "image": images.picture_of(second, examples.image_size, examples.mode)}

    @functools.cached_property
    def _encode(self):
        def encode(params, raw, used, ids, segments, association):
            variables = {"params": params}
            second = self.model.apply(variables, raw, used, method="encode_image")
            text = self.model.apply(variables, ids, segments, method="encode_text")
            return self.model.apply(variables, text, second, False, association, method="fuse"), second

        return jax.jit(encode)

    @functools.cached_property
    def _encode_second(self):
        return jax.jit(lambda params, raw, used: self.model.apply({"params": params}, raw, used, method="encode_image"))

    @functools.cached_property
    def _encode_text(self):
        return jax.jit(lambda params, ids: self.model.apply({"params": params}, ids, method="encode_text"))


def where(word, text):
    """Where a word stands in a text, a match or None: as it is written, else in another case; where letters are no Latin ones,
    with a particle behind it too, or without spaces around it."""
    if not word:
        return None
    written, letter = re.escape(word), rf"[\w{MARKS}]"
    whole = rf"(?<!{letter}){written}(?!{letter})"
    found = re.search(whole, text) or re.search(whole, text, re.IGNORECASE)
    if found is None and not word.isascii():
        found = re.search(rf"(?<!{letter}){written}", text) or re.search(written, text)
    return found


def expressions(known, lemma):
    """For each sense, its synonyms and hypernyms that no other sense of the word has and that are not the word itself."""
    owned = [list(dict.fromkeys((*sense.synonyms, *sense.hypernyms))) for sense in known]
    return [
        [e for e in own if e != lemma and not any(e in other for j, other in enumerate(owned) if j != i)]
        for i, own in enumerate(owned)
    ]

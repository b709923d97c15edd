"""The metrics of image captioning on plain texts, without Java and without downloads.

SPICE is left out: it compares scene graphs that a dependency parser in Java makes of the sentences, and no figure
without that very parser would be comparable.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from absl import logging

from xmodal_jax.errors import UserError
from xmodal_jax.metrics.bleu import bleu_scores, bleu_stats
from xmodal_jax.metrics.cider import CiderD
from xmodal_jax.metrics.meteor import Senses, meteor, meteor15_score, meteor15_stats, meteor15_words, word_matcher
from xmodal_jax.metrics.rouge import rouge_f1, rouge_l, rouge_words
from xmodal_jax.metrics.tokens import caption_tokens
from xmodal_jax.metrics.workers import spread, usable_cores

_CHUNK = 100  # items a job
_WORTH = 1000  # items from which on other processes pay for their start
_SECONDS = 5.0  # between two lines of progress


def caption_scores(
    candidates: Sequence[str] | Mapping,
    references: Sequence[Sequence[str]] | Mapping,
    *,
    synonyms: Senses | None = None,
    processes: int | None = None,
    each: bool = False,
) -> dict[str, float] | tuple[dict[str, float], dict[str, np.ndarray]]:
    """Scores of one candidate an item against all references of that item.

    | key | what | published as |
    | --- | --- | --- |
    | bleu1 .. bleu4 | BLEU over the corpus | Bleu_1 .. Bleu_4 |
    | rougeL | ROUGE-L of the caption evaluation | ROUGE_L |
    | rouge1_f, rougeL_f | F1 of Google's rouge-score, best reference, no stems | rouge1, rougeL |
    | meteor | METEOR's classic form, best reference | NLTK's meteor_score, some 1 % lower |
    | meteor15 | METEOR 1.5 over the corpus, without paraphrases | METEOR, some 3 % higher |
    | meteor_synonyms | 1 if both METEORs had synonyms, 0 if that stage was left out | |
    | cider | CIDEr, document frequencies from the references | |
    | ciderD | CIDEr-D, the same | CIDEr: the public code's is CIDEr-D |

    All are fractions of 1 but CIDEr (about 0 to 10). Texts are raw: they are tokenised here by `caption_tokens` (by
    `rouge_words` for the F1 forms).

    Args:
      candidates: texts, or a mapping from an item's key to its text.
      references: one list of texts an item, in the same order or under the same keys.
      synonyms: a function from a word to its senses, as `wordnet_senses` gives; None leaves METEOR's synonyms out.
      processes: how many to use; by default every core, and only this one for few items.
      each: also return {key: [items]} of values per item, in the candidates' order; BLEU is then a sentence's.

    Raises:
      UserError: candidates and references do not belong together, or are no texts.
    """
    texts, groups = _checked(candidates, references)
    if synonyms is None:
        logging.log_first_n(logging.INFO, "METEOR has no synonyms here: meteor and meteor15 match words and stems only.", 1)
    tokens = [caption_tokens(text) for text in texts]
    others = [[caption_tokens(text) for text in group] for group in groups]
    items = list(zip(texts, groups, tokens, others, strict=True))
    jobs = [items[at : at + _CHUNK] for at in range(0, len(items), _CHUNK)]
    if processes is None:
        processes = usable_cores() if len(texts) >= _WORTH else 1
    with spread(_scorer, _table(tokens, others, synonyms), jobs, min(processes, len(jobs))) as results:
        judge = CiderD(others)
        cider = np.array([judge.scores(*pair) for pair in zip(tokens, others, strict=True)])  # [items, 2]
        rows = [row for chunk in _watched(results, len(texts)) for row in chunk]
    bleu, meteor15, rest = map(np.array, zip(*rows, strict=True))
    names = ("rougeL", "rouge1_f", "rougeL_f", "meteor")
    per_item = {f"bleu{n + 1}": values for n, values in enumerate(np.array([bleu_scores(row) for row in bleu]).T)}
    per_item |= dict(zip(names, rest.T, strict=True)) | {"meteor15": np.array([meteor15_score(row) for row in meteor15])}
    per_item |= {"cider": cider[:, 0], "ciderD": cider[:, 1]}
    scores = {key: float(values.mean()) for key, values in per_item.items()}
    scores |= {f"bleu{n + 1}": value for n, value in enumerate(bleu_scores(bleu.sum(0)))}
    scores |= {"meteor15": meteor15_score(meteor15.sum(0)), "meteor_synonyms": float(synonyms is not None)}
    return (scores, per_item) if each else scores


def _watched(chunks: Iterable[list], total: int) -> Iterator[list]:
    """The chunks as they are, with a line of progress every few seconds."""
    done, start = 0, time.monotonic()
    shown = start
    for chunk in chunks:
        done += len(chunk)
        now = time.monotonic()
        if now - shown > _SECONDS:
            rate, shown = done / (now - start), now
            logging.info("captions scored: %d of %d, %.0f/s, %.0f s left", done, total, rate, (total - done) / rate)
        yield chunk


def _table(tokens, others, synonyms):
    """{word: senses} of the words that occur, of the senses that two of them share: it travels in place of a function."""
    if synonyms is None:
        return None
    words = {word for group in (tokens, *others) for text in group for word in text}
    words |= {part for word in words for part in meteor15_words([word])}
    table = {word: set(synonyms(word)) for word in words}
    counts = Counter(sense for senses in table.values() for sense in senses)
    shared = {sense for sense, count in counts.items() if count > 1}
    return {word: both for word, senses in table.items() if (both := senses & shared)}


def _scorer(table):
    senses = None if table is None else (lambda word: table.get(word, ()))
    porter, english = word_matcher("porter", senses), word_matcher("english", senses)

    def score(job):
        return [
            (
                bleu_stats(tokens, group),
                meteor15_stats(meteor15_words(tokens), [meteor15_words(other) for other in group], english),
                (
                    rouge_l(tokens, group),
                    *rouge_f1(rouge_words(text), [rouge_words(other) for other in texts]),
                    meteor(tokens, group, porter),
                ),
            )
            for text, texts, tokens, group in job
        ]

    return score


def _checked(candidates, references) -> tuple[list[str], list[list[str]]]:
    for name, value in (("candidates", candidates), ("references", references)):
        if isinstance(value, str) or not isinstance(value, (Sequence, Mapping, np.ndarray)):
            raise UserError(f"{name} is {type(value).__name__}; it must be a list or a dict, one entry an item.")
    if isinstance(candidates, Mapping) != isinstance(references, Mapping):
        raise UserError("candidates and references must both be lists, or both dicts with the same keys.")
    if isinstance(candidates, Mapping):
        if odd := candidates.keys() ^ references.keys():
            key = next(iter(odd))
            where = "candidates" if key in candidates else "references"
            raise UserError(f"{len(odd)} keys are in only one of candidates and references: {key!r} is in {where} alone.")
        keys = list(candidates)
        candidates, references = [candidates[key] for key in keys], [references[key] for key in keys]
    else:
        keys = range(len(candidates))
    if len(candidates) != len(references):
        raise UserError(f"{len(candidates)} candidates for {len(references)} lists of references; each needs one.")
    if not len(candidates):
        raise UserError("There are no candidates to score.")
    for key, text, group in zip(keys, candidates, references, strict=True):
        if not isinstance(text, str):
            raise UserError(f"candidates[{key!r}] is {type(text).__name__}, not a text: {text!r:.80}.")
        if isinstance(group, str) or not isinstance(group, (Sequence, np.ndarray)):
            raise UserError(f"references[{key!r}] is {type(group).__name__}; it must be a list of texts.")
        if not len(group):
            raise UserError(f"references[{key!r}] is empty; every item needs at least one reference.")
        for number, other in enumerate(group):
            if not isinstance(other, str):
                raise UserError(f"references[{key!r}][{number}] is {type(other).__name__}, not a text: {other!r:.80}.")
    return list(candidates), [list(group) for group in references]

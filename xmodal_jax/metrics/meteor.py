"""METEOR for English: words aligned exactly, by stem and by synonym, scored by matches and by how few chunks they form.

Two forms. With m matched words in ch chunks (runs adjacent in both texts), P and R the matched shares of the candidate and
of the reference, F = P R / (alpha P + (1 - alpha) R), the score is F (1 - gamma (ch / m)^beta):

* classic (Lavie and Agarwal 2007): alpha .9, beta 3, gamma .5; a greedy alignment stage by stage, as in NLTK's
  `single_meteor_score`; Porter's stems. NLTK looks up synonyms of stems ("bicycl") where words are meant, so that its
  figures are some 1 % lower.
* 1.5 (Denkowski and Lavie 2014), its parameters for English: alpha .85, beta .2, gamma .6; in P and R a match by stem
  counts .6 and by synonym .8, a function word counts 1 - delta and any other delta = .75; Snowball's English stems. The
  published figures of the caption evaluation have a table of paraphrases of 60 MB on top, which is left out here: they
  are some 3 % higher.
"""

import functools
import re
from collections.abc import Callable, Collection, Hashable, Sequence

import numpy as np
import snowballstemmer

from xmodal_jax.metrics.alignment import Options, best_alignment, chunks, greedy_alignment
from xmodal_jax.spelling import runs

Tokens = Sequence[str]
Senses = Callable[[str], Collection[Hashable]]  # word -> its senses; words that share one are synonyms
Matcher = Callable[[Tokens, Sequence[Tokens]], list[Options]]

# Of METEOR 1.5: the words of a frequency above 1/1000 in English news, and marks.
_FUNCTION_WORDS = frozenset(
    """a about after all also an and are as at be been but by can could first for from had has have he her his i if in into
    is it its last more new no not of on one or other out over people said she so some than that the their there they this
    time to two up was we were what when which who will with would year years you s 's 't
    , . : ? $ ( ) " ' - -- -lrb- -rrb-""".split()
)
_KINDS = (1.0, 0.6, 0.8)  # weights of exact, stem and synonym matches
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75


_WORD = runs(r"[^\W_]")
_MARKS = re.compile(
    rf"""(?<=[^\W\d_])'[^\W\d_]+             # o'clock: o, 'clock
      | (?:[^\W\d_]\.)+[^\W\d_]\.?            # a.m.
      | {_WORD}(?:[.,]{_WORD})*(?:\.(?=\s))?  # words, decimals, abbreviations but at the end
      | --+ | (?<!\w)- | -(?!\w) | [^\s\w-] | _""",
    re.VERBOSE,
)


def word_matcher(stemmer: str, synonyms: Senses | None = None) -> Matcher:
    """A function (candidate, references) -> the `Options` of each reference, with a memory of words.

    Args:
      stemmer: "porter" for the classic form, "english" for 1.5.
      synonyms: a function from a word to its senses, as `wordnet_senses` gives; None leaves the stage out.
    """
    stem = functools.lru_cache(maxsize=2**17)(snowballstemmer.stemmer(stemmer).stemWord)
    senses = functools.lru_cache(maxsize=2**17)(lambda word: frozenset(synonyms(word)) if synonyms else frozenset())

    def match(candidate: Tokens, references: Sequence[Tokens]) -> list[Options]:
        same, stems, meanings = {}, {}, {}  # word, stem, sense -> where the candidate has it
        for i, word in enumerate(candidate):
            same.setdefault(word, []).append((i, 0))
            stems.setdefault(stem(word), []).append(i)
            for sense in senses(word):
                meanings.setdefault(sense, set()).add(i)
        found = {}
        for word in set().union(*references):
            options = list(same.get(word, ()))
            options += [(i, 1) for i in stems.get(stem(word), ()) if candidate[i] != word]
            if not meanings.keys().isdisjoint(senses(word)):
                places = set().union(*(meanings.get(sense, ()) for sense in senses(word)))
                options += [(i, 2) for i in sorted(places) if candidate[i] != word]
            found[word] = options
        return [[found[word] for word in reference] for reference in references]

    return match


def meteor(candidate: Tokens, references: Sequence[Tokens], match: Matcher) -> float:
    """The classic form, maximum over the references; a corpus' is the mean."""
    return max(_classic(len(candidate), options) for options in match(candidate, references))


def _classic(length: int, options: Options, alpha: float = 0.9, beta: float = 3.0, gamma: float = 0.5) -> float:
    matches = greedy_alignment(options)
    if not matches:
        return 0.0
    precision, recall = len(matches) / length, len(matches) / len(options)
    mean = precision * recall / (alpha * precision + (1 - alpha) * recall)
    return mean * (1 - gamma * (chunks(matches) / len(matches)) ** beta)


def meteor15_words(tokens: Tokens) -> list[str]:
    """Caption tokens as METEOR 1.5's own normalisation leaves them: hyphenated words in parts, marks on their own."""
    text = " ".join(tokens)
    return list(tokens) if text.replace(" ", "").isalnum() else _MARKS.findall(text)


def meteor15_stats(candidate: Tokens, references: Sequence[Tokens], match: Matcher) -> np.ndarray:
    """Counts of METEOR 1.5 against the best reference, to be added over a corpus; of words from `meteor15_words`.

    int [17]: for the candidate, then for the reference: content words, function words, content words matched by kind (3),
    function words matched by kind (3); last the chunks, where a text matched whole in one chunk counts none.
    """
    options = match(candidate, references)
    return max((_stats(candidate, *pair) for pair in zip(references, options, strict=True)), key=meteor15_score)


def _stats(candidate: Tokens, reference: Tokens, options: Options) -> np.ndarray:
    matches = best_alignment(options)
    stats = []
    for side, words in enumerate((candidate, reference)):
        function = [word in _FUNCTION_WORDS for word in words]
        matched = [0] * 6
        for pair in matches:
            matched[pair[2] + 3 * function[pair[side]]] += 1
        stats += [len(words) - sum(function), sum(function), *matched]
    whole = len(matches) == len(candidate) == len(reference)
    runs = chunks(matches)
    return np.array([*stats, 0 if whole and runs == 1 else runs])


def meteor15_score(stats: np.ndarray) -> float:
    """METEOR 1.5 of the (summed) counts of `meteor15_stats`."""
    *counts, runs = stats.tolist()
    shares, matched = [], 0
    for content, function, *hits in (counts[:8], counts[8:]):
        matched = sum(hits)
        if not matched:
            return 0.0
        weighted = sum(k * (_DELTA * c + (1 - _DELTA) * f) for k, c, f in zip(_KINDS, hits[:3], hits[3:], strict=True))
        shares.append(weighted / (_DELTA * content + (1 - _DELTA) * function))
    precision, recall = shares
    mean = 1 / ((1 - _ALPHA) / precision + _ALPHA / recall)
    return mean * (1 - _GAMMA * (runs / matched) ** _BETA)

"""Which sense does a word have beside a picture? Glosses scored against its captions (claims 6 and 7).

Two scorers with one signature, `scorer(senses, captions, word) -> float32 [S]`, higher is better:
  - `LeskScorer`, symbolic: extended gloss overlaps, S. Banerjee and T. Pedersen, "Extended Gloss Overlaps as a
    Measure of Semantic Relatedness", IJCAI 2003: a shared run of n words counts n^2;
  - `FrozenLMScorer`, neural: the cosine of a frozen text encoder's vectors of gloss and captions.
The best sense is taken if it reaches a preset threshold, which is the scorer's own; otherwise none is (the noise filter of
claim 7).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from xmodal_jax.data.senses.inventory import Inventory, Sense, TableInventory
from xmodal_jax.data.senses.words import UNSPACED, english_base, korean_base, stop_words
from xmodal_jax.spelling import runs

Scorer = Callable[[Sequence[Sense], Sequence[str], str], np.ndarray]

_WORD = re.compile(runs(r"[^\W_]"))
_UNSPACED_RUN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
_SUFFIXES = (
    ("ies", "y"),
    ("sses", "ss"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("xes", "x"),
    ("ing", ""),
    ("ed", ""),
    ("s", ""),
)


def score_senses(senses: Sequence[Sense], captions: Sequence[str], word: str, scorer: Scorer) -> np.ndarray:
    """Scores of a word's senses given the captions paired with its picture (claim 6): float32 [S]; zeros without
    captions.
    """
    if not senses or not captions:
        return np.zeros(len(senses), np.float32)
    return np.asarray(scorer(senses, captions, word), np.float32)


def choose_sense(senses: Sequence[Sense], captions: Sequence[str], word: str, scorer: Scorer, threshold: float) -> Sense | None:
    """The best sense, or None if its score is below the preset `threshold` (claim 7); of equal scores the first sense
    wins.
    """
    if not senses:
        return None
    scores = score_senses(senses, captions, word, scorer)
    best = int(np.argmax(scores))
    return senses[best] if scores[best] >= threshold else None


class LeskScorer:
    """Extended Lesk. A score is the sum of n^2 over the runs of n content words that a gloss shares with the
    captions, divided by sqrt(len(gloss text)): about 0.3 for one shared word beside a usual gloss, more for phrases;
    0 when nothing is shared.

    The ambiguous word itself never counts, nor do function words; words are compared by a simple stem (Korean:
    without particles; Chinese and Japanese: by pairs of characters). `weights`: of gloss with synonyms, of hypernyms,
    of related glosses.
    """

    threshold = 0.05

    def __init__(self, lang: str = "en", *, weights: tuple[float, float, float] = (1.0, 0.5, 0.25), cache: int = 4096):
        self.lang = lang
        self.weights = weights
        self._tokens = _Bounded(cache)

    def __call__(self, senses: Sequence[Sense], captions: Sequence[str], word: str) -> np.ndarray:
        own = set(self.tokens(word))
        texts = [self._content(caption, own) for caption in captions]
        return np.array([self._score(sense, texts, own) for sense in senses], np.float32)

    def _score(self, sense: Sense, captions: list[list[str]], own: set[str]) -> float:
        # Words of the captions that several parts of a sense share count once, in the part with the highest weight.
        parts = ((sense.gloss, *sense.synonyms), sense.hypernyms, sense.related_glosses)
        score, seen = 0.0, set()
        for weight, part in zip(self.weights, parts, strict=True):
            phrases = [self._content(text, own) for text in part]
            length = sum(map(len, phrases))
            if not length:
                continue
            runs = {run for phrase in phrases for caption in captions for run in overlaps(phrase, caption)} - seen
            runs = {run for run in runs if not any(_within(run, other) for other in runs | seen if other != run)}
            seen |= runs
            score += weight * sum(len(run) ** 2 for run in runs) / length**0.5
        return score

    def _content(self, text: str, own: set[str]) -> list[str]:
        """Stems of the text in order; "" holds the place of the word itself and of nothing else, so that no run
        crosses it.
        """
        return ["" if token in own else token for token in self.tokens(text)]

    def tokens(self, text: str) -> list[str]:
        """Content stems of a text in any of the scorer's scripts."""
        found = self._tokens.get(text)
        if found is None:
            found = tokenise(text, self.lang)
            self._tokens.put(text, found)
        return found


def tokenise(text: str, lang: str) -> list[str]:
    """Content words of a text, lower-cased and stemmed; function words left out; Chinese and Japanese runs as
    character pairs.
    """
    stop, english, tokens = stop_words(lang), stop_words("en"), []
    for word in _WORD.findall(text.lower()):
        if word in stop or word in english:
            continue
        if lang in UNSPACED and _UNSPACED_RUN.search(word):
            for run in _UNSPACED_RUN.findall(word):
                tokens += [run[i : i + 2] for i in range(max(1, len(run) - 1))]
        elif lang == "ko" and not word.isascii():
            tokens.append(korean_base(word, lambda part: len(part) > 1 and not _has_particle(part)) or word)
        else:
            tokens.append(stem(word))
    return tokens


def _has_particle(word: str) -> bool:
    """True for a Korean form that still ends in a common particle (only those that rarely end a noun)."""
    return len(word) > 1 and word[-1] in "은는을를에의과와도들" or len(word) > 2 and word[-1] in "이가로"


def stem(word: str) -> str:
    """A crude English stem: "boats" and "boating" -> "boat"; enough to match a gloss with a caption."""
    for suffix, ending in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3 and not word.endswith(("ss", "us")):
            word = word[: len(word) - len(suffix)] + ending
            if suffix in ("ing", "ed") and len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]  # "running" -> "run"
            break
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


def overlaps(first: Sequence[str], second: Sequence[str]) -> list[tuple[str, ...]]:
    """The shared runs of two token lists, longest first, each part of a list used once (Banerjee and Pedersen 2003,
    section 4).
    """
    first, second = list(first), list(second)
    found: list[tuple[str, ...]] = []
    common = set(first) & set(second) - {""}
    while common:
        best = (0, 0, 0)
        for i, token in enumerate(first):
            if token not in common:
                continue
            for j in range(len(second)):
                n = 0
                while i + n < len(first) and j + n < len(second) and first[i + n] == second[j + n] and first[i + n] in common:
                    n += 1
                if n > best[0]:
                    best = (n, i, j)
        n, i, j = best
        if not n:
            break
        found.append(tuple(first[i : i + n]))
        first[i : i + n], second[j : j + n] = ["\0"], ["\1"]  # unequal marks: no later run crosses what has been used
    return found


def _within(run: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return len(run) < len(other) and any(other[i : i + len(run)] == run for i in range(len(other) - len(run) + 1))


class FrozenLMScorer:
    """Cosine of a frozen language model's vectors of "gloss; synonyms" and of the captions.

    `encode`: any frozen text encoder, list of N str -> float [N, D] (mean-pooled hidden states). `pool`: "max" takes
    the caption nearest to the gloss, "mean" the average over captions. The last `cache` texts' vectors are kept.

    Mean-pooled vectors of all texts point much the same way, and their cosines say little: `centre` takes away what many
    captions have in common (Mu and Viswanath, 2018, "All-but-the-top"), so that texts that share nothing score about 0.
    """

    threshold = 0.1

    def __init__(self, encode: Callable[[list[str]], np.ndarray], *, pool: str = "max", cache: int = 8192):
        if pool not in ("max", "mean"):
            raise ValueError(f"pool must be 'max' or 'mean', not {pool!r}")
        self.encode, self.pool, self.common = encode, pool, None
        self._vectors = _Bounded(cache)

    def centre(self, texts: list[str]) -> None:
        """Take the mean direction of these texts away from all vectors from now on; texts whose vectors are one are left."""
        self.common = None
        vectors = self.vectors(list(dict.fromkeys(texts)))
        self._vectors = _Bounded(self._vectors.size)
        self.common = vectors.mean(0) if len(vectors) > 1 else None

    def __call__(self, senses: Sequence[Sense], captions: Sequence[str], word: str) -> np.ndarray:
        del word  # the vector of a whole text; the word is in every caption alike
        glosses = self.vectors(["; ".join((sense.gloss, *sense.synonyms)) for sense in senses])  # [S, D]
        cosines = glosses @ self.vectors(list(captions)).T  # [S, C]
        return cosines.max(1) if self.pool == "max" else cosines.mean(1)

    def vectors(self, texts: list[str]) -> np.ndarray:
        """Unit vectors of texts: float32 [N, D]."""
        known = {text: self._vectors.get(text) for text in texts}
        new = [text for text, vector in known.items() if vector is None]
        if new:
            encoded = np.asarray(self.encode(new), np.float32)
            if encoded.ndim != 2 or len(encoded) != len(new):
                raise ValueError(f"encode must give [N, D] for N = {len(new)} texts, but gave {encoded.shape}")
            encoded = _unit(encoded)
            for text, vector in zip(new, encoded if self.common is None else _unit(encoded - self.common), strict=True):
                known[text] = vector
                self._vectors.put(text, vector)
        return np.stack([known[text] for text in texts])


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def gloss_line(word: str, sense: Sense, inventory: Inventory | None = None) -> tuple[str, list[tuple[int, int]]]:
    """The segment that a chosen sense adds to the training text: ("word: gloss; synonyms", spans of the word inside).

    The spans (characters) cover the word at the head and every form of it in the gloss, so that they can be masked
    like the word in the caption: left standing they would give the answer away (claim 7). `inventory` supplies the
    language's morphology.
    """
    text = f"{word}: {'; '.join(part for part in (sense.gloss, ', '.join(sense.synonyms)) if part)}"
    lang = "en" if inventory is None else inventory.lang
    exceptions = {} if inventory is None else inventory.exceptions
    spans = {(0, len(word))}
    for form in {word.lower(), *_base_forms(word, lang, exceptions)}:
        forms = TableInventory({form: (sense,)}, lang, exceptions=exceptions, stop=frozenset())
        spans |= {(start, end) for start, end, _ in forms.find(text)}
        # Inside a longer word ("pearlike", 배나무) it gives itself away as well; a short Latin word would hit anywhere.
        if any(character >= "\u0e00" for character in form):  # Thai, Chinese, Japanese, Hangul: no spaces, or particles
            spans |= {match.span() for match in re.finditer(re.escape(form), text)}
        elif len(form) > 3:
            spans |= {match.span() for match in re.finditer(rf"\b{re.escape(form)}", text, re.IGNORECASE)}
    return text, _merge(spans)


def _base_forms(word: str, lang: str, exceptions: Mapping[str, str]) -> set[str]:
    """What an inflected English word may be a form of: "bats" -> {"bats", "bat"}."""
    tried: set[str] = set()
    if lang == "en" and len(word) > 3:
        english_base(word.lower(), lambda form: tried.add(form) is not None, exceptions)
    return {form for form in tried if len(form) > 2}


def _merge(spans: set[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


class _Bounded:
    """A small least-recently-used cache that pickles."""

    def __init__(self, size: int):
        self.size, self._items = size, OrderedDict()

    def get(self, key):
        try:
            value = self._items[key]
            self._items.move_to_end(key)
        except KeyError:  # also when another thread dropped it in between
            return None
        return value

    def put(self, key, value) -> None:
        self._items[key] = value
        while len(self._items) > self.size:
            try:
                self._items.popitem(last=False)
            except KeyError:
                break

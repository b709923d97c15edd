"""Sense inventories: which nouns there are, what each may mean, and where they stand in a text.

An inventory answers three questions of crossmodal training (US 12,393,789 B2): which words of a caption are entities
(claim 5), which words are related to one (claim 5), and which senses it may have (claims 6 and 7).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from xmodal_jax.data.senses.words import UNSPACED, end_words, english_base, korean_base, stop_words
from xmodal_jax.spelling import runs

_TOKEN = re.compile(runs(r"[^\W_]") + r"(?:['’]t\b)?")  # words, numbers; hyphens and apostrophes part, but not "don't"
_GAP = re.compile(r"[ \t\u00a0]+|-")  # what may stand between the words of one multi-word lemma
_HIRAGANA = re.compile(r"[\u3041-\u309f]")
_MAX_WORDS = 4  # longest multi-word lemma looked for in a spaced text
_MAX_CHARACTERS = 12  # the same in a text without spaces


@dataclass(frozen=True)
class Sense:
    """One meaning of a word. `hypernyms` and `hyponyms` are words, not ids."""

    id: str
    gloss: str
    synonyms: tuple[str, ...] = ()  # other words for this sense, the lemma itself excluded
    hypernyms: tuple[str, ...] = ()
    hyponyms: tuple[str, ...] = ()
    related_glosses: tuple[str, ...] = ()


class Inventory:
    """Base class: a subclass gives `senses`, `__contains__` and `__iter__`; the language's morphology is here.

    Lemmas are written with spaces, never underscores. `exceptions` maps irregular English plurals to their lemmas;
    `stop` are the words that are never entities (default: the language's own list).
    """

    def __init__(self, lang: str = "en", *, exceptions: Mapping[str, str] | None = None, stop: frozenset[str] | None = None):
        self.lang = lang
        self.exceptions = dict(exceptions or {})
        self.stop = stop_words(lang) if stop is None else frozenset(stop)

    def senses(self, lemma: str) -> tuple[Sense, ...]:
        """The senses of a lemma, most frequent first where the inventory knows; () if the lemma is unknown."""
        raise NotImplementedError

    def __contains__(self, lemma: object) -> bool:
        raise NotImplementedError

    def __iter__(self) -> Iterator[str]:
        raise NotImplementedError

    def _known(self, word: str) -> bool:
        return bool(word) and self._listed(word) is not None

    def _listed(self, word: str) -> str | None:
        """The lemma as the inventory writes it, for a word in any case."""
        if word in self:
            return word
        lower = word.lower()
        return lower if lower in self else None

    def lemma(self, word: str) -> str | None:
        """Surface word -> lemma of the inventory ("bats" -> "bat", "배를" -> "배"); None for a stop word or an
        unknown one.
        """
        found = self._match(word)
        return found[0] if found else None

    def _match(self, surface: str) -> tuple[str, int] | None:
        """(lemma, how many characters of the surface it covers: a Korean particle is not part of the noun)."""
        word = surface.strip().replace("_", " ")
        if not word or word.lower() in self.stop or word.isdigit():
            return None
        if self.lang == "ko":
            base = korean_base(word, lambda part: self._known(part) and part not in self.stop)
            return (self._listed(base), len(base)) if base else None
        if self.lang == "en":
            base = english_base(word.lower(), self._known, self.exceptions)
        else:
            base = self._listed(word)
        return (self._listed(base), len(word)) if base else None

    def related(self, lemma: str, senses: tuple[Sense, ...] | None = None) -> frozenset[str]:
        """Lemmas that are synonyms, hypernyms or hyponyms of `lemma` in any of these senses (None: in any it has), itself
        included (claim 5)."""
        words = {lemma}
        for sense in self.senses(lemma) if senses is None else senses:
            for word in (*sense.synonyms, *sense.hypernyms, *sense.hyponyms):
                words.add(self._listed(word) or word)
        return frozenset(words)

    def find(self, text: str) -> list[tuple[int, int, str]]:
        """The nouns of a text: (start, end, lemma) in reading order, character spans, not overlapping, longest match
        first.
        """
        return self._find_unspaced(text) if self.lang in UNSPACED else self._find_spaced(text)

    def _find_spaced(self, text: str) -> list[tuple[int, int, str]]:
        tokens = [match.span() for match in _TOKEN.finditer(text)]
        found, i = [], 0
        while i < len(tokens):
            step = 1
            for count in range(self._run_length(text, tokens, i), 0, -1):
                hit = self._match_run(text, tokens[i : i + count])
                if hit:
                    found.append(hit)
                    step = count
                    break
            i += step
        return found

    def _run_length(self, text: str, tokens: list[tuple[int, int]], i: int) -> int:
        """How many tokens from i on stand together (only a space or a hyphen between them), at most `_MAX_WORDS`."""
        count = 1
        while (
            count < _MAX_WORDS
            and i + count < len(tokens)
            and _GAP.fullmatch(text[tokens[i + count - 1][1] : tokens[i + count][0]])
        ):
            count += 1
        return count

    def _match_run(self, text: str, run: list[tuple[int, int]]) -> tuple[int, int, str] | None:
        start, end = run[0][0], run[-1][1]
        surface = text[start:end]
        if len(run) == 1:
            if len(surface) < 2 and surface.isascii():  # a lone Latin letter is never an entity
                return None
            hit = self._match(surface)
            return (start, start + hit[1], hit[0]) if hit else None
        # "little girl" is a lemma of WordNet, but a "girl" in captions. A hyphen ties ("t-shirt"), a space does not.
        first, last = text[slice(*run[0])].lower(), text[slice(*run[-1])].lower()
        if text[run[0][1]] != "-" and first in self.stop or text[run[-1][0] - 1] != "-" and last in end_words(self.lang):
            return None
        words = [text[a:b] for a, b in run]
        for form in dict.fromkeys((surface, " ".join(words), "".join(words) if "-" in surface else surface)):
            hit = self._match(form)
            if hit:  # only Korean covers less than the surface, and then by the particle at its end
                return start, end - (len(form) - hit[1]), hit[0]
        return None

    def _find_unspaced(self, text: str) -> list[tuple[int, int, str]]:
        found, i = [], 0
        while i < len(text):
            end = i
            if text[i].isalnum() and not _inside_latin(text, i):
                for stop in range(min(len(text), i + _MAX_CHARACTERS), i, -1):
                    word = text[i:stop]
                    if stop < len(text) and _inside_latin(text, stop):
                        continue
                    if word in self.stop:  # passed over whole, not searched for shorter nouns
                        end = stop
                        break
                    if word.isdigit() or (len(word) == 1 and (word.isascii() or _HIRAGANA.match(word))):
                        continue
                    listed = self._listed(word)
                    if listed is not None:
                        found.append((i, stop, listed))
                        end = stop
                        break
            i = max(end, i + 1)
        return found


def _inside_latin(text: str, i: int) -> bool:
    """True if i cuts a Latin word or a number in two."""
    return 0 < i < len(text) and text[i].isascii() and text[i].isalnum() and text[i - 1].isascii() and text[i - 1].isalnum()


class TableInventory(Inventory):
    """An inventory held in a dictionary: lemma -> tuple of senses."""

    def __init__(self, table: Mapping[str, tuple[Sense, ...]], lang: str = "en", **kwargs):
        super().__init__(lang, **kwargs)
        self._table = {lemma: tuple(senses) for lemma, senses in table.items()}
        self._folded = {lemma.lower(): lemma for lemma in self._table if lemma.lower() != lemma}

    def senses(self, lemma: str) -> tuple[Sense, ...]:
        return self._table.get(lemma, ())

    def __contains__(self, lemma: object) -> bool:
        return lemma in self._table

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def _listed(self, word: str) -> str | None:
        return super()._listed(word) or self._folded.get(word.lower())

"""The senses of English words of all parts of speech, read from WordNet's index files: METEOR's synonyms.

Two words are synonyms if they share a sense. An inflected form has the senses of its base form too, found as METEOR 1.5
does: WordNet's lists of irregular forms first, then morphy(7WN)'s rules of endings, whatever the part of speech.
"""

import functools
import os
from collections.abc import Callable
from pathlib import Path

from xmodal_jax.errors import UserError

_SPEECH = ("noun", "verb", "adj", "adv")
# morphy(7WN)'s endings and what stands in their place: nouns, verbs, adjectives. The first that gives a word counts.
_ENDINGS = [
    rule.split(":")
    for rule in """s: ses:s xes:x zes:z ches:ch shes:sh men:man ies:y es:e es: ed:e ed: ing:e ing: er: est: er:e
    est:e""".split()
]


def wordnet_senses(folder: str | os.PathLike) -> Callable[[str], frozenset]:
    """A function from a word (lower case) to the set of its senses, empty for an unknown word.

    `folder` holds WordNet's files index.noun, index.verb, index.adj, index.adv and the lists of irregular forms
    (noun.exc, ...); those that are missing are done without.
    """
    folder = Path(folder)
    lines = {name: _read(folder / f"index.{name}") for name in _SPEECH}
    if not any(lines.values()):
        raise UserError(f"{folder} holds none of WordNet's files index.noun, index.verb, index.adj and index.adv.")
    irregular = [_read(folder / f"{name}.exc") for name in _SPEECH]

    def listed(word: str) -> set:
        found = set()
        for name, index in lines.items():
            # lemma pos synset_cnt p_cnt [ptr_symbol...] sense_cnt tagsense_cnt synset_offset [synset_offset...]
            fields = index.get(word, "").split()
            if fields:
                found.update((name, int(offset)) for offset in fields[-int(fields[1]) :])
        return found

    @functools.lru_cache(maxsize=50_000)
    def senses(word: str) -> frozenset:
        bases = [base for forms in irregular for base in forms.get(word, "").split()]
        if not bases and len(word) > 2 and not word.endswith("ss"):
            bases = [word[: -len(end)] + base for end, base in _ENDINGS if word.endswith(end)]
            bases = [base for base in bases if any(base in index for index in lines.values())][:1]
        return frozenset(listed(word).union(*map(listed, bases)))

    return senses


def _read(path: Path) -> dict[str, str]:
    """First word of a line -> the rest of it, of a file that may be missing; the licence's lines begin with a space."""
    if not path.is_file():
        return {}
    rows = (line.partition(" ") for line in path.read_text("utf-8", "replace").splitlines() if not line.startswith(" "))
    return {first: rest for first, _, rest in rows}

"""Word senses out of emoji annotations: pictures that one written word annotates, parted into senses by the other
languages.

A word of one language with several senses has several translations: Korean 배 stands on pictures that English calls
"pear", "boat" or "belly". Two pictures of a word show the same sense if they are of one Unicode subgroup, or if at
least two other languages have a translation of the word on both. A translation is a keyword whose pictures are
largely those of the word (Dice coefficient).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from xmodal_jax.data.senses.inventory import Sense
from xmodal_jax.data.senses.jsonl import JsonlInventory
from xmodal_jax.data.senses.scorers import LeskScorer, choose_sense

_DICE = 0.2  # a keyword that overlaps less is no translation ("man" beside 배)
_LANGUAGES = 2  # languages that must agree before two pictures are of one sense
_LESK = 0.1  # glosses that match worse give way to the keywords
_SYNONYMS = 16  # kept per sense


@dataclass(frozen=True)
class Pictures:
    """One sense: its id and the rows of the pictures that show it."""

    id: str
    pictures: frozenset[int]


def cluster(rows: list[dict], lang: str) -> dict[str, tuple[Pictures, ...]]:
    """word -> its senses in `lang`, the one with the most pictures first. rows: with `words` {lang: [...]}, `group`,
    `subgroup`.
    """
    index = {one: _index(rows, one) for one in rows[0]["words"]}
    senses = {}
    for word, pictures in index[lang].items():
        parts = _components(sorted(pictures), rows, _links(word, pictures, rows, index, lang))
        parts.sort(key=lambda part: (-len(part), min(part)))
        senses[word] = tuple(Pictures(_sense_id(word, part, rows), frozenset(part)) for part in parts)
    return senses


def _index(rows: list[dict], lang: str) -> dict[str, set[int]]:
    """word -> the rows that it annotates."""
    index = defaultdict(set)
    for i, row in enumerate(rows):
        for word in row["words"].get(lang, ()):
            index[word].add(i)
    return dict(index)


def _links(word: str, pictures: set[int], rows: list[dict], index: dict, lang: str) -> list[tuple[int, int]]:
    """Pairs of pictures of the word on which enough other languages have one and the same translation."""
    if len(pictures) == 1:
        return []
    votes = Counter()
    for other, words in index.items():
        if other == lang:
            continue
        pairs = set()
        for translation in {text for i in pictures for text in rows[i]["words"].get(other, ())}:
            both = pictures & words[translation]
            if len(both) > 1 and 2 * len(both) >= _DICE * (len(pictures) + len(words[translation])):
                both = sorted(both)
                pairs.update(pairwise(both))  # a chain connects them all
        votes.update(pairs)
    return [pair for pair, count in votes.items() if count >= _LANGUAGES]


def _components(pictures: list[int], rows: list[dict], links: list[tuple[int, int]]) -> list[list[int]]:
    """Pictures joined by links and by subgroup; what lies within one Unicode group and is joined to no other group is
    one part.
    """
    root = {i: i for i in pictures}

    def find(i):
        while root[i] != i:
            i = root[i]
        return i

    first = {}
    for i in pictures:
        root[find(i)] = find(first.setdefault((rows[i]["group"], rows[i]["subgroup"]), i))
    for a, b in links:
        root[find(a)] = find(b)
    parts = defaultdict(list)
    for i in pictures:
        parts[find(i)].append(i)
    merged, single = [], defaultdict(list)
    for part in parts.values():
        groups = {rows[i]["group"] for i in part}
        if len(groups) > 1:
            merged.append(part)
        else:
            single[groups.pop()] += part
    return merged + [sorted(part) for part in single.values()]


def _sense_id(word: str, part: list[int], rows: list[dict]) -> str:
    """ "배@food-fruit": the subgroup most of its pictures are of. No two senses of a word have a subgroup in common."""
    counts = Counter(rows[i]["subgroup"] for i in part)
    return f"{word}@{min(counts, key=lambda name: (-counts[name], name))}".replace(" ", "_")


def table(
    rows: list[dict], senses: dict[str, tuple[Pictures, ...]], lang: str, dictionary: Path | None
) -> dict[str, tuple[Sense, ...]]:
    """lemma -> senses with synonyms and glosses: of the dictionary folder's nouns where one fits, else made of the
    keywords.
    """
    nouns = _nouns(dictionary, lang)
    scorer = LeskScorer("en")
    made = {}
    for word, parts in senses.items():
        beside = [Counter(text for i in part.pictures for text in rows[i]["words"][lang] if text != word) for part in parts]
        entries = []
        for k, part in enumerate(parts):
            elsewhere = {text for j, other in enumerate(beside) if j != k for text in other}
            own = [text for text, _ in beside[k].most_common() if text not in elsewhere]
            gloss, related = _gloss(word, part, rows, nouns, scorer), ()
            if gloss is None:
                gloss = ", ".join(own[:4]) or part.id.split("@")[1].replace("-", " ").replace("_", " ")
            else:
                gloss, related = gloss
            entries.append(Sense(part.id, gloss, synonyms=tuple(own[:_SYNONYMS]), related_glosses=related))
        made[word] = tuple(entries)
    return made


def confirmed(senses: tuple[Sense, ...]) -> bool:
    """True if the dictionary, too, knows at least two meanings of the word: its glosses, unlike made ones, have
    related glosses.
    """
    return len({sense.gloss for sense in senses if sense.related_glosses}) > 1


def _gloss(word: str, part: Pictures, rows: list[dict], nouns: JsonlInventory | None, scorer: LeskScorer):
    """(gloss, related glosses) of the dictionary's sense that fits the pictures' English keywords; None if none."""
    lemma = nouns.lemma(word) if nouns is not None else None
    if lemma is None:
        return None
    captions = [", ".join((*rows[i]["words"].get("en", ()), rows[i]["subgroup"])) for i in sorted(part.pictures)]
    found = choose_sense(nouns.senses(lemma), captions, word, scorer, _LESK)
    return (found.gloss, found.related_glosses) if found else None


def _nouns(dictionary: Path | None, lang: str) -> JsonlInventory | None:
    if dictionary is None:
        return None
    path = dictionary / ("wordnet_nouns.jsonl.gz" if lang == "en" else f"omw_nouns_{lang}.jsonl.gz")
    return JsonlInventory(path, lang) if path.is_file() else None

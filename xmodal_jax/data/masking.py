"""Masked training texts whose answers only the other modality can settle (claims 5-7).

A text is a string; a span is (start, end) in characters. Masking replaces a whole word by its sentinel, so that the
length of the gap tells nothing; the target lists `<sentinel> word` for each masked word and an end mark.
"""

import dataclasses

import numpy as np

from xmodal_jax.data import bytes as byte_ids

ATTRIBUTE = "is."  # names of what a thing is like begin so ("is.red"); all others are names of things


@dataclasses.dataclass(frozen=True)
class Entity:
    """A word that names a thing: text[start:end], and the key (thing or lemma) that it stands for. Or one that tells what a
    thing is like, where the source gives such."""

    start: int
    end: int
    name: str

    @property
    def is_thing(self):
        return not self.name.startswith(ATTRIBUTE)

    @property
    def thing(self):
        """The thing that it names, "" where it names none."""
        return self.name if self.is_thing else ""


@dataclasses.dataclass
class Masked:
    """Masked text under construction: byte ids of the input and of the target, sentinels used so far."""

    ids: list = dataclasses.field(default_factory=list)  # int32 pieces, concatenated at the end
    segments: list = dataclasses.field(default_factory=list)
    target: list = dataclasses.field(default_factory=list)
    words: list = dataclasses.field(default_factory=list)  # the masked words, in order of their sentinels
    names: list = dataclasses.field(default_factory=list)  # what they name, "" where that was not told

    def __len__(self):
        return sum(len(piece) for piece in self.ids)


def entities(caption, mentions, inventory):
    """The entity words of a caption: the source's own mentions, else nouns of the sense inventory (no tagger)."""
    if mentions is not None:
        return [Entity(*mention) for mention in mentions]
    if inventory is None:
        return []
    return [Entity(start, end, lemma) for start, end, lemma in inventory.find(caption)]


def things(caption, mentions, inventory):
    """Those of them that name things."""
    return [entity for entity in entities(caption, mentions, inventory) if entity.is_thing]


def choose_entities(found, rng, most=1):
    """Claim 5, first modality: at least one entity to mask, with all other mentions of the same thing in the text.

    Without the latter "a bat; the bat is red" would give its answer away. Returns [] only where nothing was found.
    """
    if not found:
        return []
    names = sorted({entity.name for entity in found})
    count = min(len(names), int(rng.integers(1, most + 1)))
    chosen = set(rng.choice(names, size=count, replace=False).tolist())
    return [entity for entity in found if entity.name in chosen]


def related_entities(found, names, related):
    """Claim 5, third modality: its words that are semantically related to a masked word of the first.

    `related(name)` is the set of names with the same sense, synonyms, hypernyms and hyponyms.
    """
    wanted = set(names)
    near = set().union(*(related(name) for name in names)) if names else set()
    return [e for e in found if e.name in wanted or e.name in near or wanted & related(e.name)]


def append_text(masked, text, spans, segment, *, mask_span=1, numbers=None, names=None):
    """Add `text` with `spans` masked as one more segment, closed by an end mark.

    Args:
      spans: (start, end) character spans, in any order; overlapping ones become one gap.
      segment: 0 first text, 1 third text, 2 gloss.
      mask_span: how many times the sentinel is repeated in the gap: 1, or a fixed length that is blind to the word's.
      numbers: for each span, the sentinel number of a word already masked: its further occurrences carry the same symbol
        and owe no target. Without it every gap is a new word.
      names: for each span, what it names.
    """
    given = zip(spans, numbers or [None] * len(spans), names or [""] * len(spans), strict=True)
    gaps = []  # [start, end, number, name]
    for (start, end), number, name in sorted(given, key=lambda triple: triple[0]):
        if gaps and start < gaps[-1][1]:
            gaps[-1][1] = max(end, gaps[-1][1])
        else:
            gaps.append([start, end, number, name])
    pieces, at = [], 0
    for start, end, number, name in gaps:
        pieces.append(byte_ids.encode_text(text[at:start]))
        if number is None:  # a word that is masked already keeps its symbol, and is owed once
            said = text[start:end].lower()
            number = next((i for i, word in enumerate(masked.words) if word.lower() == said), None)
        if number is None:
            number = len(masked.words)
            masked.words.append(text[start:end])
            masked.names.append(name)
            masked.target += [np.array([byte_ids.sentinel(number)], np.int32), byte_ids.encode_text(text[start:end])]
        pieces.append(np.full(mask_span, byte_ids.sentinel(number), np.int32))
        at = end
    pieces += [byte_ids.encode_text(text[at:]), np.array([byte_ids.END], np.int32)]
    ids = np.concatenate(pieces)
    masked.ids.append(ids)
    masked.segments.append(np.full(len(ids), segment, np.int32))
    return masked


def occurrences(text, words):
    """Where the given words stand in a text, whatever their case: ([(start, end)], [number of the word])."""
    spans, numbers, lower = [], [], text.lower()
    for number, word in enumerate(words):
        start = lower.find(word.lower()) if word else -1
        while start >= 0:
            spans.append((start, start + len(word)))
            numbers.append(number)
            start = lower.find(word.lower(), start + len(word))
    return spans, numbers


def mask_text(text, spans, mask_span=1):
    """One text with `spans` masked, as the encoder sees it: int32 ids with a closing end mark."""
    return append_text(Masked(), text, spans, 0, mask_span=mask_span).ids[0]


def finish(masked):
    """-> (ids [n], segments [n], target [m] closed by an end mark), int32."""
    target = [*masked.target, np.array([byte_ids.END], np.int32)]
    return np.concatenate(masked.ids), np.concatenate(masked.segments), np.concatenate(target)

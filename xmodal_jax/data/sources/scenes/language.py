"""Captions of a scene, from sense-neutral frames: nothing but the name of an object depends on what the object is.

A frame is a string with slots, {slot} or {slot|particle}: a, b (main and other object with adjectives), n (the main
noun alone), at, rel, color. A language fills the slots; the engine here chooses, writes and records the spans of nouns.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from xmodal_jax.data.masking import ATTRIBUTE
from xmodal_jax.data.sources.scenes.layout import Placed, Scene, generator, relation
from xmodal_jax.data.sources.scenes.things import PEOPLE, THINGS

Mention = tuple[int, int, str]  # start and end of a noun in its text, in characters, and the key of the thing
_SLOT = re.compile(r"\{(\w+)(?:\|(\w+))?\}")


@dataclass(frozen=True)
class Grammar:
    """One language's words and frames."""

    lang: str
    limit: int  # UTF-8 bytes of a caption
    alone: tuple[str, ...]  # frames of one object
    together: tuple[str, ...]  # frames of two
    with_person: tuple[str, ...]  # frames of two, the second a person
    colors: dict[str, str]  # as adjectives
    color_nouns: dict[str, str]  # as predicates
    sizes: dict[str, str]
    at: dict[str, str]  # by place
    relations: dict[str, str]
    join: Callable[[tuple[str, ...], str, str], tuple[str, str]]  # (adjectives, noun, particle) -> before, after
    bare: Callable[[str, str], str]  # (noun, particle) -> what follows a noun without adjectives


def parse(frame: str) -> tuple[tuple[str, str, str], ...]:
    """((text before, slot, particle), ...); the last slot is empty where the frame ends in text."""
    parts, end = [], 0
    for found in _SLOT.finditer(frame):
        parts.append((frame[end : found.start()], found[1], found[2] or ""))
        end = found.end()
    return (*parts, (frame[end:], "", "")) if end < len(frame) else tuple(parts)


_parsed: dict[str, tuple] = {}


def write(grammar: Grammar, frame: str, nouns: dict[str, tuple[tuple[str, ...], str, str]], words: dict[str, str]):
    """Fill a frame -> (text, mentions). `nouns`: slot -> (adjectives, noun, key); `words`: slot -> text."""
    parts = _parsed.get(frame)
    if parts is None:
        parts = _parsed[frame] = parse(frame)
    text, mentions = "", []
    for before, slot, particle in parts:
        text += before
        if slot in nouns:
            adjectives, noun, key = nouns[slot]
            lead, tail = grammar.join(adjectives, noun, particle)
            text += lead
            mentions.append((len(text), len(text) + len(noun), key))
            text += noun + tail
        elif slot == "n":
            adjectives, noun, key = nouns["a"]
            mentions.append((len(text), len(text) + len(noun), key))
            text += noun + grammar.bare(noun, particle)
        elif slot:
            text += words[slot]
    return text, mentions


def colors(grammar: Grammar, text: str) -> list[Mention]:
    """The colours of a text, each as a mention of what its thing is like."""
    found = []
    for color, adjective in grammar.colors.items():
        word = min(adjective, grammar.color_nouns[color], key=len)  # the one begins with the other, or both are the same
        found += [(at.start(), at.end(), ATTRIBUTE + color) for at in re.finditer(rf"\b(?:{adjective}|{word})", text)]
    return found


def _choose(draw: float, items):
    return items[int(draw * len(items))]


def _adjectives(grammar: Grammar, thing: Placed, draw: float) -> tuple[str, ...]:
    size, color = grammar.sizes.get(thing.size), grammar.colors[thing.color]
    options = ((), (color,), (color,), (size, color) if size else (color,), (size,) if size else ())
    return _choose(draw, options)


def captions(grammar: Grammar, scene: Scene, seed: int, split: str, index: int) -> tuple[list[str], list]:
    """Five captions and the mentions in each. The first uses the main object's ambiguous word, if it has one here."""
    rng = generator("captions", seed, split, index, grammar.lang)
    main = THINGS[scene.objects[0].key].words[grammar.lang]
    turn = int(rng.random() * 4)
    texts, mentions = [], []
    for number in range(5):
        draws = [rng.random() for _ in range(8)]  # always eight: another sense leaves the other captions' draws alone
        if number == 0:
            noun = main.usual
        else:
            form = ("name", "kind", "name", "usual")[(number + turn) % 4]
            options = {"name": main.names, "kind": main.kinds, "usual": (main.usual,)}[form]
            noun = _choose(draws[0], options)
        text, spans = _caption(grammar, scene, noun, draws)
        texts.append(text)
        mentions.append(spans)
    return texts, mentions


def _caption(grammar: Grammar, scene: Scene, noun: str, draws: list[float]) -> tuple[str, list[Mention]]:
    thing, others = scene.objects[0], scene.objects[1:]
    nouns = {"a": (_adjectives(grammar, thing, draws[1]), noun, thing.key)}
    words = {"at": grammar.at[thing.place], "color": grammar.color_nouns[thing.color]}
    frames = grammar.alone
    if others and draws[2] < 0.7:
        other = _choose(draws[3], others)
        other_noun = _choose(draws[4], THINGS[other.key].words[grammar.lang].names)
        nouns["b"] = (_adjectives(grammar, other, draws[5]), other_noun, other.key)
        words["rel"] = grammar.relations[relation(thing, other)]
        person = other.key in PEOPLE and draws[6] < 0.7
        frames = grammar.with_person if person else grammar.together
    frame = _choose(draws[7], frames)
    text, spans = write(grammar, frame, nouns, words)
    if len(text.encode()) > grammar.limit:  # then without adjectives, and if need be without the other object
        bare = {slot: ((), noun, key) for slot, (_, noun, key) in nouns.items()}
        for shorter in (frame, grammar.together[0] if "b" in nouns else grammar.alone[0], grammar.alone[0]):
            text, spans = write(grammar, shorter, bare, words)
            if len(text.encode()) <= grammar.limit:
                break
    return text, spans

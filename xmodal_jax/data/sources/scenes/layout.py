"""What is in a scene and where: a pure function of (seed, split, index, language).

Splits are disjoint by construction: a scene's signature (everything but the sense of its main word, the jitter and the
texture) is hashed, and a scene belongs to the split whose part of the hash it falls into; others are drawn again.
"""

import hashlib
import random
from typing import NamedTuple

from xmodal_jax.data.sources.scenes.drawing import BACKGROUNDS, COLORS, TEXTURES
from xmodal_jax.data.sources.scenes.things import AMBIGUOUS, FAMILY, KEYS, PEOPLE

PARTS = {"train": range(6), "val": range(6, 7), "test": range(7, 8)}  # of the signature's hash modulo 8
AMBIGUOUS_SHARE = 0.7  # of the scenes have a main object that an ambiguous word names
SIZES = {"small": (0.26, 0.29), "medium": (0.41, 0.45), "big": (0.57, 0.62)}  # widths, in pictures
PLACES = ("left", "right", "top", "bottom", "middle")
RELATIONS = ("left", "right", "above", "below")
_COLOR_NAMES = tuple(COLORS)
_COMPANIES = (  # sizes of the main object and of the others
    ("medium",), ("big",), ("big", "small"), ("medium", "medium"), ("medium", "small"), ("medium", "medium"),
    ("big", "small", "small"), ("medium", "small", "small"),
)  # fmt: skip
_SPOTS = tuple((x, y) for x in (0.0, 0.5, 1.0) for y in (0.0, 0.5, 1.0))
_MARGIN = 0.09  # how far from the middle a centre is at least, to be called left of it


class Placed(NamedTuple):
    """An object of a scene; x, y and width in pictures, the centre of its square."""

    key: str
    color: str
    size: str
    x: float
    y: float
    width: float

    @property
    def place(self) -> str:
        """Where it is: the side of the picture that its centre leans to most, or the middle."""
        dx, dy = self.x - 0.5, self.y - 0.5
        if max(abs(dx), abs(dy)) < _MARGIN / 2:
            return "middle"
        return ("right" if dx > 0 else "left") if abs(dx) >= abs(dy) else ("bottom" if dy > 0 else "top")

    def leans(self, place: str, least: float | None = None) -> bool:
        """Whether it could be said to be there: a corner leans to two sides, though its `place` is one."""
        return place == self.place or beside(self, _CENTER, _TOWARDS.get(place, ""), least)


class Scene(NamedTuple):
    """A scene; objects[0] is the main one. `word` is the ambiguous word for it in `lang`, or None; style: how it is drawn."""

    objects: tuple[Placed, ...]
    word: str | None
    lang: str
    color: int  # of the background
    texture: int
    roll: float
    style: str = "flat"

    def with_main(self, key: str) -> "Scene":
        """The same scene with another thing as its main object."""
        return self._replace(objects=(self.objects[0]._replace(key=key), *self.objects[1:]))


def relation(one: Placed, other: Placed) -> str:
    """Where `one` is as seen from `other`."""
    dx, dy = one.x - other.x, one.y - other.y
    if abs(dx) >= abs(dy):
        return "right" if dx > 0 else "left"
    return "below" if dy > 0 else "above"


def beside(one: Placed, other: Placed, direction: str, least: float | None = None) -> bool:
    """Whether `one` could be said to lie in that direction from `other`, diagonally too; least: by how much, in pictures."""
    dx, dy = one.x - other.x, one.y - other.y
    away = {"left": -dx, "right": dx, "above": -dy, "below": dy}.get(direction, -1.0)
    return away >= (_MARGIN / 2 if least is None else least)


_TOWARDS = {"left": "left", "right": "right", "top": "above", "bottom": "below"}
_CENTER = Placed("", "", "", 0.5, 0.5, 0.0)


def generator(*parts) -> random.Random:
    """A random generator that depends on the parts alone; only its random() is used, which no Python changes."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "little"))


def pick(rng: random.Random, items):
    """One of a sequence, uniformly."""
    return items[int(rng.random() * len(items))]


def signature(scene: Scene) -> tuple:
    """What makes scenes the same scene: things (the main one up to its senses), colours, sizes, places, background."""
    main = scene.objects[0]
    others = tuple((other.key, other.color, other.size, other.place) for other in scene.objects[1:])
    return min(FAMILY[main.key]), main.color, main.size, main.place, scene.color, others


def part(scene: Scene) -> int:
    """The part (0..7) of the scenes that it belongs to, whatever the seed."""
    return hashlib.blake2b(repr(signature(scene)).encode(), digest_size=1).digest()[0] % 8


def sample(seed: int, split: str, index: int, lang: str) -> Scene:
    """The scene of that index."""
    rng = generator("scene", seed, split, index, lang)
    word, key = _main(rng, lang)
    while True:  # eight tries on average for a split with one part of eight
        scene = _try(rng, word, key, lang)
        if part(scene) in PARTS[split]:
            return scene


def _main(rng: random.Random, lang: str) -> tuple[str | None, str]:
    if rng.random() < AMBIGUOUS_SHARE:
        word = pick(rng, _WORDS[lang])
        return word, pick(rng, AMBIGUOUS[lang][word])
    return None, pick(rng, _PLAIN[lang])


_WORDS = {lang: tuple(words) for lang, words in AMBIGUOUS.items()}
_PLAIN = {
    lang: tuple(key for key in KEYS if not any(key in senses for senses in words.values())) for lang, words in AMBIGUOUS.items()
}
_OTHERS = {key: tuple(other for other in KEYS if other not in FAMILY[key]) for key in KEYS}
_OTHER_PEOPLE = {key: tuple(person for person in PEOPLE if person != key) for key in KEYS}


def _try(rng: random.Random, word: str | None, key: str, lang: str) -> Scene:
    """Everything but the main thing; nothing here depends on which sense of its word the main thing is."""
    sizes = pick(rng, _COMPANIES)
    objects = [_place_main(rng, key, sizes[0])]
    for size in sizes[1:]:
        people = rng.random() < 0.3
        objects.append(_place_other(rng, pick(rng, (_OTHER_PEOPLE if people else _OTHERS)[key]), size, objects))
    keys = {thing.key for thing in objects}
    if len(keys) < len(objects):  # twice the same thing: the later one goes
        objects.pop()
    color, texture = int(rng.random() * len(BACKGROUNDS)), int(rng.random() * TEXTURES)
    return Scene(tuple(objects), word, lang, color, texture, rng.random())


def _place_main(rng: random.Random, key: str, size: str) -> Placed:
    width, place, color = pick(rng, SIZES[size]), pick(rng, PLACES), pick(rng, _COLOR_NAMES)
    room = (1 - width) / 2
    away, aside = _MARGIN + rng.random() * (room - _MARGIN), (rng.random() - 0.5) * _MARGIN * 0.9
    dx, dy = {"left": (-away, aside), "right": (away, aside), "top": (aside, -away), "bottom": (aside, away),
              "middle": (aside / 2, aside / 2)}[place]  # fmt: skip
    return Placed(key, color, size, 0.5 + dx, 0.5 + dy, width)


def _place_other(rng: random.Random, key: str, size: str, objects: list[Placed]) -> Placed:
    """Where it overlaps least with the others, among nine spots in random order."""
    width, color = pick(rng, SIZES[size]), pick(rng, _COLOR_NAMES)
    first, step = int(rng.random() * 9), pick(rng, (1, 2, 4))
    jitter, best, least = rng.random() * 0.04 - 0.02, None, 9.0
    low, span = width / 2 + 0.02, 1 - width - 0.04
    for turn in range(9):
        across, down = _SPOTS[(first + turn * step) % 9]
        x, y = low + across * span + jitter, low + down * span - jitter
        covered = sum(_overlap(x, y, width, other) for other in objects)
        if covered < least:
            best, least = (x, y), covered
            if not covered:
                break
    return Placed(key, color, size, *best, width)


def _overlap(x: float, y: float, width: float, other: Placed) -> float:
    reach = (width + other.width) / 2
    across, down = reach - abs(x - other.x), reach - abs(y - other.y)
    return across * down if across > 0 and down > 0 else 0.0

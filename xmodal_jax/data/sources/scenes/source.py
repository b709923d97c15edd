"""The built-in data set: drawn scenes with everything that the systems learn from, in English and Korean."""

import copy
import threading

import numpy as np

from xmodal_jax.data.images import encode_png
from xmodal_jax.data.senses.inventory import Inventory
from xmodal_jax.data.sources.scenes import drawing, english, korean, language, layout, sound, tasks
from xmodal_jax.data.sources.scenes.emoji import emoji_items
from xmodal_jax.data.sources.scenes.inventory import scene_inventory
from xmodal_jax.data.sources.scenes.senses import sense_items
from xmodal_jax.data.sources.scenes.things import FAMILY, LANGUAGES, THINGS
from xmodal_jax.errors import UserError

GRAMMARS = {"en": english.GRAMMAR, "ko": korean.GRAMMAR}
FIELDS = ("image", "captions", "objects", "questions", "phrases", "statements", "audio")
COUNTS = {"train": 8192, "val": 1024, "test": 1024}


class Scenes:
    """A source of drawn scenes; example i is a pure function of (seed, split, i, language).

    Args:
      split: "train", "val" or "test"; no scene of one is a scene of another, whatever the seeds (see layout.py).
      size: height and width of the pictures, pixels, at least 1.
      seed: another seed gives other scenes of the same split.
      count: number of examples; 8192 for train, 1024 else.
      lang: "en", "ko" or several: then example i is in lang[i % len(lang)].
      fields: what an example holds beside `id` and `lang`, of `FIELDS`; `captions` brings `mentions`, `phrases` `absent`.
      cache: keep finished examples in memory: size * size * 3 bytes for a picture, about 10 kB for its texts.
      file_bytes: also give `image_file`, the picture as PNG bytes.
      attributes: also mention the colours of things, as "is.red".
      styles: how things are drawn, of `drawing.STYLES`; each scene has one of them, by its number.

    Raises:
      UserError: for a split, size, language or field that there is not.
    """

    def __init__(
        self,
        *,
        split: str = "train",
        size: int = 64,
        seed: int = 0,
        count: int | None = None,
        lang: str | tuple[str, ...] = LANGUAGES,
        fields: tuple[str, ...] = ("image", "captions"),
        cache: bool = False,
        file_bytes: bool = False,
        attributes: bool = False,
        styles: tuple[str, ...] = ("flat",),
    ):
        self.langs = (lang,) if isinstance(lang, str) else tuple(lang)
        self.fields = (fields,) if isinstance(fields, str) else tuple(fields)
        _check("split", (split,), tuple(COUNTS))
        _check("lang", self.langs, LANGUAGES)
        _check("field", self.fields, FIELDS)
        self.styles = (styles,) if isinstance(styles, str) else tuple(styles)
        _check("style", self.styles, tuple(drawing.STYLES))
        count = COUNTS[split] if count is None else count
        for name, number in (("size", size), ("count", count)):
            if not isinstance(number, int) or number < 1:
                raise UserError(f"scenes: {name} is {number!r}; it is a whole number of at least 1.")
        self.split, self.size, self.seed, self.count, self.file_bytes = split, size, seed, count, file_bytes
        self.attributes = attributes
        self._pictures: dict[int, np.ndarray] | None = {} if cache else None
        self._examples: dict[int, dict] | None = {} if cache else None
        self._lock = threading.Lock()
        self._by_word: dict | None = None

    def __getstate__(self) -> dict:
        """What a copy in another process needs: not the lock, nor the pictures."""
        kept = None if self._pictures is None else {}
        return {**self.__dict__, "_lock": None, "_pictures": kept, "_examples": None if kept is None else {}}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> dict:
        i = self._index(i)
        if self._examples is None:
            return self._example(i, self.scene(i), f"scenes/{self.split}/{i}")
        found = self._examples.get(i)
        if found is None:
            found = self._examples[i] = self._example(i, self.scene(i), f"scenes/{self.split}/{i}")
        return dict(found)

    def _index(self, i: int) -> int:
        if not -self.count <= i < self.count:
            raise IndexError(f"scenes: example {i} of {self.count}")
        return int(i) % self.count

    def labels(self, i: int) -> list[str]:
        """What the objects of example i are called; nothing is drawn."""
        return [THINGS[thing.key].words[self.lang(i)].names[0] for thing in self.scene(i).objects]

    @property
    def object_names(self) -> list[str]:
        """Names that objects of the pictures have, in order."""
        return sorted(THINGS)

    @property
    def attribute_names(self) -> list[str]:
        """What objects are like, their "attribute", in order."""
        return sorted(drawing.COLORS)

    def lang(self, i: int) -> str:
        """The language of example i."""
        return self.langs[i % len(self.langs)]

    def scene(self, i: int) -> layout.Scene:
        """What example i shows, before it is drawn or told."""
        scene = layout.sample(self.seed, self.split, i, self.lang(i))
        if self.styles == ("flat",):
            return scene
        draw = layout.generator("style", self.seed, self.split, i)
        style = layout.pick(draw, self.styles)
        if style == drawing.VARIED:
            style = f"{style} {layout.pick(draw, range(drawing.VARIANTS))}"
        return scene._replace(style=style)

    def in_style(self, style: str) -> "Scenes":
        """The same scenes, all drawn in that style."""
        other = copy.copy(self)
        other.__setstate__(self.__getstate__() | {"styles": (style,)})
        return other

    def captions(self, i: int, lang: str | None = None) -> tuple[list[str], list[list[tuple[int, int, str]]], str]:
        """Five captions of example i, the mentions in each and their language (by default the example's own)."""
        i = self._index(i)
        return self._captions(i, self.scene(i), lang or self.lang(i))

    def _captions(self, i: int, scene: layout.Scene, lang: str):
        _check("lang", (lang,), LANGUAGES)
        texts, mentions = language.captions(GRAMMARS[lang], scene, self.seed, self.split, i)
        if self.attributes:
            told = (language.colors(GRAMMARS[lang], text) for text in texts)
            mentions = [sorted(own + more) for own, more in zip(mentions, told, strict=True)]
        return texts, mentions, lang

    def questions(self, i: int) -> list[dict]:
        """The questions of example i: {"question", "answers" (ten), "id", "type" (its form)} each; nothing is drawn."""
        i = self._index(i)
        return self._questions(i, self.scene(i), f"scenes/{self.split}/{i}")

    def _questions(self, i: int, scene: layout.Scene, name: str) -> list[dict]:
        asked = tasks.questions(self._rng("questions", i, scene.lang), scene, scene.lang)
        return [{**question, "id": f"{name}/{number}"} for number, question in enumerate(asked)]

    def phrases(self, i: int) -> list[str]:
        """Phrases of example i, those that are true of one object and those that are true of none; nothing is drawn."""
        i = self._index(i)
        scene = self.scene(i)
        true, false = self._phrases(i, scene, [[]] * len(scene.objects))
        return [one["phrase"] for one in true] + false

    def _phrases(self, i: int, scene: layout.Scene, boxes: list):
        true = tasks.phrases(self._rng("phrases", i, scene.lang), scene, boxes, scene.lang)
        return true, tasks.absent(self._rng("absent", i, scene.lang), scene, scene.lang)

    def variant(self, i: int, key: str) -> dict:
        """Example i with another thing as its main object and all else equal: layout, colours, frames of the captions.

        Raises UserError unless the other thing is a sense of a word that also names the main object.
        """
        i, scene = self._index(i), self.scene(self._index(i))
        _check("variant", (key,), tuple(sorted(FAMILY[scene.objects[0].key])))
        return self._example(i, scene.with_main(key), f"scenes/{self.split}/{i}~{key}")

    def image(self, i: int) -> np.ndarray:
        """The picture of example i: uint8 [size, size, 3]; read-only where pictures are kept."""
        i = self._index(i)
        return self._picture(i, self.scene(i))

    def draw(self, scene: layout.Scene) -> np.ndarray:
        """The picture of any scene: uint8 [size, size, 3]. The main object is drawn last, so that nothing hides it."""
        placed = [self._sprite(thing, scene.style) for thing in reversed(scene.objects)]
        return drawing.compose((scene.color, scene.texture, scene.roll), placed, self.size)

    def _sprite(self, thing: layout.Placed, style: str) -> tuple[drawing.Sprite, int, int]:
        side = max(1, round(thing.width * self.size))
        corner = [min(max(round(middle * self.size - side / 2), 0), self.size - side) for middle in (thing.x, thing.y)]
        return drawing.sprite(thing.key, thing.color, side, style), *corner

    def _picture(self, i: int, scene: layout.Scene) -> np.ndarray:
        if self._pictures is None:
            return self.draw(scene)
        found = self._pictures.get(i)
        if found is None:
            found = self.draw(scene)
            found.setflags(write=False)
            with self._lock:
                found = self._pictures.setdefault(i, found)
        return found

    def boxes(self, scene: layout.Scene) -> list[list[float]]:
        """The tightest box around each object's pixels, [x0, y0, x1, y1] in 0..1 (parts hidden by others included)."""
        boxes = []
        for thing in scene.objects:
            drawn, x, y = self._sprite(thing, scene.style)
            x0, y0, x1, y1 = drawn.box
            boxes.append([(x + x0) / self.size, (y + y0) / self.size, (x + x1) / self.size, (y + y1) / self.size])
        return boxes

    def _example(self, i: int, scene: layout.Scene, name: str) -> dict:
        lang, wanted = scene.lang, self.fields
        example = {"id": name, "lang": lang}
        if "image" in wanted or self.file_bytes:
            changed = "~" in name  # a variant is not the picture kept for its index
            picture = self.draw(scene) if changed else self._picture(i, scene)
            if "image" in wanted:
                example["image"] = picture
            if self.file_bytes:
                example["image_file"] = encode_png(picture)
        if "captions" in wanted:
            example["captions"], example["mentions"], _ = self._captions(i, scene, lang)
        if "objects" in wanted or "phrases" in wanted:
            boxes = self.boxes(scene)
        if "objects" in wanted:
            example["objects"] = [
                {"name": thing.key, "label": THINGS[thing.key].words[lang].names[0], "color": thing.color,
                 "attribute": thing.color, "size": thing.size, "place": thing.place, "box": box}
                for thing, box in zip(scene.objects, boxes, strict=True)
            ]  # fmt: skip
        if "questions" in wanted:
            example["questions"] = self._questions(i, scene, name)
        if "phrases" in wanted:
            example["phrases"], example["absent"] = self._phrases(i, scene, boxes)
        if "statements" in wanted:
            rng = self._rng("statements", i, lang)
            partner = (i + 1 + int(rng.random() * (self.count - 1))) % self.count
            example["statements"] = tasks.statements(rng, scene, self.scene(partner), partner, lang)
        if "audio" in wanted:
            rng = self._rng("audio", i, lang)
            heard = int(rng.random() * len(scene.objects))
            example.update(audio=sound.sound(rng, scene.objects[heard].key), audio_rate=sound.RATE, audio_object=heard)
        return example

    def _rng(self, use: str, i: int, lang: str):
        return layout.generator(use, self.seed, self.split, i, lang)

    def inventory(self, lang: str | None = None) -> Inventory:
        """The sense inventory of the scenes' nouns; of the first language where none is named."""
        lang = lang or self.langs[0]
        _check("lang", (lang,), LANGUAGES)
        return scene_inventory(lang)

    def by_word(self) -> dict[tuple[str, str], dict[int, str]]:
        """(language, ambiguous word) -> the examples whose main object it names, with the key of that object."""
        if self._by_word is None:
            table: dict = {}
            for i in range(self.count):
                scene = self.scene(i)
                if scene.word:
                    table.setdefault((scene.lang, scene.word), {})[i] = scene.objects[0].key
            self._by_word = table
        return self._by_word

    def sense_items(self, count: int, seed: int = 0) -> list[dict]:
        """At most `count` items of the sense evaluation, balanced over senses (see senses.py)."""
        return sense_items(self, count, seed)

    def emoji_items(self, folder: str) -> list[dict]:
        """The same of emoji, whose pictures lie in a folder (see emoji.py)."""
        return emoji_items(folder, self.size)


def _check(what: str, given: tuple, known: tuple) -> None:
    unknown = [one for one in given if one not in known]
    if unknown or not given:
        wrong = unknown[0] if unknown else "(empty)"
        raise UserError(f"scenes: there is no {what} {wrong!r}; known are {', '.join(known)}.")

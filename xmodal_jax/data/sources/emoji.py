"""Emoji pictures with names and keywords in several languages: real pictures for words with several senses."""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from pathlib import Path

import numpy as np

from xmodal_jax.data.images import ImageError, decode_image
from xmodal_jax.data.senses.inventory import TableInventory
from xmodal_jax.data.senses.words import UNSPACED, stop_words
from xmodal_jax.data.sources import emoji_senses
from xmodal_jax.data.sources.places import Base, Places, given_path
from xmodal_jax.data.sources.records import read_text
from xmodal_jax.data.sources.splits import check_fractions, check_split, hash_order, hashed_split
from xmodal_jax.data.sources.tables import LINE_ENDS
from xmodal_jax.errors import UserError, printable
from xmodal_jax.files import read_regular

_PERSON = {
    "1F468": "P",
    "1F469": "P",
    "1F9D1": "P",
    "1F466": "C",
    "1F467": "C",
    "1F9D2": "C",
    "1F474": "E",
    "1F475": "E",
    "1F9D3": "E",
    "1F934": "R",
    "1F478": "R",
    "1FAC5": "R",
    "1FAC3": "B",
    "1FAC4": "B",
    "1F930": "B",
    "1F57A": "D",
    "1F483": "D",
    "1F385": "X",
    "1F936": "X",
}
# Of the few pictures of Korean 배 this salt holds one back (the canoe) while each of its three senses keeps one in
# train.
_SALT = "20/emoji/"
_IGNORED = frozenset({"200D", "2640", "2642", "FE0F", "1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"})


class Emoji:
    """The emoji pack: pictures 72 x 72 on a background, captions built from Unicode's names and keywords.

    path: folder with annotations.jsonl. lang: one language or several (then each picture is one example per
    language). split: a family (gender and hair variants of one picture) is in one split only, by a hash. background:
    "white", or "light" for a pale colour that depends on the picture and split only. folds: for cross-validation, so many
    parts with as much of every subgroup each, of which number `fold` is val and all others are train; 0: none. dictionary:
    folder of omw_nouns_LANG.jsonl.gz for glosses; by default the folder `dictionary` beside the pack if it exists; False
    for none.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike,
        split: str = "train",
        size: int | None = 64,
        lang: str | tuple[str, ...] = "ko",
        background: str = "white",
        dictionary: str | os.PathLike | bool | None = None,
        file_bytes: bool = False,
        split_fractions: tuple[float, float, float] = (0.85, 0.05, 0.10),
        folds: int = 0,
        fold: int = 0,
    ):
        check_split(split)
        if background not in ("white", "light"):
            raise UserError(f"background={background!r}: must be white or light.")
        self.path, self.split, self.size, self.background = given_path(path), split, size, background
        self.file_bytes = file_bytes
        self.langs = (lang,) if isinstance(lang, str) else tuple(lang)
        self._all = _read(self.path, self.langs)
        fractions = check_fractions(split_fractions)
        if folds:
            held_out = _folds(self._all, folds, fold)
            self._splits = ["val" if row["family"] in held_out else "train" for row in self._all]
        else:
            self._splits = [hashed_split(_SALT + row["family"], fractions) for row in self._all]
        self._rows = [i for i, where in enumerate(self._splits) if where == split]
        if folds and split == "test":
            raise UserError(f"folds={folds}: each part is val once, there is no test.")
        if not self._rows:
            raise UserError(f"{self.path}: no emoji in split {split!r}; give it a larger share of split_fractions.")
        folder = self.path.parent / "dictionary" if dictionary is None else dictionary
        self._dictionary = Path(folder) if folder and Path(folder).is_dir() else None
        if dictionary and self._dictionary is None:
            raise UserError(f"dictionary={dictionary!r}: there is no such folder.")
        self._senses = {one: emoji_senses.cluster(self._all, one) for one in self.langs}
        self._inventories: dict[str, TableInventory] = {}

    def __len__(self) -> int:
        return len(self._rows) * len(self.langs)

    def _at(self, i: int) -> tuple[dict, str]:
        if not -len(self) <= i < len(self):
            raise IndexError(f"emoji: example {i} of {len(self)}")
        return self._all[self._rows[i % len(self) // len(self.langs)]], self.langs[i % len(self.langs)]

    def captions(self, i: int) -> tuple[list[str], list[list[tuple[int, int, str]]], str]:
        """Up to five captions: the name; name and keywords; keywords; single keywords, ambiguous words first."""
        row, lang = self._at(i)
        captions = self._captions(row, lang)
        return [text for text, _ in captions], [mentions for _, mentions in captions], lang

    def record(self, i: int) -> tuple[list, list[str]]:
        """As of `ImageTextSource`."""
        row, lang = self._at(i)
        return [row["image"], lang, row["lang"][lang]["name"], row["words"][lang]], [str(self.path / row["image"])]

    def _captions(self, row: dict, lang: str) -> list[tuple[str, list[tuple[int, int, str]]]]:
        name, keywords = row["lang"][lang]["name"], row["words"][lang][1:]
        senses = self._senses[lang]
        order = sorted(keywords, key=lambda word: (len(senses[word]) < 2, _draw(row["image"], word)))
        singles = [name, *order] if len(senses[name]) > 1 else order
        frames = [(name,), (name, *order[:2]), tuple(order[:3]), *((word,) for word in singles[:2])]
        made = {}
        for words in frames:
            if words:
                text, mentions = self._join(words, name, lang)
                made.setdefault(text, mentions)
        return list(made.items())

    def _join(self, words: tuple[str, ...], name: str, lang: str) -> tuple[str, list[tuple[int, int, str]]]:
        """Words -> ("name · keyword, keyword", mentions); no grammar is invented for any language."""
        text, mentions = "", []
        for i, word in enumerate(words):
            if i:
                text += " · " if i == 1 and words[0] == name else ", "
            if word == name:
                mentions += [(len(text) + start, len(text) + end, part) for start, end, part in self._parts(name, lang)]
            else:
                mentions.append((len(text), len(text) + len(word), word))
            text += word
        return text, mentions

    def _parts(self, name: str, lang: str) -> list[tuple[int, int, str]]:
        """Words inside a name that are words of the pack themselves ("passenger ship" -> "ship"); else the whole
        name.
        """
        if lang not in UNSPACED and " " in name:
            parts, at = [], 0
            for token in name.split(" "):
                if token in self._senses[lang] and token.lower() not in stop_words(lang):
                    parts.append((at, at + len(token), token))
                at += len(token) + 1
            if parts:
                return parts
        return [(0, len(name), name)]

    def __getitem__(self, i: int) -> dict:
        row, lang = self._at(i)
        texts, mentions, _ = self.captions(i)
        example = {
            "id": f"emoji/{lang}/{Path(row['image']).stem}",
            "image": self._image(row),
            "captions": texts,
            "lang": lang,
            "mentions": mentions,
            "group": row["family"],
        }
        if self.file_bytes:
            example["image_file"] = self._file(row)
        return example

    def _image(self, row: dict) -> np.ndarray:
        colour = (255, 255, 255)
        if self.background == "light":
            draw = _draw(row["image"], "background")
            colour = tuple(200 + (draw >> shift) % 56 for shift in (0, 8, 16))
        return decode_image(self._file(row), self.size, "resize", name=str(self.path / row["image"]), background=colour)

    def _file(self, row: dict) -> bytes:
        try:
            return read_regular(self.path / row["image"])
        except OSError as error:
            raise ImageError(f"Image {self.path / row['image']}: {error.strerror or error}.") from None

    def inventory(self, lang: str | None = None) -> TableInventory:
        """The pack's own senses of `lang` (default: the first): one sense per kind of picture that a word annotates."""
        lang = lang or self.langs[0]
        if lang not in self.langs:
            raise UserError(f"lang={lang!r}: this source was opened for {', '.join(self.langs)}.")
        if lang not in self._inventories:
            table = emoji_senses.table(self._all, self._senses[lang], lang, self._dictionary)
            self._inventories[lang] = TableInventory(table, lang)
        return self._inventories[lang]

    def inventories(self) -> dict[str, TableInventory]:
        """{language: inventory} of all languages of this source."""
        return {lang: self.inventory(lang) for lang in self.langs}

    def sense_items(self, count: int | None = None, seed: int = 0) -> list[dict]:
        """Ambiguous words beside pictures of this split, the word alone as the text: at most `count`, words in turn;
        words that the dictionary, too, knows to be ambiguous come first.

        Only senses with a picture in train count, or with a word of their own on one, so that each could be learned; a
        sense's held-out picture is its own test. The swapped picture shows another sense (from this split if it has one), the
        wrong picture none of the word's senses.
        """
        rng = np.random.default_rng(seed)
        sure, unsure = [], []
        trained = [row for row, where in zip(self._all, self._splits, strict=True) if where == "train"]
        for slot, lang in enumerate(self.langs):
            inventory = self.inventory(lang)
            said = {word for row in trained for word in row["words"][lang]}
            for word, senses in self._senses[lang].items():
                own = {sense.id: sense.synonyms for sense in inventory.senses(word)}
                learned = [
                    sense
                    for sense in senses
                    if any(self._splits[i] == "train" for i in sense.pictures) or not said.isdisjoint(own[sense.id])
                ]
                if len(learned) > 1:
                    queue = [
                        (slot, word, learned, sense, place)
                        for sense in learned
                        for place, i in enumerate(self._rows)
                        if i in sense.pictures
                    ]
                    if queue:
                        queues = sure if emoji_senses.confirmed(inventory.senses(word)) else unsure
                        queues.append([queue[k] for k in rng.permutation(len(queue))])
        chosen = []
        for queues in (sure, unsure):
            queues = [queues[k] for k in rng.permutation(len(queues))]
            chosen += [queue[turn] for turn in range(max(map(len, queues), default=0)) for queue in queues if turn < len(queue)]
        return [self._sense_item(*choice, rng) for choice in chosen[:count]]

    def _sense_item(self, slot: int, word: str, senses: list, sense, place: int, rng: np.random.Generator) -> dict:
        other = [one for one in senses if one is not sense]
        pictures = [(i, one) for one in other for i in sorted(one.pictures)]
        held_out = [(i, one) for i, one in pictures if self._splits[i] == self.split]
        swapped, swapped_sense = (held_out or pictures)[rng.integers(len(held_out or pictures))]
        lang = self.langs[slot]
        unlike = [i for i in self._rows if word not in self._all[i]["words"][lang]] or [
            i for i, row in enumerate(self._all) if word not in row["words"][lang]
        ]
        return {
            "index": place * len(self.langs) + slot,
            "image": self._image(self._all[self._rows[place]]),
            "text": word,
            "span": (0, len(word)),
            "word": word,
            "sense": sense.id,
            "senses": tuple(one.id for one in senses),
            "swapped_image": self._image(self._all[swapped]),
            "swapped_sense": swapped_sense.id,
            "wrong_image": self._image(self._all[unlike[rng.integers(len(unlike))]]),
            "lang": lang,
        }


def family(codepoints: list[str]) -> str:
    """One key for the variants of a picture: gender, person or hair make no difference, nor do joiners."""
    kept = [_PERSON.get(point.upper(), point.upper()) for point in codepoints if point.upper() not in _IGNORED]
    return "-".join(point for point in kept if not "1F9B0" <= point <= "1F9B3" or len(kept) == 1)


def _folds(rows: list[dict], folds: int, fold: int) -> set[str]:
    """The families of one of so many parts: those of a subgroup, in the order of a hash, go to all parts in turn."""
    if folds < 2 or not 0 <= fold < folds:
        raise UserError(
            f"folds={folds}, fold={fold}: at least 2 parts are expected, and fold 0 to {max(folds, 2) - 1} of them."
        )
    families = {row["family"]: (row["group"], row["subgroup"]) for row in reversed(rows)}
    order = sorted(hash_order(list(families), _SALT.__add__), key=families.get)
    return set(order[fold::folds])


def _draw(*parts: str) -> int:
    """A number that depends on the texts only."""
    return int.from_bytes(hashlib.blake2b("/".join(parts).encode("utf-8"), digest_size=8).digest(), "big")


def _read(path: Path, langs: tuple[str, ...]) -> list[dict]:
    file = path / "annotations.jsonl"
    if not file.is_file():
        raise UserError(f"{file}: there is no such file. path must be the emoji pack's folder: annotations.jsonl and images/.")
    rows = []
    places = Places(path)
    for number, line in enumerate(LINE_ENDS.split(read_text(file)), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if (found := places.find(row["image"], (Base(path),))).is_outside:
                raise UserError(f"{file}:{number}: the picture {printable(row['image'])} {found.why}.")
            row["family"] = family(row["codepoints"])
            known = sorted(row["lang"])
            row["words"] = {
                lang: list(dict.fromkeys((entry["name"], *entry["keywords"]))) for lang, entry in row["lang"].items()
            }
            _ = row["image"], row["group"], row["subgroup"]  # a missing field is an error of this line
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(
                f"{file}:{number}: not a line of the emoji pack ({type(error).__name__}: {error}). Expected: JSON with "
                'image, codepoints, group, subgroup and lang: {"en": {"name", "keywords"}}.'
            ) from None
        missing = [lang for lang in langs if lang not in known]
        if missing:
            raise UserError(
                f"{file}:{number}: no annotation in {', '.join(missing)}; the languages here are {', '.join(known)}."
            )
        rows.append(row)
    counts = defaultdict(int)
    for row in rows:
        counts[row["image"]] += 1
    if not rows or max(counts.values()) > 1:
        raise UserError(f"{file}: {'the file is empty' if not rows else 'a picture is listed twice'}.")
    return rows

"""What every source of pictures with captions shares: random access that survives odd files, splits, boxes."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from absl import logging

from xmodal_jax.data.images import MODES, ImageError, decode_image
from xmodal_jax.errors import UserError

SPLITS = ("train", "val", "test")
_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "restval": "train",
    "train2014": "train",
    "train2017": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "val2014": "val",
    "val2017": "val",
    "test": "test",
    "testing": "test",
    "eval": "test",
}


@dataclass(slots=True)
class Row:
    """One picture: its name in the data set, its file, its captions, and further keys of the example (boxes already
    in 0..1).
    """

    name: str
    file: str
    captions: tuple[str, ...]
    extra: dict = field(default_factory=dict)


class ImageTextSource:
    """Rows of pictures and captions as a source of examples.

    A picture that cannot be decoded is replaced by the next good one (i + 1, ...), counted, and named once in the
    log; more than `max_bad_fraction` of the examples touched, and at least 3, is a UserError.
    """

    def __init__(
        self,
        rows: list[Row],
        *,
        name: str,
        lang: str,
        size: int | None,
        mode: str = "resize",
        file_bytes: bool = False,
        max_bad_fraction: float = 0.05,
    ):
        if mode not in MODES:
            raise UserError(f"mode={mode!r}: must be one of {', '.join(MODES)}.")
        self.name, self.lang, self.size, self.mode = name, lang, size, mode
        self.file_bytes, self.max_bad_fraction = file_bytes, max_bad_fraction
        self.bad: dict[int, str] = {}
        self._touched = bytearray(len(rows))
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def captions(self, i: int) -> tuple[list[str], None, str]:
        return list(self._rows[i].captions), None, self.lang

    def __getitem__(self, i: int) -> dict:
        n = len(self._rows)
        if not -n <= i < n:
            raise IndexError(f"{self.name}: example {i} of {n}")
        for step in range(n):
            at = (i + step) % n
            try:
                example = self._load(at)
            except ImageError as error:
                self._note(at, error)
                continue
            self._touched[at] = 1
            return example
        raise UserError(f"{self.name}: not one of the {n} pictures can be decoded; the first: {next(iter(self.bad.values()))}")

    def _load(self, i: int) -> dict:
        row = self._rows[i]
        data = self._read(row)
        example = {
            "id": f"{self.name}/{row.name}",
            "image": decode_image(data, self.size, self.mode, name=row.file),
            "captions": list(row.captions),
            "lang": self.lang,
            **row.extra,
        }
        if self.file_bytes:
            example["image_file"] = data
        return example

    def _read(self, row: Row) -> bytes:
        try:
            return Path(row.file).read_bytes()
        except OSError as error:
            raise ImageError(f"Image {row.file}: {error.strerror or error}.") from None

    def _note(self, i: int, error: ImageError) -> None:
        self._touched[i] = 1
        if i in self.bad:
            return
        self.bad[i] = str(error)
        logging.warning("%s: example skipped (%d so far). %s", self.name, len(self.bad), error)
        # Bad files often stand together: of the first few touched, assume that some more had been good.
        floor = min(len(self._rows), round(3 / self.max_bad_fraction) if self.max_bad_fraction else len(self._rows))
        too_many(self.name, len(self.bad), max(sum(self._touched), floor), self.max_bad_fraction, self.bad.values())


def too_many(name: str, bad: int, touched: int, fraction: float, messages) -> None:
    """UserError if `bad` of `touched` examples is more than may be skipped silently."""
    if bad >= 3 and bad > fraction * touched:
        shown = " ".join(list(messages)[:3])
        raise UserError(
            f"{name}: {bad} of {touched} examples have pictures that are missing or cannot be decoded: more "
            f"than max_bad_fraction={fraction:g} allows. {shown}"
        )


def canonical_split(value: str) -> str | None:
    """ "validation" -> "val"; None if the word names no split."""
    return _SPLIT_NAMES.get(str(value).strip().lower())


def check_split(split: str) -> str:
    if split not in SPLITS:
        raise UserError(f"split={split!r}: must be one of {', '.join(SPLITS)}.")
    return split


def hashed_split(key: str, fractions: tuple[float, float, float]) -> str:
    """The split of a picture (or family) by a hash of its name: the same on every machine, whatever else is in the
    folder.
    """
    draw = int.from_bytes(hashlib.blake2b(key.encode("utf-8"), digest_size=8).digest(), "big") / 2**64 * sum(fractions)
    return "train" if draw < fractions[0] else "val" if draw < fractions[0] + fractions[1] else "test"


def check_fractions(fractions) -> tuple[float, float, float]:
    if len(fractions) != 3 or min(fractions) < 0 or not sum(fractions) > 0:
        raise UserError(f"split_fractions={fractions!r}: three shares (train, val, test), none negative, are expected.")
    return tuple(fractions)


def fit_box(box, width: float, height: float, mode: str) -> list[float] | None:
    """A box [x0, y0, x1, y1] in pixels of a width x height picture -> 0..1 of the square that `decode_image` makes of
    it.

    None if nothing of it is left inside the crop.
    """
    side = max(width, height) if mode == "pad" else min(width, height)
    across, down = (width, height) if mode == "resize" else (side, side)
    left, top = (0.0, 0.0) if mode == "resize" else ((width - side) / 2, (height - side) / 2)
    x0, y0, x1, y1 = box
    fitted = [(x0 - left) / across, (y0 - top) / down, (x1 - left) / across, (y1 - top) / down]
    fitted = [min(1.0, max(0.0, value)) for value in fitted]
    return fitted if fitted[2] > fitted[0] and fitted[3] > fitted[1] else None


def object_extras(objects: list[dict], mode: str) -> dict:
    """Objects {"name", "box" (pixels), "width", "height", "unique"} -> the example's `objects` and `phrases`."""
    kept = []
    for thing in objects:
        box = fit_box(thing["box"], thing["width"], thing["height"], mode)
        if box is not None:
            kept.append((thing, box))
    if not kept:
        return {}
    extra = {
        "objects": [
            {"name": thing["name"], "label": thing["name"], "color": None, "size": None, "box": box} for thing, box in kept
        ]
    }
    phrases = [{"phrase": thing["name"], "box": box} for thing, box in kept if thing["unique"]]
    return {**extra, "phrases": phrases} if phrases else extra


class Folder:
    """Finds listed pictures in a folder by directory listings: no stat per file, so that large folders open fast."""

    def __init__(self, *roots: Path):
        self.roots = roots
        self._listed: dict[str, frozenset[str]] = {}

    def find(self, name: str) -> str | None:
        """The file of a listed name: under a root, its `images` folder, or by the bare file name in either; None if
        missing.
        """
        name = name.replace("\\", "/")
        for part in dict.fromkeys((name, name.rsplit("/", 1)[-1])):
            for root in self.roots:
                for folder in (root, root / "images"):
                    path = os.path.join(folder, part)
                    if os.path.basename(path) in self._names(os.path.dirname(path)):
                        return path
        return None

    def _names(self, folder: str) -> frozenset[str]:
        if folder not in self._listed:
            try:
                self._listed[folder] = frozenset(os.listdir(folder))
            except OSError:
                self._listed[folder] = frozenset()
        return self._listed[folder]

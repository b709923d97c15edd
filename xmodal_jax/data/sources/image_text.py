"""What every source of pictures with captions shares: random access that survives odd files."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from absl import logging

from xmodal_jax.data.images import ImageError, check_mode, decode_image
from xmodal_jax.errors import UserError, printable
from xmodal_jax.files import read_regular


@dataclass(slots=True)
class Row:
    """One picture: its name in the data set, its file, its captions, and further keys of the example (boxes already
    in 0..1). split: None if it is of none. at: what lists it, for messages.
    """

    name: str
    file: str
    split: str | None
    at: str | Path
    captions: list[str] | tuple[str, ...] = field(default_factory=list)  # a tuple once they are read
    extra: dict = field(default_factory=dict)


class ImageTextSource:
    """Rows of pictures and captions as a source of examples.

    size, mode: see `decode_image`. lang: language of the captions. file_bytes: examples hold the picture's file too.
    A picture that cannot be decoded is replaced by the next good one (i + 1, ...), counted, and named once in the
    log; more than `max_bad_fraction` of the examples touched, and at least 3, is a UserError.
    """

    def __init__(
        self,
        rows: list,
        name: str,
        *,
        size: int | None = 128,
        mode: str = "resize",
        lang: str = "en",
        file_bytes: bool = False,
        max_bad_fraction: float = 0.05,
    ):
        try:
            check_mode(mode)
        except ValueError as error:
            raise UserError(f"{error}.") from None
        self.name, self.lang, self.size, self.mode = name, lang, size, mode
        self.file_bytes, self.max_bad_fraction = file_bytes, max_bad_fraction
        self.bad: dict[int, str] = {}
        self._touched = bytearray(len(rows))
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def captions(self, i: int) -> tuple[list[str], None, str]:
        return list(self._rows[i].captions), None, self.lang

    def record(self, i: int) -> tuple[list, list[str]]:
        """(name and texts of example i, the files that it is read from): what `train.fingerprint` compares."""
        row = self._rows[i]
        return [row.name, list(row.captions), row.extra], [row.file]

    def names(self) -> list[str]:
        """What the pictures are called in the data set."""
        return [row.name for row in self._rows]

    def phrases(self, i: int) -> list[str]:
        """Phrases that each mean one object of picture i."""
        return [one["phrase"] for one in self._rows[i].extra.get("phrases", ())]

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
        if "series_file" in row.extra:
            example["series"] = numbers_of(example.pop("series_file"), row.at)
        if "objects" in row.extra:
            own = {thing["name"] for thing in row.extra["objects"]}
            example["absent"] = [name for name in self.object_names if name not in own]
        if self.file_bytes:
            example["image_file"] = data
        return example

    def labels(self, i: int) -> list[str]:
        """What the objects of picture i are called."""
        return [thing["label"] for thing in self._rows[i].extra.get("objects", ())]

    @functools.cached_property
    def object_names(self) -> list[str]:
        """Names of all objects of the pictures, in order."""
        return sorted({thing["name"] for row in self._rows for thing in row.extra.get("objects", ())})

    def _read(self, row: Row) -> bytes:
        try:
            return read_regular(row.file)
        except OSError as error:
            raise ImageError(f"Image {row.file}: {error.strerror or error}.") from None

    def _note(self, i: int, error: ImageError) -> None:
        self._touched[i] = 1
        if i in self.bad:
            return
        self.bad[i] = str(error)
        logging.warning("%s: example skipped (%d so far). %s", self.name, len(self.bad), printable(error))
        # Bad files often stand together: of the first few touched, assume that some more had been good.
        floor = min(len(self._rows), round(3 / self.max_bad_fraction) if self.max_bad_fraction else len(self._rows))
        too_many(self.name, len(self.bad), max(sum(self._touched), floor), self.max_bad_fraction, self.bad.values())


def too_many(
    name: str, bad: int, touched: int, fraction: float, messages, what="pictures that are missing or cannot be decoded"
) -> None:
    """UserError if `bad` of `touched` examples is more than may be skipped silently."""
    if bad >= 3 and bad > fraction * touched:
        shown = " ".join(list(messages)[:3])
        raise UserError(
            f"{name}: {bad} of {touched} examples have {what}: more than max_bad_fraction={fraction:g} allows. {shown}"
        )


def numbers_of(path: str, at: str | Path) -> np.ndarray:
    """The numbers of a .npy, or of a .csv row by row: float32 [n]. at: what names the file."""
    try:
        if not os.path.isfile(path):
            raise OSError("there is no such regular file")
        if path.endswith(".npy"):
            return np.load(path, allow_pickle=False).astype(np.float32).ravel()
        return np.loadtxt(path, np.float32, delimiter=",", ndmin=1).ravel()
    except (OSError, ValueError, TypeError) as error:
        raise ImageError(  # skipped and counted as a picture that cannot be decoded
            f"{at}: the series {path} cannot be read ({error}): a .npy or a .csv of numbers is expected."
        ) from error

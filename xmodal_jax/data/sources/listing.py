"""Lists of pictures, whatever they say of them: which picture a line is about, its split, its file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from absl import logging

from xmodal_jax.data.sources.image_text import ImageTextSource, Row, too_many
from xmodal_jax.data.sources.splits import SPLITS, canonical_split
from xmodal_jax.errors import UserError

IMAGE_FIELDS = ("image", "file_name", "filename", "file", "filepath", "image_path", "path", "img", "image_name")


class ListedPictures(ImageTextSource):
    """The pictures of one split of a list.

    listed: the rows of all splits, with files as listed. find: such a file -> where it is, or None; a picture that is
    missing is skipped and logged, too many of them are a UserError. at: the list, for messages. The rest as in
    `ImageTextSource`.
    """

    def __init__(
        self, listed: Iterable[Row], find: Callable, split: str, at: Path, name: str, *, max_bad_fraction=0.05, **reading
    ):
        rows, missing, counts = [], [], Counter()
        for row in listed:
            counts[row.split] += 1
            if row.split != split:
                continue
            file = find(row.file)
            if file is None:
                missing.append(f"{row.at}: the picture {row.name} is not there.")
            else:
                row.file = file
                rows.append(row)
        if missing:
            logging.warning("%s: %d listed pictures are missing and skipped. %s", at, len(missing), " ".join(missing[:20]))
            too_many(str(at), len(missing), len(missing) + len(rows), max_bad_fraction, missing)
        if not rows:
            there = ", ".join(f"{key} ({counts[key]})" for key in SPLITS if counts[key]) or "no picture at all"
            raise UserError(
                f"{at}: no example in split {split!r}; listed there: {there}. "
                f"{' '.join(missing) or 'Give pictures this split in the list, or the split a larger share.'}"
            )
        super().__init__(rows, name, max_bad_fraction=max_bad_fraction, **reading)
        self.missing = len(missing)


def picture_name(row: dict) -> str | None:
    """The picture that a line is about; None if it names none."""
    name = next((row[key] for key in IMAGE_FIELDS if row.get(key)), None)
    return name if isinstance(name, str) and name.strip() else None


def stated_split(row: dict, at: str) -> str | None:
    """The split that a line states; None if it states none."""
    if row.get("split") in (None, ""):
        return None
    split = canonical_split(row["split"])
    if split is None:
        raise UserError(f"{at}: split {row['split']!r} is not one of {', '.join(SPLITS)}.")
    return split


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

"""Your own pictures with captions: a folder with images and a .jsonl, .csv or .txt of captions. No data set class is
needed.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path

from absl import logging

from xmodal_jax.data.images import SUFFIXES
from xmodal_jax.data.sources.image_text import (
    Folder,
    ImageTextSource,
    Row,
    canonical_split,
    check_fractions,
    check_split,
    hashed_split,
    object_extras,
    too_many,
)
from xmodal_jax.errors import UserError

IMAGE_FIELDS = ("image", "file_name", "filename", "file", "filepath", "image_path", "path", "img", "image_name")
CAPTION_FIELDS = ("captions", "caption", "text", "texts", "sentences", "sentence", "title", "description", "alt")
_EXAMPLE = '{"image": "images/1.jpg", "captions": ["a dog runs"]}'
_LOOKED_FOR = (
    "a *.jsonl file with lines such as " + _EXAMPLE + ", a *.csv or *.tsv file with a header such as image,caption, or a "
    ".txt file beside each picture (1.jpg and 1.txt)"
)


class Captions(ImageTextSource):
    """A folder of pictures with captions, or its caption file.

    path: folder or file. split: "train" | "val" | "test". size, mode: see `decode_image`. lang: language of the
    captions; a field `captions_<lang>` is preferred to `captions`. caption_field: the field or column to take
    instead. split_fractions: shares of train, val, test where the file has no `split`, by a hash of the picture's
    name. group_field: a field that becomes `group`. Several lines of one picture are merged; a picture without a
    caption is left out; boxes (`objects` with `category` and `xyxy` in pixels of `width` x `height`) become `objects`
    and `phrases`. Errors are UserErrors with file and line.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike,
        split: str = "train",
        size: int | None = 128,
        mode: str = "resize",
        lang: str = "en",
        caption_field: str | None = None,
        file_bytes: bool = False,
        split_fractions: tuple[float, float, float] = (0.9, 0.05, 0.05),
        max_bad_fraction: float = 0.05,
        group_field: str | None = None,
    ):
        check_split(split)
        self.path = Path(path)
        root, files = _caption_files(self.path)
        fractions = check_fractions(split_fractions)
        merged = _merge(files, lang, caption_field, group_field, mode)
        folder = Folder(*dict.fromkeys((root, *(file.parent for file in files if file.suffix != ".txt"))))
        rows, counts, missing = [], {}, []
        for name, (captions, stated, extra, at) in merged.items():
            where = stated or hashed_split(Path(name).name, fractions)
            counts[where] = counts.get(where, 0) + bool(captions)
            if where != split or not captions:
                continue
            file = folder.find(name)
            if file is None:
                missing.append(f"{at}: the picture {name} is not there.")
            else:
                rows.append(Row(name, file, tuple(captions), extra))
        empty = sum(not captions for captions, *_ in merged.values())
        if empty:
            logging.info("%s: %d pictures without a caption are left out.", self.path, empty)
        if missing:
            logging.warning(
                "%s: %d listed pictures are missing and skipped. %s", self.path, len(missing), " ".join(missing[:20])
            )
            too_many(str(self.path), len(missing), len(missing) + len(rows), max_bad_fraction, missing)
        if not rows:
            raise UserError(
                f"{self.path}: no example in split {split!r}; the captions there are for "
                f"{', '.join(f'{key} ({n})' for key, n in sorted(counts.items())) or 'no picture at all'}. Give the "
                "pictures this split in the file, or larger split_fractions."
            )
        super().__init__(
            rows,
            name=root.name,
            lang=lang,
            size=size,
            mode=mode,
            file_bytes=file_bytes,
            max_bad_fraction=max_bad_fraction,
        )
        self.missing = len(missing)


def _caption_files(path: Path) -> tuple[Path, list[Path]]:
    """(root folder of the pictures, caption files) of a folder or of one file."""
    if path.is_file():
        if path.suffix.lower() not in (".jsonl", ".csv", ".tsv", ".txt"):
            raise UserError(f"{path}: this is not a caption file. Expected: {_LOOKED_FOR}.")
        return path.parent, [path]
    if not path.is_dir():
        raise UserError(f"{path}: there is no such folder. Expected: a folder of pictures with {_LOOKED_FOR}.")
    tables = sorted(
        file for pattern in ("*.jsonl", "*.csv", "*.tsv") for file in (*path.glob(pattern), *path.glob("*/" + pattern))
    )
    top = [file for file in tables if file.parent == path]
    files = top or tables
    if not files:
        files = [path / "captions.txt"] if _is_table(path / "captions.txt") else _twins(path)
    if not files:
        what = "the folder is empty" if not any(path.iterdir()) else "no captions file was found in this folder"
        raise UserError(f"{path}: {what}. Looked for: {_LOOKED_FOR}.")
    return path, files


def _is_table(path: Path) -> bool:
    """True for a .txt with a header like "image,caption" (so Flickr8k is often handed on)."""
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        header = [field.strip().lower() for field in file.readline().split(",")]
    return any(field in IMAGE_FIELDS for field in header) and any(field in CAPTION_FIELDS for field in header)


def _twins(path: Path) -> list[Path]:
    """.txt files that stand beside a picture of the same name."""
    texts = sorted((*path.glob("*.txt"), *path.glob("*/*.txt")))
    return [text for text in texts if _picture_of(text)]


def _picture_of(text: Path) -> Path | None:
    for suffix in sorted(SUFFIXES):
        for picture in (text.with_suffix(suffix), text.with_suffix(suffix.upper())):
            if picture.is_file():
                return picture
    return None


def _merge(files: list[Path], lang: str, caption_field: str | None, group_field: str | None, mode: str) -> dict[str, tuple]:
    """name -> (captions, stated split or None, extra, "file:line"), in the order of first mention."""
    merged: dict[str, tuple] = {}
    for file in files:
        stated_by_file = canonical_split(file.stem) or (canonical_split(file.parent.name) if file.suffix != ".txt" else None)
        fields = None
        for number, row in _records(file):
            at = f"{file}:{number}"
            if fields is None or caption_field is None and not any(field in row for field in fields):
                fields = _caption_fields(row, lang, caption_field, at)
            name = next((row[field] for field in IMAGE_FIELDS if row.get(field)), None)
            captions = next((row[field] for field in fields if field in row), None)
            if not isinstance(name, str):
                raise UserError(
                    f"{at}: this line names no picture. One of the fields {', '.join(IMAGE_FIELDS)} is expected, as in "
                    f"{_EXAMPLE}"
                )
            if captions is None:
                raise UserError(
                    f"{at}: this line has no caption. The field {' or '.join(fields)} is expected, as in {_EXAMPLE}"
                )
            captions = _texts(captions, at)
            stated = _stated_split(row.get("split"), at) or stated_by_file
            if name in merged:
                merged[name][0].extend(captions)
                continue
            extra = object_extras(_objects(row, at), mode) if isinstance(row.get("objects"), list) else {}
            if group_field is not None:
                if group_field not in row:
                    raise UserError(f"{at}: this line has no field {group_field!r} (group_field).")
                extra["group"] = str(row[group_field])
            merged[name] = (captions, stated, extra, at)
    return merged


def _records(file: Path) -> Iterator[tuple[int, dict]]:
    """(line number, fields) of a caption file; the .txt of one picture is one record."""
    try:
        if file.suffix.lower() == ".jsonl":
            yield from _json_lines(file)
        elif file.suffix.lower() in (".csv", ".tsv") or _is_table(file):
            with file.open(encoding="utf-8-sig", newline="") as lines:
                reader = csv.DictReader(lines, delimiter="\t" if file.suffix.lower() == ".tsv" else ",", restkey="_rest")
                reader.fieldnames = [field.strip() for field in reader.fieldnames or ()]
                for row in reader:
                    if row.pop("_rest", None):
                        raise UserError(
                            f"{file}:{reader.line_num}: more fields than the header has; put a caption with commas in "
                            "double quotes."
                        )
                    yield reader.line_num, {key: value for key, value in row.items() if value is not None}
        else:
            picture = _picture_of(file)
            if picture is None:
                raise UserError(f"{file}: there is no picture of the same name beside this text. Expected: {_LOOKED_FOR}.")
            name = picture.name if picture.parent == file.parent else str(picture)
            yield 1, {"image": name, "captions": file.read_text("utf-8-sig").splitlines()}
    except UnicodeDecodeError:
        raise UserError(f"{file}: this file is not UTF-8; save it as UTF-8.") from None
    except csv.Error as error:
        raise UserError(f"{file}: this is no readable table ({error}).") from None


def _json_lines(file: Path) -> Iterator[tuple[int, dict]]:
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(
                    f"{file}:{number}: this line is not JSON ({error}). Each line must be one JSON object, as in {_EXAMPLE}"
                ) from None
            if not isinstance(row, dict):
                raise UserError(f"{file}:{number}: this line is not a JSON object. Expected: {_EXAMPLE}")
            yield number, row


def _caption_fields(row: dict, lang: str, caption_field: str | None, at: str) -> tuple[str, ...]:
    """The fields to look for captions in, by the language; decided at a file's first line."""
    if caption_field is not None:
        return (caption_field,)
    own = tuple(f"{field}_{lang}" for field in CAPTION_FIELDS)
    if any(field in row for field in own):
        return own
    others = sorted(
        key for key in row for field in CAPTION_FIELDS if key.startswith(f"{field}_") and len(key) == len(field) + 3
    )
    if lang != "en" and others:
        raise UserError(
            f"{at}: no captions in {lang!r}: looked for captions_{lang}, found {', '.join(others)}. Give the lang of "
            "one of these, or caption_field."
        )
    return CAPTION_FIELDS


def _texts(value, at: str) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in values):
        raise UserError(f"{at}: captions must be a text or a list of texts, as in {_EXAMPLE}")
    return [" ".join(text.split()) for text in values if text.strip()]


def _stated_split(value, at: str) -> str | None:
    if value in (None, ""):
        return None
    split = canonical_split(value)
    if split is None:
        raise UserError(f"{at}: split {value!r} is not one of train, val, test.")
    return split


def _objects(row: dict, at: str) -> list[dict]:
    try:
        return [
            {
                "name": str(thing["category"]),
                "box": [float(edge) for edge in thing["xyxy"]],
                "width": row["width"],
                "height": row["height"],
                "unique": bool(thing.get("unique")),
            }
            for thing in row["objects"]
            if isinstance(thing, dict) and "category" in thing and not thing.get("iscrowd")
        ]
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{at}: boxes need category and xyxy [x0, y0, x1, y1] in pixels, and the line the picture's width and height."
        ) from None

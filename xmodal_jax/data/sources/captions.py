"""Your own pictures with captions: a folder with images and a .jsonl, .csv or .txt of captions. No data set class is
needed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from absl import logging

from xmodal_jax.data.images import SUFFIXES
from xmodal_jax.data.sources.boxes import object_extras
from xmodal_jax.data.sources.image_text import Row
from xmodal_jax.data.sources.listing import IMAGE_FIELDS, Folder, ListedPictures, picture_name, stated_split
from xmodal_jax.data.sources.records import records, utf8
from xmodal_jax.data.sources.splits import FRACTIONS, canonical_split, check_fractions, check_split, hashed_split
from xmodal_jax.errors import UserError

CAPTION_FIELDS = ("captions", "caption", "text", "texts", "sentences", "sentence", "title", "description", "alt")
_EXAMPLE = '{"image": "images/1.jpg", "captions": ["a dog runs"]}'
_LOOKED_FOR = (
    "a *.jsonl file with lines such as " + _EXAMPLE + ", a *.csv or *.tsv file with a header such as image,caption, or a "
    ".txt file beside each picture (1.jpg and 1.txt)"
)


class Captions(ListedPictures):
    """A folder of pictures with captions, or its caption file.

    path: folder or file. split: "train" | "val" | "test". A field `captions_<lang>` is preferred to `captions`;
    caption_field: the field or column to take instead. split_fractions: shares of train, val, test where the file has
    no `split`, by a hash of the picture's name. group_field: a field that becomes `group`. The rest: see
    `ImageTextSource`. Several lines of one picture are merged; a picture without a caption is left out; boxes
    (`objects` with `category` and `xyxy` in pixels of `width` x `height`) become `objects` and `phrases`; a field `series`
    names a .csv or .npy of numbers beside the file (`second=series`). Errors are UserErrors with file and line.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike,
        split: str = "train",
        mode: str = "resize",
        lang: str = "en",
        caption_field: str | None = None,
        split_fractions: tuple[float, float, float] = FRACTIONS,
        group_field: str | None = None,
        **reading,
    ):
        check_split(split)
        self.path = Path(path)
        root, files = _caption_files(self.path)
        fractions = check_fractions(split_fractions)
        listed = _merge(files, lang, caption_field, group_field, mode, fractions)
        captioned = [row for row in listed if row.captions]
        if len(captioned) < len(listed):
            logging.info("%s: %d pictures without a caption are left out.", self.path, len(listed) - len(captioned))
        folder = Folder(*dict.fromkeys((root, *(file.parent for file in files if file.suffix != ".txt"))))
        super().__init__(captioned, folder.find, split, self.path, root.name, mode=mode, lang=lang, **reading)


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


def _merge(files: list[Path], lang: str, caption_field: str | None, group_field: str | None, mode: str, fractions) -> list[Row]:
    """A row a picture, in the order of first mention."""
    merged: dict[str, Row] = {}
    for file in files:
        stated_by_file = canonical_split(file.stem) or (canonical_split(file.parent.name) if file.suffix != ".txt" else None)
        fields = None
        for number, line in _records(file):
            at = f"{file}:{number}"
            if fields is None or caption_field is None and not any(field in line for field in fields):
                fields = _caption_fields(line, lang, caption_field, at)
            name, captions = picture_name(line), next((line[field] for field in fields if field in line), None)
            if name is None:
                raise UserError(
                    f"{at}: this line names no picture. One of the fields {', '.join(IMAGE_FIELDS)} is expected, as in "
                    f"{_EXAMPLE}"
                )
            if captions is None:
                raise UserError(
                    f"{at}: this line has no caption. The field {' or '.join(fields)} is expected, as in {_EXAMPLE}"
                )
            captions = _texts(captions, at)
            split = stated_split(line, at) or stated_by_file
            if name in merged:
                merged[name].captions.extend(captions)
                continue
            extra = object_extras(_objects(line, at), mode) if isinstance(line.get("objects"), list) else {}
            if isinstance(line.get("series"), str) and line["series"]:
                extra["series_file"] = str(file.parent / line["series"])
            if group_field is not None:
                if group_field not in line:
                    raise UserError(f"{at}: this line has no field {group_field!r} (group_field).")
                extra["group"] = str(line[group_field])
            merged[name] = Row(name, name, split or hashed_split(Path(name).name, fractions), at, captions, extra)
    return list(merged.values())


def _records(file: Path) -> Iterator[tuple[int, dict]]:
    """(line number, fields) of a caption file; the .txt of one picture is one record."""
    if file.suffix.lower() != ".txt" or _is_table(file):
        yield from records(file, _EXAMPLE, "," if file.suffix.lower() == ".txt" else None)
        return
    picture = _picture_of(file)
    if picture is None:
        raise UserError(f"{file}: there is no picture of the same name beside this text. Expected: {_LOOKED_FOR}.")
    with utf8(file):
        yield 1, {"image": picture.name, "captions": file.read_text("utf-8-sig").splitlines()}


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

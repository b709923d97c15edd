"""Your own pictures with captions: a folder with images and a .jsonl, .csv, .json or .txt of captions. No data set class is
needed.
"""

from __future__ import annotations

import os
from pathlib import Path

from absl import logging

from xmodal_jax.data.sources.boxes import object_extras
from xmodal_jax.data.sources.caption_files import CaptionFiles, caption_files
from xmodal_jax.data.sources.image_text import Row
from xmodal_jax.data.sources.listing import ListedPictures, Listing, bases_of_list, picture_name, stated_split
from xmodal_jax.data.sources.places import Base, given_path
from xmodal_jax.data.sources.records import IMAGE_FIELDS, is_nothing, other_source, read_text, records
from xmodal_jax.data.sources.splits import (
    FRACTIONS,
    SHARE,
    canonical_split,
    check_fractions,
    check_split,
    check_val_fraction,
    split_of_name,
)
from xmodal_jax.data.sources.tables import LINE_ENDS, plain
from xmodal_jax.data.sources.texts import caption_fields, fields_said, said, texts_of
from xmodal_jax.errors import UserError, printable

_EXAMPLE = '{"image": "images/1.jpg", "captions": ["a dog runs"]}'


class Captions(ListedPictures):
    """A folder of pictures with captions, or its caption file.

    path: folder or file. split: "train" | "val" | "test". A field `captions_<lang>` is preferred to `captions`;
    caption_field: the field or column to take instead. split_fractions: shares of train, val, test where the file has
    no `split`, by a hash of the picture's place. val_fraction: share of the training pictures that is val where splits are
    given, and no val. group_field: a field that becomes `group`. The rest: see `ListedPictures`, `ImageTextSource`. Several
    lines of one picture are merged; a picture without a caption is left out; boxes (`objects` with `category` and `xyxy` in
    pixels of `width` x `height`) become `objects` and `phrases`; a field `series` names a .csv or .npy of numbers beside the
    file (`second=series`). Errors are UserErrors with file and line.
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
        val_fraction: float = SHARE,
        group_field: str | None = None,
        allow_outside: bool = False,
        **reading,
    ):
        check_split(split)
        self.path = given_path(path)
        found = caption_files(self.path, _EXAMPLE, allow_outside)
        fractions, share = check_fractions(split_fractions), check_val_fraction(val_fraction)
        self.without = 0  # captions that are left out since they say nothing
        listings = [self._listing(file, found.root, lang, caption_field, group_field, mode) for file in found.lists]
        if found.texts:
            listings.append(self._texts(found))
        if self.without:
            logging.info("%s: %d empty captions (null, NaN, blank) are left out.", printable(self.path), self.without)
        super().__init__(
            listings, found.root, split, self.path, found.root.name, fractions, share,
            mode=mode, lang=lang, allow_outside=allow_outside, **reading,
        )  # fmt: skip

    def _texts(self, found: CaptionFiles) -> Listing:
        """Texts beside their pictures, a caption a line, as rows."""
        rows = []
        for text, pictures in found.texts:
            lines = [line for line in LINE_ENDS.split(read_text(text)) if line.strip()]
            captions, without = texts_of(lines, str(text), _EXAMPLE)
            self.without += without
            split = _folder_split(text, found.root)
            for picture in pictures:
                name = picture.relative_to(found.root).as_posix()
                rows.append(Row(name, name, split, text, list(captions)))
        return Listing(rows, [(Base(found.root),)])

    def _listing(self, file: Path, root: Path, lang: str, caption_field, group_field, mode: str) -> Listing:
        """The lines of a file as rows."""
        stated_by_file = split_of_name(file.stem) or _folder_split(file, root)
        fields, rows = None, []
        for number, line in records(file, _EXAMPLE, is_table=file.suffix.lower() == ".txt"):
            at = f"{file}:{number}"
            if fields is None or caption_field is None and not fields_said(line, fields):
                fields = caption_fields(line, lang, caption_field, at)
            name, own = picture_name(line), fields_said(line, fields)
            if name is None:
                raise UserError(
                    f"{at}: this line names no picture. One of the fields {', '.join(IMAGE_FIELDS[:8])} ... is expected, as in "
                    f"{_EXAMPLE}; it has {_names(line)}.{other_source(line)}"
                )
            if not own:
                raise UserError(
                    f"{at}: this line has no caption. The field {' or '.join(fields)} is expected, as in {_EXAMPLE}; it has "
                    f"{_names(line)}.{other_source(line)}"
                )
            captions, without = texts_of(said(line, own), at, _EXAMPLE)
            self.without += without
            extra = object_extras(_objects(line, at), mode) if isinstance(line.get("objects"), list) else {}
            if isinstance(line.get("series"), str) and not is_nothing(line["series"]):
                extra["series_file"] = line["series"]
            if group_field is not None:
                if plain(group_field) not in line:
                    raise UserError(f"{at}: this line has no field {group_field!r} (group_field).")
                extra["group"] = str(line[plain(group_field)])
            rows.append(Row(name, name, stated_split(line, at) or stated_by_file, at, captions, extra))
        return Listing(rows, bases_of_list(dict.fromkeys((file.parent, root)), stated_by_file))


def _folder_split(file: Path, root: Path) -> str | None:
    """The split that the nearest folder of a file below the root is named after."""
    folders = reversed(file.parent.relative_to(root).parts)
    return next((split for split in map(canonical_split, folders) if split), None)


def _names(line: dict) -> str:
    """The fields of a line, and what those hold that would name a picture."""
    held = "".join(f" ({field} is {str(line[field])[:40]!r})" for field in IMAGE_FIELDS if field in line)
    return printable(", ".join(map(str, line)))[:200] + printable(held) or "no field"


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

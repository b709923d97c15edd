"""Flickr8k and Flickr30k as their authors hand them out: a file of captions, lists of the splits, a folder of pictures."""

from __future__ import annotations

import os
import re
from pathlib import Path

from absl import logging

from xmodal_jax.data.sources.caption_files import is_table
from xmodal_jax.data.sources.image_text import Row
from xmodal_jax.data.sources.listing import ListedPictures, Listing, picture_name
from xmodal_jax.data.sources.places import Base, check_list, given_path, is_hidden, visible
from xmodal_jax.data.sources.records import CAPTION_FIELDS, KNOWN, is_nothing, read_text, utf8
from xmodal_jax.data.sources.splits import (
    FRACTIONS,
    SHARE,
    canonical_split,
    check_fractions,
    check_split,
    check_val_fraction,
)
from xmodal_jax.data.sources.tables import LINE_ENDS, plain, table_rows
from xmodal_jax.errors import UserError, printable

TOKENS = ("*.token", "*.token.txt", "results.csv", "captions.txt")
# "NAME#0<tab>caption", "NAME| 0| caption" (one line of Flickr30k's lacks the second bar), "NAME,caption".
NUMBERED = [
    re.compile(r"^(?P<name>.+?\.\w+)\s*#\d+\s*\t(?P<caption>.*)$"),
    re.compile(r"^(?P<name>[^#|,\t]+?\.\w+)\s*(?:\|\s*\d+\s*\||\|\s*\d+\s+(?=\w)|,)\s*(?P<caption>.*)$"),
]
_LINE = "NAME.jpg#0<tab>caption"


class Flickr(ListedPictures):
    """path: a folder with `Flickr8k.token.txt`, `results_20130124.token`, `results.csv` or `captions.txt` (lines
    `NAME.jpg#0<tab>caption`, `NAME.jpg| 0| caption`, or a table with the header `image,caption`), or that file; the pictures
    lie in it or in a folder below. Lists such as `Flickr_8k.trainImages.txt` or `train.txt` give the splits, of training
    pictures a share `val_fraction` is val where there is no list of it; without lists a hash of the place splits them.

    Karpathy's dataset_flickr8k.json and dataset_flickr30k.json are read by data=coco. The rest: see `ImageTextSource`.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike,
        split: str = "train",
        split_fractions: tuple[float, float, float] = FRACTIONS,
        val_fraction: float = SHARE,
        allow_outside: bool = False,
        **reading,
    ):
        check_split(split)
        file = token_file(given_path(path), allow_outside)
        root = given_path(path) if given_path(path).is_dir() else file.parent
        fractions, share = check_fractions(split_fractions), check_val_fraction(val_fraction)
        captions = read_captions(file)
        lists = split_lists(file.parent, captions)
        rows = [Row(name, name, lists.get(name), at, texts) for name, (at, texts) in captions.items()]
        listing = Listing(rows, [(Base(folder),) for folder in _folders(root)])
        super().__init__(
            [listing], root, split, file, root.name, None if lists else fractions, share, allow_outside=allow_outside, **reading
        )


def _folders(root: Path) -> list[Path]:
    """A folder, those in it, and those in these."""
    inner = _inner(root)
    return [root, *inner, *(below for folder in inner for below in _inner(folder))]


def _inner(folder: Path) -> list[Path]:
    return sorted(one for one in folder.iterdir() if one.is_dir() and not is_hidden(one.name))


def token_file(path: Path, allow_outside: bool = False) -> Path:
    """The file of captions in a folder, or the file itself."""
    if path.is_file():
        return path
    for pattern in TOKENS:
        found = [file for depth in ("", "*/") for file in visible(path.glob(depth + pattern), path)]
        found = [file for file in found if "lemma" not in file.name] or found  # Flickr8k's has words cut to their stems
        if found:
            check_list(found[0], path, allow_outside)
            return found[0]
    raise UserError(f"{path}: no file of captions ({', '.join(TOKENS)}) is in this folder.")


def read_captions(file: Path) -> dict[str, tuple[str, list[str]]]:
    """{picture: (its first line, its captions in order)}; a line of another form is a UserError that names it."""
    captions: dict[str, tuple[str, list[str]]] = {}
    empty = 0
    for at, name, caption in _tabled(file) if is_table(file) else _numbered(file):
        own = captions.setdefault(name, (at, []))[1]
        if is_nothing(caption):
            empty += 1
        else:
            own.append(" ".join(caption.split()))
    if empty:
        logging.info("%s: %d empty captions (null, NaN, blank) are left out.", printable(file), empty)
    return captions


def _tabled(file: Path):
    """(line, picture, caption) of a table with a header."""
    text = read_text(file)
    if '"' not in text:  # then commas are part of the captions
        yield from _numbered(file)
        return
    for number, row in table_rows(text, file, KNOWN):
        name, caption = picture_name(row), next((row[field] for field in CAPTION_FIELDS if field in row), None)
        if name is None or caption is None:
            raise UserError(f"{file}:{number}: this line has no picture or no caption.")
        yield f"{file}:{number}", name, caption


def _numbered(file: Path):
    """(line, picture, caption) of lines that begin with the picture; a header passes."""
    for number, line in enumerate(LINE_ENDS.split(read_text(file)), 1):
        match = next(filter(None, (form.match(line) for form in NUMBERED)), None)
        if match:
            yield f"{file}:{number}", match["name"].strip(), match["caption"]
        elif line.strip() and not (number == 1 and KNOWN & set(map(plain, re.split(r"[,|\t]", line)))):
            raise UserError(f"{file}:{number}: {printable(line[:60])!r} is no line of the form {_LINE}.")


def split_lists(root: Path, captions: dict) -> dict[str, str]:
    """{picture: split} by the lists of names beside the captions; names may lack their suffix. A file that is called like a
    list but does not mostly name pictures is none.
    """
    out: dict[str, tuple[str, str]] = {}
    stems = {name.rsplit(".", 1)[0]: name for name in captions}
    for file in visible(root.glob("*.txt"), root):
        words = re.split(r"[\s_.-]+|(?<=[a-z\d])(?=[A-Z])", file.stem)
        split = next((split for split in map(canonical_split, words) if split), None)
        if split is None or ".token" in file.name:
            continue
        with utf8(file):
            lines = [line.strip() for line in LINE_ENDS.split(read_text(file))]
        names = [(number, name if name in captions else stems.get(name)) for number, name in enumerate(lines, 1) if name]
        known = [(number, name) for number, name in names if name is not None]
        if 2 * len(known) <= len(names):
            logging.info("%s: not taken for a list of a split: it does not name pictures of the captions.", printable(file))
            continue
        for number, name in known:
            other = out.setdefault(name, (split, f"{file}:{number}"))
            if other[0] != split:
                raise UserError(f"{file}:{number}: the picture {name} is in split {split}, and in {other[0]} ({other[1]}).")
    return {name: split for name, (split, _) in out.items()}

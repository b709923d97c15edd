"""Which files of a folder hold its captions: lists of pictures, or texts beside the pictures."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from absl import logging

from xmodal_jax.data.sources.places import check_list, names_below, picture_suffixes
from xmodal_jax.data.sources.records import (
    CAPTION_FIELDS,
    IMAGE_FIELDS,
    LINES,
    TABLES,
    WHOLE,
    names_picture,
    other_source,
    packed_in,
    records,
)
from xmodal_jax.data.sources.splits import canonical_split
from xmodal_jax.data.sources.tables import plain, table_rows
from xmodal_jax.data.sources.texts import fields_said
from xmodal_jax.errors import UserError, printable

BESIDE = (".txt", ".caption")  # of a text beside its picture, the better first
_SHOWN = 10
_OTHERS = {".tar": ("Tar", "webdataset"), ".parquet": ("Parquet", "parquet"), ".arrow": ("Arrow", "parquet")}


@dataclass(frozen=True)
class CaptionFiles:
    """root: folder of the pictures. lists: files of records. texts: (text, pictures of its name beside it)."""

    root: Path
    lists: list[Path]
    texts: list[tuple[Path, list[Path]]]


def looked_for(example: str) -> str:
    return (
        f"a *.jsonl file with lines such as {example}, a *.csv or *.tsv file with a header such as image,caption, a *.json "
        "file with a list of such objects, or a .txt file beside each picture (1.jpg and 1.txt)"
    )


def caption_files(path: Path, example: str, allow_outside: bool = False) -> CaptionFiles:
    """What holds the captions of a folder, or one file. Of several lists in a folder those of pictures with captions are
    taken.
    """
    suffix, expected = path.suffix.lower(), f"Expected: {looked_for(example)}."
    if path.is_file():
        if suffix in BESIDE and not is_table(path):
            texts = _texts(path.parent, {path.parent: sorted(os.listdir(path.parent))}, path)
            if not texts:
                raise UserError(f"{path}: there is no picture of the same name beside this text. {expected}")
            return CaptionFiles(path.parent, [], texts)
        if suffix not in (*LINES, *TABLES, *WHOLE, *BESIDE):
            raise UserError(f"{path}: this is not a caption file.{packed_in(path)} {expected}")
        return CaptionFiles(path.parent, [path], [])
    if not path.is_dir():
        what = "this is neither a folder nor a regular file" if path.exists() else "there is no such folder"
        raise UserError(f"{path}: {what}. Expected: a folder of pictures with {looked_for(example)}.")
    names = names_below(path)
    lists, others = _lists(path, names)
    texts = [] if lists else _texts(path, names)
    if others and (lists or texts):
        logging.info("%s: not taken for captions: %s.", printable(path), printable(", ".join(map(str, others[:_SHOWN]))))
    elif not (lists or texts):  # what is wrong with them is told where they are read
        lists = [file for file in others if file.suffix.lower() in (*LINES, *TABLES)]
    for file in (*lists, *(text for text, _ in texts if text.is_symlink())):
        check_list(file, path, allow_outside)
    if not lists and not texts:
        what = "the folder is empty" if not any(names.values()) else "no captions file was found in this folder"
        kept = {os.path.splitext(name)[1].lower() for inside in names.values() for name in inside}
        other = next((source for suffix, source in _OTHERS.items() if suffix in kept), None)
        hint = f" {other[0]} files are read by data={other[1]}." if other else ""
        if others:
            what += f" (no pictures with captions are in {printable(', '.join(file.name for file in others[:_SHOWN]))})"
            hint += next(filter(None, map(_other_source, others)), "")
        raise UserError(f"{path}: {what}. Looked for: {looked_for(example)}.{hint}{packed_in(path)}")
    return CaptionFiles(path, lists, texts)


def _lists(path: Path, names: dict[Path, list[str]]) -> tuple[list[Path], list[Path]]:
    """(lists of captions, other lists) of a folder, or else of those in it, or else of those below."""
    inner = [folder for folder in names if folder.parent == path]
    others: list[Path] = []
    for folders in ([path], inner, [folder for folder in names if folder != path and folder not in inner]):
        for suffixes in ((*LINES, *TABLES), (*WHOLE, ".txt")):
            found = [file for folder in folders for file in _of_suffix(folder, names[folder], suffixes)]
            kept = [file for file in found if lists_captions(file)]
            if kept:
                return kept, [file for file in found if file not in kept]
            others += found
    return [], others


def _of_suffix(folder: Path, names: list[str], suffixes: tuple[str, ...]) -> list[Path]:
    """Files that may be lists; beside pictures stand their own texts and the records of a downloader."""
    found = [name for name in names if os.path.splitext(name)[1].lower() in suffixes]
    if found and not {*LINES, *TABLES} & set(suffixes):
        own = {stem for stem, suffix in map(os.path.splitext, names) if picture_suffixes([suffix])}
        found = [name for name in found if os.path.splitext(name)[0] not in own]
    return [folder / name for name in found if (folder / name).is_file()]


def lists_captions(file: Path) -> bool:
    """Whether the first record of a file names a picture and something that may be its captions, or cannot be read although the
    name of the file is that of a list.
    """
    if file.suffix.lower() == ".txt":
        return is_table(file)
    try:
        first = _first(file)
    except UserError:
        return canonical_split(file.stem) is not None or file.stem.lower() in ("captions", "metadata")
    captions = any(key.startswith(f"{field}_") for key in first for field in CAPTION_FIELDS)
    return (captions or bool(fields_said(first, CAPTION_FIELDS))) and names_picture(first)


def _first(file: Path) -> dict:
    return next(iter(records(file, "")), (0, {}))[1]


def _other_source(file: Path) -> str:
    try:
        return other_source(_first(file))
    except UserError:
        return ""


def is_table(path: Path) -> bool:
    """True for a .txt with a header like "image,caption" (so Flickr8k is often handed on)."""
    if path.suffix.lower() != ".txt" or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.readline(1000).decode("utf-8-sig", "replace").strip()
    try:
        header = [name for _, row in table_rows(f"{head}\n{head}", path, frozenset(IMAGE_FIELDS)) for name in row]
    except UserError:
        return False
    return any(plain(name) in IMAGE_FIELDS for name in header) and any(plain(name) in CAPTION_FIELDS for name in header)


def _texts(path: Path, names: dict[Path, list[str]], only: Path | None = None) -> list[tuple[Path, list[Path]]]:
    """Texts that stand beside pictures of the same name; others are named in the log."""
    texts, lone = [], []
    for folder, inside in names.items():
        suffixes: dict[str, list[str]] = {}
        for name in inside:
            stem, suffix = os.path.splitext(name)
            suffixes.setdefault(stem, []).append(suffix)
        for stem, own in suffixes.items():
            suffix = next((suffix for kind in BESIDE for suffix in own if suffix.lower() == kind), None)
            if suffix is None or only not in (None, text := folder / (stem + suffix)):
                continue
            pictures = [folder / (stem + other) for other in picture_suffixes(own)]
            if pictures:
                texts.append((text, pictures))
            else:
                lone.append(str(text.relative_to(path)))
    if texts and lone:
        logging.info(
            "%s: %d texts have no picture of their name beside them in a format that is read: %s.",
            printable(path), len(lone), printable(", ".join(lone[:_SHOWN])),
        )  # fmt: skip
    return texts

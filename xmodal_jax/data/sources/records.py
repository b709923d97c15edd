"""Files of records: tables, JSON objects one a line, and whole JSON files; a UserError names file and line."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from xmodal_jax.data.formats import SUFFIXES
from xmodal_jax.data.sources.splits import canonical_split
from xmodal_jax.data.sources.tables import LINE_ENDS, plain, table_rows
from xmodal_jax.errors import UserError
from xmodal_jax.files import read_regular

IMAGE_FIELDS = (
    "image", "file_name", "filename", "file", "filepath", "image_path", "path", "img", "image_name", "file_path", "image_file",
    "image_filename", "img_path", "img_name",
)  # fmt: skip
CAPTION_FIELDS = (
    "captions", "caption", "text", "texts", "sentences", "sentence", "title", "description", "alt", "comment", "raw", "txt",
)  # fmt: skip
KNOWN = frozenset((*IMAGE_FIELDS, *CAPTION_FIELDS, "question", "answer", "answers", "split"))
TABLES, LINES, WHOLE = (".csv", ".tsv"), (".jsonl", ".ndjson"), (".json",)
_NOTHING = frozenset(("", "nan", "null", "none", "<na>", "n/a"))  # what is written for a cell without a value
_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)  # fmt: skip
_HEADS = {  # of files that are no texts, whatever they are called
    b"PK\x03\x04": "a ZIP archive or a spreadsheet: unpack it, or save it as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "a spreadsheet of an old kind: save it as CSV UTF-8", b"\x1f\x8b": "compressed by gzip: unpack it",
    b"PAR1": "a parquet file: data=parquet reads it", b"%PDF": "a PDF document",
}  # fmt: skip
_PACKED = {
    (".gz", ".tgz", ".zip", ".bz2", ".xz", ".zst", ".7z", ".rar"): "Unpack {} first.",
    (".xlsx", ".xls", ".ods"): "Save {} as CSV UTF-8.",
}
_READ_BY = (  # fields of a record, and the source that reads such files
    (("images", "annotations"), "coco"), (("filename", "sentences"), "coco"), (("questions",), "vqa2"),
    (("imageid", "question"), "gqa"), (("question",), "questions"),
)  # fmt: skip


def records(file: Path, example: str, is_table: bool = False) -> Iterator[tuple[int, dict]]:
    """(line number, fields) of a table with a header (.csv, .tsv, or where it `is_table`), of JSON objects one a line, or of a
    JSON array (whose numbers are those of its entries); a UserError names what is neither, and shows the `example`.

    Names of fields are made plain: lower case, without blanks.
    """
    text = read_text(file)
    if is_table or file.suffix.lower() in TABLES:
        yield from table_rows(text, file, KNOWN)
    elif text.lstrip()[:1] == "[" or file.suffix.lower() in WHOLE and not _are_lines(text):
        yield from _whole(text, file, example)
    else:
        for number, line in enumerate(LINE_ENDS.split(text), 1):
            if line.strip():
                yield number, _json_object(line, f"{file}:{number}", example)


def read_text(file: Path) -> str:
    """The text of a file in UTF-8, UTF-16 or UTF-32; UserError where it cannot be read."""
    try:
        data = read_regular(file)
    except OSError as error:
        raise UserError(f"{file}: this file cannot be read ({error.strerror or error}).") from None
    what = next((told for head, told in _HEADS.items() if data.startswith(head)), None)
    if what:
        raise UserError(f"{file}: this is {what}.")
    with utf8(file):
        return decoded(data)


def decoded(data: bytes, errors: str = "strict") -> str:
    """The text of bytes in UTF-8, or in UTF-16 or UTF-32 by their mark or, of UTF-16, by its zeros."""
    coding = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    if coding is None and b"\0" in data[:2] and 3 * data[:1000].count(0) > len(data[:1000]):
        coding = "utf-16-be" if data[:1] == b"\0" else "utf-16-le"
    return data.decode(coding or "utf-8", errors).lstrip("\ufeff")


def packed_in(folder: Path) -> str:
    """A sentence on an archive or a spreadsheet in a folder, or the file itself, which is not read; "" without."""
    names = [folder.name] if folder.is_file() else sorted(os.listdir(folder)) if folder.is_dir() else []
    for suffixes, advice in _PACKED.items():
        found = next((name for name in names if name.lower().endswith(suffixes)), None)
        if found:
            return f" {advice.format(found)}"
    return ""


def other_source(row: dict) -> str:
    """A sentence on the source that reads records of such fields; "" where none is known."""
    source = next((source for fields, source in _READ_BY if all(field in row for field in fields)), None)
    return f" data={source} reads such files." if source else ""


@contextlib.contextmanager
def utf8(file: Path) -> Iterator[None]:
    """What is read of the file inside raises a UserError where it is not UTF-8."""
    try:
        yield
    except UnicodeError:
        raise UserError(f"{file}: this file is not UTF-8; save it as UTF-8 (a spreadsheet calls it CSV UTF-8).") from None


def is_nothing(value) -> bool:
    """Whether a field holds no value: null, NaN, blank, or a word that is written for one."""
    if isinstance(value, str):
        return value.strip().lower() in _NOTHING
    return value is None or isinstance(value, float) and math.isnan(value)


def _are_lines(text: str) -> bool:
    """Whether every one of the first lines is a JSON object, as in a .jsonl."""
    some = [line for line in text.split("\n", 3)[:3] if line.strip()]
    try:
        return len(some) > 1 and all(isinstance(json.loads(line), dict) for line in some[:2])
    except (ValueError, RecursionError):
        return False


def _whole(text: str, file: Path, example: str) -> Iterator[tuple[int, dict]]:
    """Entries of a JSON array, or of an object that holds them."""
    expected = f"an array of objects such as {example}"
    data = parse_json(text, str(file), expected)
    data = _entries(data) if isinstance(data, dict) else data
    if not isinstance(data, list):
        raise UserError(f"{file}: this is not {expected}.")
    for number, row in enumerate(data, 1):
        if not isinstance(row, dict):
            raise UserError(f"{file}:{number}: this entry is not a JSON object. Expected: {example}")
        yield number, _plain_fields(row)


def _entries(data: dict) -> list:
    """Entries of an object that holds one array, or one a split; of {picture: its captions}, {key: entry}, pandas' columns."""
    values, names = list(data.values()), set(map(plain, data))
    arrays = [value for value in values if isinstance(value, list) and value and isinstance(value[0], dict)]
    if len(arrays) == len(values) > 0 and all(map(canonical_split, data)):
        return [{"split": split, **row} if isinstance(row, dict) else row for split, rows in data.items() for row in rows]
    if len(arrays) == 1:
        return arrays[0]
    if isinstance(data.get("columns"), list) and isinstance(data.get("data"), list):
        return [dict(zip(data["columns"], row, strict=False)) if isinstance(row, list) else row for row in data["data"]]
    if values and all(isinstance(value, dict) for value in values):
        if names & KNOWN:
            keys = dict.fromkeys(key for column in values for key in column)
            return [{name: column.get(key) for name, column in data.items()} for key in keys]
        return [row if names_picture(row) or not is_picture_name(key) else {"image": key, **row} for key, row in data.items()]
    if values and names & set(IMAGE_FIELDS) and all(isinstance(value, list) for value in values):
        if len(values) > 1 and len({len(value) for value in values}) == 1:
            return [dict(zip(data, row, strict=True)) for row in zip(*values, strict=True)]
    elif any(map(is_picture_name, data)) and all(isinstance(value, str) or _is_texts(value) for value in values):
        return [{"image": key, "captions": value} for key, value in data.items()]
    return [data]


def is_picture_name(name: str) -> bool:
    """Whether a text can be the name of a picture's file, by its suffix."""
    return os.path.splitext(name.strip())[1].lower() in SUFFIXES


def names_picture(row: dict) -> bool:
    """Whether a field of a record is one that names a picture."""
    return any(plain(field) in IMAGE_FIELDS for field in row if isinstance(field, str))


def _is_texts(value) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) or text is None for text in value)


def _plain_fields(row: dict) -> dict:
    """The fields with plain names; one that is written plainly goes before its like."""
    made = {plain(name): value for name, value in row.items()}
    return made if len(made) == len(row) else made | {name: value for name, value in row.items() if plain(name) == name}


def parse_json(text: str, at: str, expected: str, hook: Callable | None = None, what: str = "this"):
    """The value of a JSON text; UserError where it is none, or nested deeper than can be read."""
    try:
        return json.loads(text, object_hook=hook)
    except ValueError as error:
        raise UserError(f"{at}: {what} is not JSON ({error}). Expected: {expected}") from None
    except RecursionError:
        raise UserError(f"{at}: {what} is JSON nested too deeply. Expected: {expected}") from None


def _json_object(line: str, at: str, example: str) -> dict:
    row = parse_json(line, at, example, what="this line")
    if not isinstance(row, dict):
        raise UserError(f"{at}: this line is not a JSON object. Expected: {example}")
    return _plain_fields(row)


def load_json(file: Path, kind: type | tuple, expected: str, lists: tuple[str, ...] = (), hook: Callable | None = None):
    """A JSON file of this kind (list, or dict that has these `lists`), each object in it passed through `hook`; else a
    UserError that says what is expected.
    """
    if not file.is_file():
        raise UserError(f"{file}: there is no such file. Expected: {expected}.")
    data = parse_json(read_text(file), str(file), f"{expected}.", hook)
    if not isinstance(data, kind) or any(not isinstance(data.get(name), list) for name in lists):
        raise UserError(f"{file}: this is not {expected}.")
    return data


def each(entries: Iterable[tuple], read: Callable, at: str, expected: str) -> Iterator:
    """read(key, entry) of all (key, entry) of a JSON file; a UserError names the key of an entry of another form."""
    for key, entry in entries:
        try:
            made = read(key, entry)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{at} {key} lacks or has a wrong {error}. Expected: {expected}.") from None
        yield made

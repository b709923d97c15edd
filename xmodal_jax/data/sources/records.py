"""Files of records: tables, JSON objects one a line, and whole JSON files; a UserError names file and line."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from xmodal_jax.errors import UserError

_DELIMITERS = {".csv": ",", ".tsv": "\t"}


def records(file: Path, example: str, delimiter: str | None = None) -> Iterator[tuple[int, dict]]:
    """(line number, fields) of a table with a header (.csv, .tsv, or where a delimiter is given) or of a file of JSON
    objects, one a line; a UserError names a line that is neither, and shows the `example`.
    """
    delimiter = delimiter or _DELIMITERS.get(file.suffix.lower())
    with utf8(file), file.open(encoding="utf-8-sig", newline="") as lines:
        if delimiter:
            yield from _table(lines, file, delimiter)
            return
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, _json_object(line, f"{file}:{number}", example)


@contextlib.contextmanager
def utf8(file: Path) -> Iterator[None]:
    """What is read of the file inside raises a UserError where it is not UTF-8."""
    try:
        yield
    except UnicodeDecodeError:
        raise UserError(f"{file}: this file is not UTF-8; save it as UTF-8.") from None


def _table(lines: Iterable[str], file: Path, delimiter: str) -> Iterator[tuple[int, dict]]:
    reader = csv.DictReader(lines, delimiter=delimiter, skipinitialspace=True)
    try:
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        for row in reader:
            if None in row:
                raise UserError(
                    f"{file}:{reader.line_num}: more fields than the header has; put texts with commas in double quotes."
                )
            yield reader.line_num, {key: value for key, value in row.items() if value is not None}
    except csv.Error as error:
        raise UserError(f"{file}: this is no readable table ({error}).") from None


def _json_object(line: str, at: str, example: str) -> dict:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{at}: this line is not JSON ({error}). Expected: {example}") from None
    if not isinstance(row, dict):
        raise UserError(f"{at}: this line is not a JSON object. Expected: {example}")
    return row


def load_json(file: Path, kind: type, expected: str, lists: tuple[str, ...] = (), hook: Callable | None = None):
    """A JSON file of this kind (list, or dict that has these `lists`), each object in it passed through `hook`; else a
    UserError that says what is expected.
    """
    try:
        with file.open(encoding="utf-8") as text:
            data = json.load(text, object_hook=hook)
    except FileNotFoundError:
        raise UserError(f"{file}: there is no such file. Expected: {expected}.") from None
    except ValueError as error:
        raise UserError(f"{file}: this is not JSON ({error}). Expected: {expected}.") from None
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

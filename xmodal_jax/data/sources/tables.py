"""Tables as spreadsheets, pandas and data sets write them: which separator, whether quoted, what the header says."""

from __future__ import annotations

import csv
import functools
import io
import re
from collections.abc import Iterator
from pathlib import Path

from xmodal_jax.errors import UserError, printable

SEPARATORS = {".csv": ",;\t|", ".tsv": "\t,;|", ".txt": ",;\t|"}
_DECLARED = re.compile(r"sep=(.)(?:\r\n|\n|\r)")  # the first line that Excel writes where it is told to
LINE_ENDS = re.compile(r"\r\n|\n|\r")  # separators of lines that only Unicode knows belong to a text


def table_rows(text: str, file: Path, known: frozenset[str]) -> Iterator[tuple[int, dict]]:
    """(line number, {column: cell}) of a table with a header, its names made `plain`; blank lines are passed over.

    known: names of columns by which the separator is told. A UserError where a row has more cells than the header, or a quote
    is left open.
    """
    declared, first = _DECLARED.match(text), 1
    if declared:
        text, first = text[declared.end() :], 2
    separator = declared[1] if declared else separator_of(text, file, known)
    header = None
    for number, row in _parsed(text, file, separator, first):
        if header is None:
            header = [plain(name) for name in row]
            twice = sorted({name for name in header if name and header.count(name) > 1})
            if twice:
                raise UserError(f"{file}:{number}: the header has {', '.join(twice)} twice: {printable(', '.join(row))[:200]}.")
            continue
        while len(row) > len(header) and not row[-1].strip():  # a separator at the end of a line
            row.pop()
        if len(row) > len(header):
            raise UserError(
                f"{file}:{number}: more fields than the header has ({len(row)}, not {len(header)}: "
                f"{printable(', '.join(header))[:200]}); put texts with {_named(separator)} in double quotes."
            )
        yield number, dict(zip(header, row, strict=False))


@functools.lru_cache(maxsize=4096)
def plain(name: str) -> str:
    """A name of a column as it is looked for: " Image Name" is image_name."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def separator_of(text: str, file: Path, known: frozenset[str]) -> str:
    """What parts the header into most `known` names, the usual one of the file's kind first."""
    head = LINE_ENDS.split(text.lstrip("\r\n"), maxsplit=1)[0]

    def fitness(separator):
        cells = next(csv.reader([head], delimiter=separator, skipinitialspace=True), [])
        return sum(plain(cell) in known for cell in cells), len(cells) > 1

    return max(SEPARATORS.get(file.suffix.lower(), ",;\t|"), key=fitness)


def _named(separator: str) -> str:
    return {",": "commas", ";": "semicolons", "\t": "tabs"}.get(separator, repr(separator))


def _parsed(text: str, file: Path, separator: str, first: int) -> list[tuple[int, list[str]]]:
    """(line number, cells): by the rules of CSV, or line by line where tabs part texts whose quotes are only characters."""
    by_line, widths = [], set()
    if separator == "\t" and '"' in text:
        by_line = [(number, line.split("\t")) for number, line in enumerate(LINE_ENDS.split(text), first) if line.strip()]
        widths = {len(cells) for _, cells in by_line}
    try:
        quoted = _quoted(text, separator, first, may_escape=len(widths) != 1)
    except csv.Error as error:
        if len(widths) == 1:
            return by_line
        raise UserError(
            f"{file}:{first + _lines_read(text, separator)}: this is no readable table ({error}). A text with "
            f"{_named(separator)} is put in double quotes, and a double quote in it is written twice."
        ) from None
    if len(widths) == 1 and len(quoted) != len(by_line) and _name_files(by_line):
        return by_line
    # A quote that is left open takes the next lines in: one of them begins with the name of a file.
    swallowed = re.compile(r"[\n\r]\"?[^\n\r{0}]*\.\w{{2,5}}\"?\s*{0}".format(re.escape(separator)))
    for number, cells in quoted:
        if any(swallowed.search(cell) for cell in cells):
            raise UserError(f"{file}:{number}: a double quote is left open above: lines are taken into the text before them.")
    return quoted


def _name_files(rows: list[tuple[int, list[str]]]) -> bool:
    """Whether one column of a table names a file in every row."""
    return any(all(re.search(r"\.\w{2,5}\s*$", row[at]) for _, row in rows[1:]) for at in range(len(rows[0][1])))


def _quoted(text: str, separator: str, first: int, may_escape: bool) -> list[tuple[int, list[str]]]:
    """By the rules of CSV; else where blanks behind separators belong to no text, else where backslashes escape quotes."""
    usual = {"delimiter": separator, "strict": True}
    others = [{"skipinitialspace": True}] if separator != "\t" else []
    others += [{"escapechar": "\\", "doublequote": False}] if may_escape and '\\"' in text else []
    if separator != "\t" and re.search(re.escape(separator) + " ", LINE_ENDS.split(text.lstrip("\r\n"), maxsplit=1)[0]):
        usual, others = usual | others[0], others[1:]  # as in the header
    failed, rows = None, []
    for more in ({}, *others):
        try:
            read = _rows(text, first, **usual, **more)
        except csv.Error as error:
            failed = failed or error
            continue
        rows = rows or read
        if not read or max(len(row) for _, row in read) <= len(read[0][1]):
            return read
    if not rows:
        raise failed
    return rows


def _rows(text: str, first: int, **dialect) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), **dialect)
    return [(first - 1 + reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]


def _lines_read(text: str, separator: str) -> int:
    """Lines before the record that cannot be read."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=separator != "\t", strict=True)
    last = 0
    try:
        for _ in reader:
            last = reader.line_num
    except csv.Error:
        pass
    return last

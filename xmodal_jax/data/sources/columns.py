"""Tables of columns: parquet as hubs hand it out, and the arrow files of an installed `datasets` cache. Read in place."""

from __future__ import annotations

import collections
import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from absl import logging

from xmodal_jax.data.sources.contained import ContainedPictures, shards, split_of_shard
from xmodal_jax.data.sources.image_text import Row
from xmodal_jax.data.sources.listing import stated_split
from xmodal_jax.data.sources.places import ADVICE, Base, Places
from xmodal_jax.data.sources.records import IMAGE_FIELDS
from xmodal_jax.data.sources.splits import FRACTIONS, SHARE, check_fractions, check_split, check_val_fraction
from xmodal_jax.data.sources.tables import plain
from xmodal_jax.data.sources.texts import caption_fields, fields_said, said, texts_of
from xmodal_jax.errors import UserError, printable
from xmodal_jax.files import read_regular

SUFFIXES = (".parquet", ".arrow")
PICTURES = (*IMAGE_FIELDS, "images", "picture", "photo", "jpg", "png", "webp", "image_bytes", "image_data")
_FORM = "a column of captions (texts, or lists of texts)"
_KEPT = 4  # row groups of pictures in memory


class _Unfit(UserError):
    """A table that lacks a column of pictures or of captions: another one in its folder may have them."""


@dataclass(slots=True)
class ColumnRow(Row):
    """number: of the table; group and position: of the row in it."""

    number: int = 0
    group: int = 0
    position: int = 0


class Parquet(ContainedPictures):
    """path: .parquet (or .arrow) files: a folder, a file, or a pattern. A column holds the pictures, as bytes, as a hub's
    struct of `bytes` and `path`, or as names of files below the folder; another their captions: texts, lists of texts, or of
    objects with a text.

    image_field, caption_field: names of these columns where the usual ones do not find them. Splits are said by a column
    `split`, by the names of files or their folders ("data/train-00000-of-00002.parquet"), else by a hash of file and row in
    `split_fractions`. The rest as in `Captions`. Pictures are read by row groups, of which a few stay in memory.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike,
        split: str = "train",
        lang: str = "en",
        image_field: str | None = None,
        caption_field: str | None = None,
        split_fractions: tuple[float, float, float] = FRACTIONS,
        val_fraction: float = SHARE,
        allow_outside: bool = False,
        **reading,
    ):
        check_split(split)
        fractions, share = check_fractions(split_fractions), check_val_fraction(val_fraction)
        root, files = shards(path, SUFFIXES, allow_outside)
        self._places, self.without = Places(root, allow_outside), 0
        self._forget()
        self._tables, rows, unfit = [], [], []
        for file in files:
            try:
                self._tables.append(_Table(file, image_field))
                rows += self._rows_of(len(self._tables) - 1, self._tables[-1], root, lang, caption_field)
            except _Unfit as error:
                unfit.append(str(error))
        if unfit and not rows:
            raise UserError(unfit[0])
        for told in unfit:
            logging.info("passed over: %s", printable(told))
        if self.without:
            logging.info("%s: %d empty captions (null, NaN, blank) are left out.", printable(path), self.without)
        super().__init__(rows, split, Path(path), root.name, fractions, share, lang=lang, **reading)

    def _rows_of(self, number: int, table: _Table, root: Path, lang: str, caption_field: str | None) -> Iterator[Row]:
        names = {plain(name): name for name in table.names}
        fields = caption_fields(names, lang, caption_field, str(table.file))
        chosen = [names[field] for field in fields_said(names, fields)]
        if not chosen:
            raise _Unfit(
                f"{table.file}: no column of captions ({', '.join(fields)}) is in this table; it has "
                f"{printable(', '.join(table.names))}. Give caption_field."
            )
        by_file, stem = split_of_shard(table.file, root), table.file.relative_to(root).with_suffix("").as_posix()
        row = 0
        for group in range(table.groups):
            with readable(table.file):
                columns = table.read(group, [*chosen, *([names["split"]] if "split" in names else [])])
            for position, cells in enumerate(zip(*(columns[name] for name in chosen), strict=True)):
                at = f"{table.file}: row {row}"
                texts, without = texts_of(said(dict(zip(chosen, cells, strict=True)), chosen), at, _FORM)
                self.without += without
                stated = stated_split({"split": columns[names["split"]][position]}, at) if "split" in names else None
                yield ColumnRow(
                    f"{stem}/{row}", at, stated or by_file, at, texts, number=number, group=group, position=position
                )
                row += 1

    def _bytes(self, row: ColumnRow) -> bytes:
        table = self._tables[row.number]
        with self._lock:
            pictures = self._groups.pop((row.number, row.group), None)
            if pictures is None:
                with readable(table.file):
                    pictures = table.pictures(row.group)
            self._groups[row.number, row.group] = pictures
            while len(self._groups) > _KEPT:
                self._groups.popitem(last=False)
        value = pictures[row.position].as_py()
        if isinstance(value, list):
            if len(value) != 1:
                raise ValueError(f"this row has {len(value)} pictures, not one")
            value = value[0]
        data, name = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, value)
        if isinstance(data, bytes):
            return data
        if not isinstance(name, str):
            raise ValueError("this row has no picture")
        found = self._places.find(name, (Base(table.file.parent), Base(self._places.root)))
        if found.is_outside:
            raise UserError(f"{row.at}: the picture {printable(name)} {found.why}. {ADVICE}")
        if found.file is None:
            raise ValueError(f"the picture {printable(name)[:100]} {found.why or 'is not there'}")
        return read_regular(found.file)

    def _forget(self):
        self._groups, self._lock = collections.OrderedDict(), threading.Lock()

    def __getstate__(self):  # neither locks nor what was read travel to worker processes
        return {name: value for name, value in self.__dict__.items() if name not in ("_groups", "_lock")}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._forget()


class _Table:
    """One file: names of its columns, and reading a row group (a record batch of an .arrow file) of some of them."""

    def __init__(self, file: Path, image_field: str | None):
        self.file = file
        with readable(file):
            schema, self.groups = _opened(file)
        self.names = list(schema.names)
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise UserError(f"{file}: this table has the column {printable(', '.join(twice))} twice.")
        self.image = self._picture_column(schema, image_field)

    def _picture_column(self, schema, wanted: str | None) -> str:
        names = {plain(name): name for name in self.names}
        if wanted is not None:
            candidates = [names[plain(wanted)]] if plain(wanted) in names else []
        else:
            structs = [field.name for field in schema if "bytes" in _fields(field.type)]
            structs.sort(key=lambda name: plain(name) not in PICTURES)  # a sound is such a struct too
            candidates = [*structs, *(names[name] for name in PICTURES if name in names and names[name] not in structs)]
        if not candidates:
            urls = next((name for name in names if "url" in name), None)
            what = f"no column of pictures{f' {printable(wanted)}' if wanted else ''} is in this table"
            raise _Unfit(
                f"{self.file}: {what}; it has {printable(', '.join(self.names))}. "
                f"{'Give image_field.' if wanted or not urls else 'What URLs name is not fetched: download it first.'}"
            )
        return candidates[0]

    def read(self, group: int, columns: list[str]) -> dict[str, list]:
        """{column: its values} of a row group."""
        return self._group(group, columns).to_pydict()

    def pictures(self, group: int):
        """The column of pictures of a row group, not yet as Python's values."""
        return self._group(group, [self.image]).column(self.image)

    def _group(self, group: int, columns: list[str]):
        pyarrow, parquet = library()
        if self.file.suffix.lower() == ".arrow":
            return pyarrow.Table.from_batches([_batches(self.file)[group]]).select(columns)
        with parquet.ParquetFile(self.file, memory_map=True) as opened:
            return opened.read_row_group(group, columns=columns)


def _opened(file: Path):
    """(schema, number of row groups)."""
    _, parquet = library()
    if file.suffix.lower() == ".arrow":
        batches = _batches(file)
        if not batches:
            raise UserError(f"{file}: this table has no row.")
        return batches[0].schema, len(batches)
    with parquet.ParquetFile(file) as opened:
        return opened.schema_arrow, opened.metadata.num_row_groups


def _batches(file: Path) -> list:
    """The record batches of an .arrow file (a stream, as `datasets` writes it, or a file), mapped into memory."""
    pyarrow, _ = library()
    source = pyarrow.memory_map(os.fspath(file))
    try:
        return list(pyarrow.ipc.open_stream(source))
    except pyarrow.ArrowInvalid:
        opened = pyarrow.ipc.open_file(source)
        return [opened.get_batch(number) for number in range(opened.num_record_batches)]


def _fields(kind) -> list[str]:
    """Names of the fields of a struct's type, or of a list of such; [] of others."""
    kind = kind.value_type if "list<" in str(kind).split(" ")[0] else kind
    return [kind.field(i).name for i in range(kind.num_fields)] if str(kind).startswith("struct") else []


def library():
    """(pyarrow, pyarrow.parquet), or how to install them."""
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(f"pyarrow is needed for this source ({error}): pip install 'xmodal_jax[parquet]'.") from None
    return pyarrow, pyarrow.parquet


@contextlib.contextmanager
def readable(file: Path) -> Iterator[None]:
    """What is read of a table inside raises a UserError where it is none."""
    pyarrow, _ = library()
    try:
        yield
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        told = printable(str(error).split("\n")[0][:200])
        raise UserError(f"{file}: this table cannot be read ({told}); it may be truncated.") from None

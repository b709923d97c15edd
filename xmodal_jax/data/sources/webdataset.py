"""Tar shards as webdataset and img2dataset write them: files of one key are one example. Read in place."""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

from absl import logging

from xmodal_jax.data.sources.contained import ContainedPictures, shards, split_of_shard
from xmodal_jax.data.sources.image_text import Row
from xmodal_jax.data.sources.listing import stated_split
from xmodal_jax.data.sources.places import is_picture, picture_suffixes
from xmodal_jax.data.sources.records import decoded, parse_json
from xmodal_jax.data.sources.splits import FRACTIONS, SHARE, check_fractions, check_split, check_val_fraction
from xmodal_jax.data.sources.tables import LINE_ENDS, plain
from xmodal_jax.data.sources.texts import caption_fields, fields_said, said, texts_of
from xmodal_jax.errors import UserError, printable

TEXTS = (".txt", ".caption", ".captions", ".text")
_FORM = "KEY.jpg with KEY.txt (a caption a line) or KEY.json (with caption, captions, text ...)"


_Members = dict[str, tuple[int, int, str]]  # {suffix: (offset, size, name)}, of one key


@dataclass(slots=True)
class TarRow(Row):
    """offset, size: where the picture lies in its shard, in bytes."""

    shard: str = ""
    offset: int = 0
    size: int = 0


class WebDataset(ContainedPictures):
    """path: the .tar shards: a folder, a file, or a pattern ("shards/{00000..00099}.tar"). An example is a picture with the
    .txt or .json of its key.

    Splits are said by the names of shards or their folders ("train-0001.tar"), or by a field `split` of the .json, else by a
    hash of shard and key in `split_fractions`. caption_field: the field of the .json to take. The headers are read once, when
    the source is opened; the rest as in `Captions`.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike,
        split: str = "train",
        lang: str = "en",
        caption_field: str | None = None,
        split_fractions: tuple[float, float, float] = FRACTIONS,
        val_fraction: float = SHARE,
        allow_outside: bool = False,
        **reading,
    ):
        check_split(split)
        fractions, share = check_fractions(split_fractions), check_val_fraction(val_fraction)
        root, files = shards(path, (".tar",), allow_outside)
        self.without = self.lone = self.twice = self.garbled = 0
        rows = [row for file in files for row in self._rows_of(file, root, lang, caption_field)]
        for count, what in (
            (self.without, "empty captions (null, NaN, blank) are left out"),
            (self.lone, "keys without a picture are left out"),
            (self.twice, "files of a name that their shard had before are left out"),
            (self.garbled, "texts are not UTF-8, and what cannot be read of them is U+FFFD"),
        ):
            if count:
                logging.info("%s: %d %s.", printable(path), count, what)
        silent = sum(not row.captions for row in rows)
        expected = f"{len(rows)} keys have a picture, {silent} of these no caption. Expected: {_FORM}."
        super().__init__(rows, split, Path(path), root.name, fractions, share, expected=expected, lang=lang, **reading)

    def _rows_of(self, file: Path, root: Path, lang: str, caption_field: str | None) -> list[Row]:
        rows, by_shard = [], split_of_shard(file, root)
        shard = file.relative_to(root).with_suffix("").as_posix()
        with open(file, "rb") as data:

            def text(place):
                data.seek(place[0])
                told = data.read(place[1])
                try:
                    return decoded(told)
                except UnicodeError:
                    self.garbled += 1
                    return decoded(told, "replace")

            headers, twice = read_headers(file)
            self.twice += twice
            for key, members in headers.items():
                parts = _pictures(members)
                self.lone += not parts
                for more, (offset, size, name), beside in parts:
                    at = f"{file}: {printable(key + more)}"
                    texts, split = self._texts(_plain(beside, lang), text, at, lang, caption_field)
                    row = TarRow(f"{shard}/{key}{more}", f"{file}: {name}", split or by_shard, at, texts)
                    row.shard, row.offset, row.size = str(file), offset, size
                    rows.append(row)
        return rows

    def _texts(self, members: _Members, text, at: str, lang: str, caption_field: str | None) -> tuple[list[str], str | None]:
        """(captions, split) that the members of a key say."""
        told, split = None, None
        if ".json" in members:
            record = parse_json(text(members[".json"]), at, "an object, as in " + _FORM)
            record = record if isinstance(record, dict) else {"captions": record}
            record = {plain(name): value for name, value in record.items()}
            fields = caption_fields(record, lang, caption_field, at)
            told, split = said(record, fields_said(record, fields)), stated_split(record, at)
        own = next((members[suffix] for suffix in TEXTS if suffix in members), None)
        if own is not None and caption_field is None:
            told = [line for line in LINE_ENDS.split(text(own)) if line.strip()]
        texts, without = texts_of(told, at, _FORM)
        self.without += without
        return texts, split

    def _bytes(self, row: TarRow) -> bytes:
        with open(row.shard, "rb") as shard:
            shard.seek(row.offset)
            data = shard.read(row.size)
        if len(data) < row.size:
            raise ValueError("the shard ends within it")
        return data


def _pictures(members: _Members) -> list[tuple[str, tuple[int, int, str], _Members]]:
    """(what tells it from others of the key, its place, the members of its texts) of the pictures of a key: KEY.png, or else
    each KEY.left.png, with KEY.left.txt where there is such a text.
    """
    own = picture_suffixes(members)
    if own:
        return [("", members[own[0]], members)]
    found = []
    for suffix, place in members.items():
        more, last = os.path.splitext(suffix)
        if is_picture(last):
            alike = {name.removeprefix(more): members[name] for name in members if name.startswith(more + ".")}
            found.append((more, place, alike if any(name in alike for name in (*TEXTS, ".json")) else members))
    return found


def _plain(members: _Members, lang: str) -> _Members:
    """The members with the texts of KEY.caption.txt or KEY.en.json called .txt and .json, where there are no such."""
    kinds = (*TEXTS, ".json")
    if any(kind in members for kind in kinds):
        return members
    found = dict(members)
    for name in sorted(members, key=lambda name: not name.startswith(f".{lang}.")):
        if os.path.splitext(name)[1] in kinds:
            found.setdefault(os.path.splitext(name)[1], members[name])
    return found


def read_headers(file: Path) -> tuple[dict[str, _Members], int]:
    """({key: its members} of a shard, number of those whose name came before): a key is a name up to the first point of its
    last part. UserError for what is no tar.
    """
    keys: dict[str, _Members] = {}
    twice = 0
    try:
        with tarfile.open(file, "r:") as shard:
            for member in shard:
                if not member.isreg() or member.issparse():
                    continue
                folder, name = os.path.split(member.name)
                stem, point, suffix = name.partition(".")
                if not stem:
                    continue
                members, own = keys.setdefault(os.path.join(folder, stem), {}), (point + suffix).lower()
                twice += own in members
                members.setdefault(own, (member.offset_data, member.size, printable(member.name)))
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise UserError(
            f"{file}: this is no whole .tar file ({error}); one that is compressed (.tar.gz) is unpacked first."
        ) from None
    return keys, twice

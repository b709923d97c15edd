"""Tar shards as webdataset and img2dataset write them: files of one key are one example. Read in place."""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from absl import logging

from xmodal_jax.data.sources.contained import ContainedPictures, shards, split_of_shard
from xmodal_jax.data.sources.image_text import Row
from xmodal_jax.data.sources.listing import stated_split
from xmodal_jax.data.sources.places import is_picture
from xmodal_jax.data.sources.records import parse_json
from xmodal_jax.data.sources.splits import FRACTIONS, SHARE, check_fractions, check_split, check_val_fraction
from xmodal_jax.data.sources.tables import LINE_ENDS, plain
from xmodal_jax.data.sources.texts import caption_fields, texts_of
from xmodal_jax.errors import UserError, printable

TEXTS = (".txt", ".caption", ".text")
_FORM = "KEY.jpg with KEY.txt (a caption a line) or KEY.json (with caption, captions, text ...)"


@dataclass(slots=True)
class _Sample:
    """Members of one key: {suffix: (offset, size, name)}."""

    members: dict[str, tuple[int, int, str]] = field(default_factory=dict)


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
        self.without = self.lone = 0
        rows = [row for file in files for row in self._rows_of(file, root, lang, caption_field)]
        for count, what in ((self.without, "empty captions (null, NaN, blank)"), (self.lone, "keys without a picture")):
            if count:
                logging.info("%s: %d %s are left out.", printable(path), count, what)
        super().__init__(rows, split, Path(path), root.name, fractions, share, lang=lang, **reading)

    def _rows_of(self, file: Path, root: Path, lang: str, caption_field: str | None) -> list[Row]:
        rows, by_shard = [], split_of_shard(file, root)
        shard = file.relative_to(root).with_suffix("").as_posix()
        with open(file, "rb") as data:

            def text(place):
                data.seek(place[0])
                return data.read(place[1]).decode("utf-8-sig", "replace")

            for key, sample in read_headers(file).items():
                picture = next((place for suffix, place in sample.members.items() if is_picture(suffix)), None)
                if picture is None:
                    self.lone += 1
                    continue
                offset, size, name = picture
                at = f"{file}: {printable(key)}"
                texts, split = self._texts(sample, text, at, lang, caption_field)
                row = TarRow(f"{shard}/{key}", f"{file}: {name}", split or by_shard, at, texts)
                row.shard, row.offset, row.size = str(file), offset, size
                rows.append(row)
        return rows

    def _texts(self, sample: _Sample, text, at: str, lang: str, caption_field: str | None) -> tuple[list[str], str | None]:
        """(captions, split) that the members of a key say."""
        told, split = None, None
        if ".json" in sample.members:
            record = parse_json(text(sample.members[".json"]), at, "an object, as in " + _FORM)
            record = {plain(name): value for name, value in record.items()} if isinstance(record, dict) else {}
            fields = caption_fields(record, lang, caption_field, at)
            told, split = next((record[field] for field in fields if field in record), None), stated_split(record, at)
        own = next((sample.members[suffix] for suffix in TEXTS if suffix in sample.members), None)
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


def read_headers(file: Path) -> dict[str, _Sample]:
    """{key: its members} of a shard: a key is a name up to the first point of its last part. UserError for what is no tar."""
    samples: dict[str, _Sample] = {}
    try:
        with tarfile.open(file, "r:") as shard:
            for member in shard:
                if not member.isreg() or member.issparse():
                    continue
                folder, name = os.path.split(member.name)
                stem, point, suffix = name.partition(".")
                if not stem:
                    continue
                sample = samples.setdefault(os.path.join(folder, stem), _Sample())
                sample.members.setdefault((point + suffix).lower(), (member.offset_data, member.size, printable(member.name)))
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise UserError(
            f"{file}: this is no whole .tar file ({error}); one that is compressed (.tar.gz) is unpacked first."
        ) from None
    return samples

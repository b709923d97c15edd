"""Pictures that lie in larger files, read in place by where they begin."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

from xmodal_jax.data.images import ImageError
from xmodal_jax.data.sources.image_text import ImageTextSource, Row
from xmodal_jax.data.sources.listing import in_splits, none_in
from xmodal_jax.data.sources.places import check_list, given_path, names_below
from xmodal_jax.data.sources.records import packed_in
from xmodal_jax.data.sources.splits import canonical_split, split_of_name
from xmodal_jax.errors import UserError
from xmodal_jax.spelling import spelled

_RANGE = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")


class ContainedPictures(ImageTextSource):
    """The rows of one split; their files are told, and read by a subclass. expected: what is told where no row is left. Other
    arguments as of `ListedPictures`.
    """

    def __init__(
        self, rows: list[Row], split: str, at: Path, name: str, fractions, share: float, expected: str = "", **reading
    ):
        self.split = split
        named = {row.name: row for row in rows}
        counts = in_splits(named, at, fractions, share)
        chosen = [row for row in named.values() if row.split == split]
        if not chosen:
            raise none_in(split, at, counts, "" if any(counts.values()) else expected)
        for row in chosen:
            row.captions = tuple(map(spelled, row.captions))
        super().__init__(chosen, name, **reading)

    def _read(self, row: Row) -> bytes:
        try:
            return self._bytes(row)
        except (OSError, ValueError) as error:
            raise ImageError(f"Image {row.file}: {getattr(error, 'strerror', None) or error}.") from None

    def _bytes(self, row: Row) -> bytes:
        raise NotImplementedError


def shards(path: str | os.PathLike, suffixes: tuple[str, ...], allow_outside: bool = False) -> tuple[Path, list[Path]]:
    """(folder of all, files in order) of a file, a folder (and those below it), or a pattern with *, ?, [0-9], {000..009} or
    {train,val}.
    """
    root, kinds = given_path(path), " or ".join(f"*{suffix}" for suffix in suffixes)
    if root.is_file():
        return root.parent, [root]
    if root.is_dir():
        inside = (folder / name for folder, names in names_below(root).items() for name in names)
        found = sorted(file for file in inside if file.suffix.lower() in suffixes and file.is_file())
        for file in found:
            check_list(file, root, allow_outside)
    else:
        if "://" in str(path) or str(path).startswith("pipe:"):
            raise UserError(f"{path}: shards are read from folders: download them, or mount the bucket, and give the folder.")
        names = [
            name for spelled in _spelled(str(root)) for name in (glob.glob(spelled) if _is_pattern(spelled) else [spelled])
        ]
        gone = [name for name in names if not os.path.isfile(name)]
        if gone:
            raise UserError(f"{path}: {len(gone)} of {len(names)} shards are not there, such as {gone[0]}.")
        found = sorted(Path(name) for name in names)
        root = Path(os.path.commonpath([file.parent for file in found])) if found else root
    if not found:
        raise UserError(
            f"{path}: there is no {kinds} file here. A folder, a file or a pattern of such files is expected.{packed_in(root)}"
        )
    return root, found


def _spelled(pattern: str) -> list[str]:
    """A pattern with its ranges {000..009} and choices {train,val} written out."""
    found = _RANGE.search(pattern)
    if not found:
        return [pattern]
    first, last, choices = found.groups()
    if choices is None:
        some = [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    else:
        some = choices.split(",")
    return [name for one in some for name in _spelled(pattern[: found.start()] + one + pattern[found.end() :])]


def _is_pattern(name: str) -> bool:
    return glob.has_magic(name) and not os.path.lexists(name)


def split_of_shard(file: Path, root: Path) -> str | None:
    """The split that the name of a file says, or that of the nearest folder below the root."""
    folders = reversed(file.parent.relative_to(root).parts)
    return split_of_name(file.stem) or next((split for split in map(canonical_split, folders) if split), None)

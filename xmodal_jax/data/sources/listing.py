"""Lists of pictures, whatever they say of them: which picture a line is about, where it is, its split."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from absl import logging

from xmodal_jax.data.sources.image_text import ImageTextSource, Row, too_many
from xmodal_jax.data.sources.places import ADVICE, Base, Place, Places
from xmodal_jax.data.sources.records import IMAGE_FIELDS, is_nothing
from xmodal_jax.data.sources.splits import SPLITS, canonical_split, parted, words_of_split
from xmodal_jax.errors import UserError, printable
from xmodal_jax.spelling import spelled

_SHOWN = 20  # missing pictures that are named


@dataclass
class Listing:
    """Rows of one list, with files as they are listed. bases: alternatives, each of folders that the names may start from; the
    one that has most of them is taken for all, so that what is missing there is missing.
    """

    rows: list[Row]
    bases: list[tuple[Base, ...]]


class ListedPictures(ImageTextSource):
    """The pictures of one split of lists.

    listings: the rows of all splits. root: the folder below which all files lie, unless `allow_outside`. at: the list, for
    messages. fractions: shares of train, val, test among the pictures of which no list says the split (None: they are of none).
    share: of the training pictures that is val where the lists name no picture of val. Rows of one place are merged; that it
    is in two splits is a UserError. A picture that is missing is skipped and logged, too many of them are a UserError. The rest
    as in `ImageTextSource`.
    """

    def __init__(
        self,
        listings: Iterable[Listing],
        root: Path,
        split: str,
        at: Path,
        name: str,
        fractions: tuple[float, float, float] | None = None,
        share: float = 0.0,
        *,
        allow_outside: bool = False,
        max_bad_fraction: float = 0.05,
        **reading,
    ):
        merged = _merged(listings, Places(root, allow_outside))
        counts = in_splits(merged, at, fractions, share)
        of_split = [row for row in merged.values() if row.split == split]
        rows = [row for row in of_split if row.file is not None]
        missing = [f"{row.at}: the picture {printable(row.name)} {row.extra['why']}." for row in of_split if row.file is None]
        if missing:
            logging.warning(
                "%s: %d listed pictures are missing and skipped. %s",
                printable(at),
                len(missing),
                printable(" ".join(missing[:_SHOWN])),
            )
            too_many(str(at), len(missing), len(of_split), max_bad_fraction, missing)
        if not rows:
            raise none_in(split, at, counts, " ".join(missing[:_SHOWN]))
        rows = self._chosen(rows)
        for row in rows:
            row.captions = tuple(map(spelled, row.captions))
        super().__init__(rows, name, max_bad_fraction=max_bad_fraction, **reading)
        self.missing = len(missing)

    def _chosen(self, rows: list[Row]) -> list[Row]:
        """Those of the split's rows that are taken."""
        return rows


def in_splits(rows: dict[str, Row], at: Path, fractions, share: float) -> Counter:
    """{split: number of its rows}: of {place: row} those without a caption or question are left out, others get a split."""
    silent = [place for place, row in rows.items() if not (row.captions or row.extra.get("questions"))]
    if silent:
        logging.info("%s: %d pictures without a caption are left out.", printable(at), len(silent))
    for place in silent:
        del rows[place]
    _give_splits(rows, fractions, share)
    counts = Counter(row.split for row in rows.values())
    if counts[None]:
        logging.info("%s: %d pictures are in no list of a split and left out.", printable(at), counts[None])
    return counts


def none_in(split: str, at: Path, counts: Counter, why: str = "") -> UserError:
    """The error where a split has no example."""
    there = ", ".join(f"{key} ({counts[key]})" for key in SPLITS if counts[key]) or "no picture at all"
    return UserError(
        f"{at}: no example in split {split!r}; listed there: {there}. "
        f"{why or 'Give pictures this split in the list, or the split a larger share.'}"
    )


def _merged(listings: Iterable[Listing], places: Places) -> dict[str, Row]:
    """{place: its row}, in the order of first mention; a row's file is None where it is missing, with `extra["why"]`."""
    merged: dict[str, Row] = {}
    missing = 0
    for listing in listings:
        bases, known = _best(listing, places), {}
        for row in listing.rows:
            found = known.get(row.file) or known.setdefault(row.file, places.find(row.file, bases))
            if found.is_outside:
                raise UserError(f"{row.at}: the picture {printable(row.name)} {found.why}. {ADVICE}")
            if found.place in merged:
                _join(merged[found.place], row)
                continue
            listed, row.file = row.file, found.file
            if found.file is None:
                missing += 1
                near = places.alike(listed, bases) if missing <= _SHOWN and not found.why else ""
                row.extra["why"] = found.why or "is not there" + (f" ({printable(near)} is)" if near else "")
            if "series_file" in row.extra:
                row.extra["series_file"] = _beside(row, places, bases)
            merged[found.place] = row
    return merged


def _best(listing: Listing, places: Places) -> tuple[Base, ...]:
    """The first of the alternatives that has most of the names."""
    best, most = listing.bases[0], -1
    for bases in listing.bases:
        if len(listing.bases) == 1 or most == len(listing.rows):
            break
        count = sum(places.find(row.file, bases).file is not None for row in listing.rows)
        if count > most:
            best, most = bases, count
    return best


def _join(row: Row, other: Row) -> None:
    """Take what another row says of the same picture into a row."""
    if row.split and other.split and row.split != other.split:
        raise UserError(
            f"{other.at}: the picture {printable(other.name)} is in split {other.split}, and above in {row.split} ({row.at}); "
            "give it one."
        )
    row.split = row.split or other.split
    row.captions.extend(other.captions)
    for key, value in other.extra.items():
        if key == "questions":
            row.extra[key].extend(value)
        else:
            row.extra.setdefault(key, value)


def _beside(row: Row, places: Places, bases: tuple[Base, ...]) -> str:
    """The file of numbers that a row names; where it is missing, that is told when it is read."""
    found: Place = places.find(row.extra["series_file"], bases)
    if found.is_outside:
        raise UserError(f"{row.at}: the series {printable(row.extra['series_file'])} {found.why}. {ADVICE}")
    return found.file or os.path.join(places.real, found.place)


def _give_splits(merged: dict[str, Row], fractions, share: float) -> None:
    """Splits of the pictures of which none is told, by a hash of their places."""
    open_places = [place for place, row in merged.items() if row.split is None]
    if open_places and fractions is not None:
        for place, split in zip(open_places, parted(open_places, fractions), strict=True):
            merged[place].split = split
    elif share and not any(row.split == "val" for row in merged.values()):
        trained = [place for place, row in merged.items() if row.split == "train"]
        for place, split in zip(trained, parted(trained, (1 - share, share, 0)), strict=True):
            merged[place].split = split


def bases_of_list(folders: Iterable[Path], split: str | None) -> list[tuple[Base, ...]]:
    """Alternatives of where the pictures of a list may lie: in one of the folders or in `images` in it; where the list is of
    one split, in folders of its name there.
    """
    places = [(folder, folder / "images", folder / "Images") for folder in folders]
    found = [tuple(map(Base, some)) for some in places]
    words = [word for name in (words_of_split(split) if split else ()) for word in (name, name.capitalize())]
    return found + ([tuple(Base(place / word) for place in some for word in words) for some in places] if words else [])


def picture_name(row: dict) -> str | None:
    """The picture that a line is about; None if it names none."""
    name = next((row[key] for key in IMAGE_FIELDS if row.get(key)), None)
    if isinstance(name, list) and len(name) == 1:
        name = name[0]
    if isinstance(name, dict):  # as hubs write their pictures
        name = name.get("path")
    return name if isinstance(name, str) and name.strip() else None


def stated_split(row: dict, at: str) -> str | None:
    """The split that a line states; None if it states none."""
    if is_nothing(row.get("split")):
        return None
    split = canonical_split(row["split"])
    if split is None:
        raise UserError(f"{at}: split {row['split']!r} is not one of {', '.join(SPLITS)}.")
    return split

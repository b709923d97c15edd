"""Splits: their names in data sets, and a hash that parts what states none."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable

from xmodal_jax.errors import UserError

SPLITS = ("train", "val", "test")
FRACTIONS = (0.9, 0.05, 0.05)
SHARE = 0.05  # of training examples alone that is held out as val
FEW = 10  # from so many on, val has one at least
_NAMES = {
    "train": ("train", "training", "restval", "train2014", "train2017"),
    "val": ("val", "valid", "validation", "dev", "val2014", "val2017"),
    "test": ("test", "testing", "eval"),
}
_SPLIT_NAMES = {name: split for split, names in _NAMES.items() for name in names}


def canonical_split(value: str) -> str | None:
    """ "validation" -> "val"; None if the word names no split."""
    return _SPLIT_NAMES.get(str(value).strip().lower())


def split_of_name(stem: str) -> str | None:
    """The split that the name of a file says, in whole or in its last part that says one: "captions_val2017" -> "val"."""
    parts = (stem, *reversed(re.split(r"[\s_.-]+", stem)))
    return next((split for split in map(canonical_split, parts) if split), None)


def words_of_split(split: str) -> tuple[str, ...]:
    """What a split is called in names of files, without a year."""
    return tuple(word for word in _NAMES[split] if word.isalpha())


def check_split(split: str) -> str:
    if split not in SPLITS:
        raise UserError(f"split={split!r}: must be one of {', '.join(SPLITS)}.")
    return split


def check_fractions(fractions) -> tuple[float, float, float]:
    if len(fractions) != 3 or min(fractions) < 0 or not sum(fractions) > 0:
        raise UserError(f"split_fractions={fractions!r}: three shares (train, val, test), none negative, are expected.")
    return tuple(fractions)


def check_val_fraction(share: float) -> float:
    if not 0 <= share < 1:
        raise UserError(f"val_fraction={share!r}: a share of the training pictures, at least 0 and below 1, is expected.")
    return share


def hashed_split(key: str, fractions: tuple[float, float, float]) -> str:
    """The split of a picture (or family) by a hash of its place: the same on every machine, whatever else is in the
    folder.
    """
    draw = _draw(key) * sum(fractions)
    return "train" if draw < fractions[0] else "val" if draw < fractions[0] + fractions[1] else "test"


def hash_order(rows: list, key: Callable) -> list:
    """Rows in an order that depends on their keys alone."""
    return sorted(rows, key=lambda row: _draw(key(row)))


def parted(keys: Iterable[str], fractions: tuple[float, float, float]) -> list[str]:
    """`hashed_split` of each; where by chance none of `FEW` or more is val, the one of train nearest to it is."""
    keys = list(keys)
    splits = [hashed_split(key, fractions) for key in keys]
    if fractions[1] > 0 and len(keys) >= FEW and "val" not in splits and "train" in splits:
        trained = [number for number, split in enumerate(splits) if split == "train"]
        splits[max(trained, key=lambda number: _draw(keys[number]))] = "val"
    return splits


def _draw(key: str) -> float:
    """A number in [0, 1) by a hash of the key."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64

"""Splits: their names in data sets, and a hash that parts what states none."""

from __future__ import annotations

import hashlib

from xmodal_jax.errors import UserError

SPLITS = ("train", "val", "test")
FRACTIONS = (0.9, 0.05, 0.05)
_NAMES = {
    "train": ("train", "training", "restval", "train2014", "train2017"),
    "val": ("val", "valid", "validation", "dev", "val2014", "val2017"),
    "test": ("test", "testing", "eval"),
}
_SPLIT_NAMES = {name: split for split, names in _NAMES.items() for name in names}


def canonical_split(value: str) -> str | None:
    """ "validation" -> "val"; None if the word names no split."""
    return _SPLIT_NAMES.get(str(value).strip().lower())


def check_split(split: str) -> str:
    if split not in SPLITS:
        raise UserError(f"split={split!r}: must be one of {', '.join(SPLITS)}.")
    return split


def check_fractions(fractions) -> tuple[float, float, float]:
    if len(fractions) != 3 or min(fractions) < 0 or not sum(fractions) > 0:
        raise UserError(f"split_fractions={fractions!r}: three shares (train, val, test), none negative, are expected.")
    return tuple(fractions)


def hashed_split(key: str, fractions: tuple[float, float, float]) -> str:
    """The split of a picture (or family) by a hash of its name: the same on every machine, whatever else is in the
    folder.
    """
    draw = int.from_bytes(hashlib.blake2b(key.encode("utf-8"), digest_size=8).digest(), "big") / 2**64 * sum(fractions)
    return "train" if draw < fractions[0] else "val" if draw < fractions[0] + fractions[1] else "test"

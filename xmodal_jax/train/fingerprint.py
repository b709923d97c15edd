"""What a run learns from, in numbers: of every training example one for its texts and one for its files, in order.

    WORKDIR/fingerprint.npy     uint64 [n, 2]

A source tells them by `record(i)` -> (JSON value of its id and texts, files); one that does not is told by its length alone, as
are examples that follow from the config. Files count by name, size and time of change; behind the examples stand those of
texts and pictures by themselves.
"""

import hashlib
import itertools
import json
import os

import numpy as np
from absl import logging

from xmodal_jax.errors import UserError
from xmodal_jax.files import replacing

FILE = "fingerprint.npy"


def of(source, files=()):
    """uint64 [n, 2] of a source of examples, and of files."""
    record = getattr(source, "record", None)
    records = [([os.path.basename(path)], [path]) for path in files]
    if record is not None:
        records = itertools.chain(map(record, range(len(source))), records)
    numbers = (told for value, read in records for told in (number(value), number([known(path) for path in read])))
    found = np.fromiter(numbers, np.uint64).reshape(-1, 2)
    return found if record is not None else np.concatenate([np.zeros((len(source), 2), np.uint64), found])


def number(value):
    """64 bits of a JSON value."""
    text = json.dumps(value, sort_keys=True, default=str).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def known(path):
    """(name, bytes, nanoseconds) of a file; of one that is not there the name alone."""
    try:
        found = os.stat(path)
    except OSError:
        return [os.path.basename(path)]
    return [os.path.basename(path), found.st_size, found.st_mtime_ns]


def check(source, workdir, strict=False, files=()):
    """Keep a run's fingerprint when it starts; compare it when it goes on: what has changed is a warning, with `strict` a
    UserError. files: those that are read beside the source."""
    path, now = os.path.join(workdir, FILE), of(source, files)
    before = kept(path)
    if before is None:
        with replacing(path, "wb") as file:
            np.save(file, now)
        return
    changes = difference(before, now, lambda i: source.record(i)[0] if i < len(source) else files[i - len(source)])
    if not changes:
        return
    text = f"The training data are not those that the run in {workdir} began with: {'; '.join(changes)}."
    if strict:
        raise UserError(f"{text} Without --strict it goes on with them, and is not the run it would have been.")
    logging.warning("%s It goes on with them, and is not the run it would have been (--strict refuses).", text)


def kept(path):
    """The fingerprint in a file; None where there is none that can be read."""
    try:
        with open(path, "rb") as file:
            found = np.load(file, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        logging.warning("%s cannot be read (%s): whether the data have changed is not known.", path, error)
        return None
    return found if found.ndim == 2 and found.shape[1] == 2 and found.dtype == np.uint64 else None


def difference(before, now, told):
    """What has changed, for people; [] where nothing has. told: i -> the record of an example now."""
    changes = []
    if len(before) != len(now):
        changes.append(f"{len(before)} examples then, {len(now)} now")
    both = min(len(before), len(now))
    texts, files = (before[:both, column] != now[:both, column] for column in (0, 1))
    if texts.any():
        first = int(np.argmax(texts))
        same = len(before) == len(now) and np.array_equal(np.sort(before[:, 0]), np.sort(now[:, 0]))
        what = "the same examples in another order" if same else f"{int(texts.sum())} examples have other ids or texts"
        changes.append(f"{what}, the first is number {first}, now {shortened(told(first))}")
    elif files.any():
        first = int(np.argmax(files))
        changes.append(
            f"the files of {int(files.sum())} examples have another size or time, the first is number {first}, "
            f"{shortened(told(first))}"
        )
    return changes


def shortened(value, most=160):
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= most else f"{text[:most]} ..."

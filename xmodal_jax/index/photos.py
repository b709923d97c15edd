"""Keeping an index in step with a folder of photos: only what was added, changed or removed since is looked at.

A model is anything with `as_example(path)` and `seen(examples)`, as `decoding.predictor.Predictor` has them.
"""

import collections
import concurrent.futures
import dataclasses
import hashlib
import os
import time

import jax
import numpy as np
from absl import logging

from xmodal_jax.data.images import SUFFIXES
from xmodal_jax.errors import UserError
from xmodal_jax.index import nearest
from xmodal_jax.index.store import writing

BATCH = 32  # photos encoded at a time
SHOWN = 10  # broken photos that are named; the others are counted


def fingerprint(params):
    """Of a tree of parameters: equal for equal paths, shapes, types and values alone."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        array = np.ascontiguousarray(leaf)
        found.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}".encode())
        found.update(array.data.cast("B") if array.size else b"")
    return found.hexdigest()


def size(params):
    """Bytes of a tree of parameters."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(params))


def files_of(folder):
    """{path below the folder, with slashes: (size in bytes, time of change in ns)} of the pictures in a folder.

    By their suffix, in subfolders too, not in hidden ones. Links are followed to files within the folder alone. Raises
    UserError where there is no such folder.
    """
    if not os.path.isdir(folder):
        raise UserError(f"--photos={folder}: there is no such folder.")
    root, found, outside = os.path.realpath(folder), {}, 0
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = os.path.join(place, name)
            if os.path.splitext(name)[1].lower() not in SUFFIXES or name.startswith("."):
                continue
            if os.path.islink(path) and not is_within(root, path):
                outside += 1
                continue
            try:
                stat = os.stat(path)
            except OSError:
                continue  # gone since, or a link to nothing
            if os.path.isfile(path):
                found[os.path.relpath(path, root).replace(os.sep, "/")] = stat.st_size, stat.st_mtime_ns
    if outside:
        logging.warning("%s: %d links to files outside of the folder are left out.", folder, outside)
    return found


def is_within(root, path):
    """Whether a file, its links followed, lies in a folder; root: without links."""
    return os.path.commonpath([root, os.path.realpath(path)]) == root


@dataclasses.dataclass(frozen=True)
class Update:
    """What an update did: numbers of photos; seconds it took."""

    added: int
    changed: int
    removed: int
    same: int
    broken: int
    seconds: float

    def __str__(self):
        parts = [f"{value} {name}" for name, value in vars(self).items() if name != "seconds" and (value or name == "same")]
        return f"{', '.join(parts)} in {self.seconds:.1f} s"


def update(folder, photos, model, weights):
    """Bring the index in `folder` in step with the photos -> (Store, Update).

    weights: what identifies the model (`fingerprint`): an index of another one is made anew. Killed at any moment, the index is
    as it was before, and what was encoded is not encoded again. A photo that cannot be read is named and left out.
    """
    start, wanted = time.monotonic(), files_of(photos)
    head = {"weights": weights, "photos": os.fsdecode(os.path.realpath(photos))}
    with writing(folder, head, fields_of(model)) as writer:
        store = writer.store
        known = {} if store is None else {key: store.stamp(row) for key, row in store.rows.items()}
        new = {key: stamp for key, stamp in wanted.items() if known.get(key) != stamp}
        ahead = {key for key in new if key in writer.staged and writer.staged[key][0] == new[key]}
        if ahead:
            logging.info("%d photos were encoded before the last update was stopped.", len(ahead))
        broken = encode(writer, photos, {key: stamp for key, stamp in new.items() if key not in ahead}, model)
        puts = [key for key in new if key not in broken]
        gone = [key for key in known if key not in wanted or key in broken]
        writer.commit(puts, gone)
        nearest.build(writer.store)
    added = sum(key not in known for key in puts)
    removed, same = sum(key not in wanted for key in known), sum(key not in new for key in wanted)
    took = time.monotonic() - start
    return writer.store, Update(added, len(puts) - added, removed, same, len(broken), took)


def fields_of(model):
    """{name: (type, shape)} of what the model keeps of a photo: its vector whole, what else there is in half the bytes."""
    seen = model.seen([np.zeros((8, 8, 3), np.uint8)] * BATCH)  # what it compiles is needed next
    return {name: ("float32" if name == "vector" else "float16", array.shape[1:]) for name, array in seen.items()}


def encode(writer, root, wanted, model):
    """Stage the vectors of photos; returns the keys of those that cannot be read. wanted: {key: stamp}."""
    broken, done, started, told = set(), 0, time.monotonic(), time.monotonic()
    keys, root = list(wanted), os.path.realpath(root)

    def read(key):
        try:
            return model.as_example(os.path.join(root, key))
        except UserError as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        ahead = collections.deque()  # of batches, two being read while one is encoded
        firsts = iter(range(0, len(keys), BATCH))
        while True:
            while len(ahead) < 3 and (first := next(firsts, None)) is not None:
                part = keys[first : first + BATCH]
                ahead.append((part, [threads.submit(read, key) for key in part]))
            if not ahead:
                return broken
            part, waiting = ahead.popleft()
            examples = {}
            for key, result in zip(part, waiting, strict=True):
                example = result.result()
                if isinstance(example, UserError):
                    broken.add(key)
                    if len(broken) <= SHOWN:
                        logging.warning("left out: %s", example)
                else:
                    examples[key] = example
            if examples:
                seen = model.seen(list(examples.values()))
                for number, key in enumerate(examples):
                    writer.stage(key, wanted[key], {name: array[number] for name, array in seen.items()})
                writer.flush()
            done += len(part)
            now = time.monotonic()
            if now - told > 5 or done == len(keys):
                rate, told = done / (now - started), now
                logging.info("%d of %d photos, %.1f a second, %.0f s left", done, len(keys), rate, (len(keys) - done) / rate)

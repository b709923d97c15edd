"""The nearest vectors of a query: by all of them, or where there are many by their codes and then by those vectors themselves.

Codes are of product quantisation (Jegou et al., 2011): 4 bits for each number of a vector, or for each pair of a wide one's,
compared by table look-ups in registers (fast scan; André et al., 2015) of faiss. Rows that died since, and those of the
journal, are seen to here.
"""

import os

import numpy as np
from absl import logging

from xmodal_jax.files import replacing

FILE = "codes.faiss"
WIDE = 128
MANY = 50_000  # rows from which codes are worth it
CLOSER = 100  # candidates whose vectors are compared, for each that is wanted; at least LEAST
LEAST = 1000
PART = 65_536  # rows compared at a time


def build(store):
    """Write the codes of a generation beside it, where it has many rows and has none yet. Needs faiss (extra `search`)."""
    path, base = os.path.join(store.place, FILE), store.base["vector"]
    if len(base) < MANY or base.shape[1] % 2 or os.path.exists(path):
        return
    faiss = imported()
    if faiss is None:
        return
    width = base.shape[1]
    index = faiss.IndexPQFastScan(width, width // (2 if width >= WIDE else 1), 4, faiss.METRIC_INNER_PRODUCT)
    sample = np.sort(np.random.default_rng(0).choice(len(base), min(len(base), PART), replace=False))
    index.train(np.ascontiguousarray(base[sample], np.float32))
    for first in range(0, len(base), PART):
        index.add(np.ascontiguousarray(base[first : first + PART], np.float32))
    with replacing(path, "wb") as file:
        file.write(faiss.serialize_index(index).tobytes())


def imported():
    """The module faiss, or None with a word about what it is for."""
    try:
        import faiss
    except ImportError:
        logging.warning(
            "faiss is not installed (pip install 'xmodal_jax[search]'): every vector is compared, which takes longer."
        )
        return None
    return faiss


class Nearest:
    """Searches a `Store`, whose field `vector` holds unit vectors float32 [n, P]."""

    def __init__(self, store):
        self.store, self.generation, self.codes = store, None, None

    def __call__(self, query, count):
        """query [P] -> (rows int64 [count or fewer], scores float32): those with the largest inner products, best first."""
        store, query = self.store, np.asarray(query, np.float32)
        added = np.flatnonzero(store.alive[store.count :]) + store.count
        found = [self._old(query, count), (added, store.journalled("vector")[added - store.count] @ query)]
        rows, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        order = np.argsort(-scores, kind="stable")[:count]
        return rows[order], scores[order]

    def _old(self, query, count):
        """The nearest of the generation's living rows."""
        store, wanted = self.store, max(LEAST, CLOSER * count)
        codes = self._codes() if 4 * wanted < store.count else None
        if codes is None:
            rows = np.flatnonzero(store.alive[: store.count])
            parts = [store.base["vector"][first : first + PART] @ query for first in range(0, store.count, PART)]
            return rows, np.concatenate([np.zeros(0, np.float32), *parts])[rows]
        while True:
            rows = codes.search(query[None], wanted)[1][0]
            rows = np.sort(rows[rows >= 0])
            rows = rows[store.alive[rows]]
            if len(rows) >= min(count, store.alive[: store.count].sum()) or wanted >= store.count:
                return rows, store.base["vector"][rows] @ query
            wanted = min(4 * wanted, store.count)  # many of the nearest are gone

    def _codes(self):
        """faiss' index of the generation as it is now, or None where it has none."""
        if self.generation != self.store.generation:
            path, self.generation, self.codes = os.path.join(self.store.place, FILE), self.store.generation, None
            if os.path.exists(path) and (faiss := imported()) is not None:
                self.codes = faiss.deserialize_index(np.fromfile(path, np.uint8))
        return self.codes

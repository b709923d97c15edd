"""What an index of many vectors costs: time to build, to change and to answer, what it finds, the memory it takes."""

import concurrent.futures
import multiprocessing
import os
import tempfile
import time

import numpy as np
from absl import logging

from xmodal_jax.index import nearest
from xmodal_jax.index.nearest import Nearest
from xmodal_jax.index.store import Store, write_generation, writing

CLUSTERS = 1000  # vectors lie about so many centres, as those of photos do
CHANGES = 1000  # a third each added, changed, removed behind the build
QUERIES = 500
PART = 65_536  # vectors compared exactly at a time
FOUND = 10


def clustered(rng, count, centres, spread=0.7):
    """Unit vectors about centres [C, P], [count, P]: spread is the length of a deviation over that of a centre."""
    width = centres.shape[1]
    x = centres[rng.integers(len(centres), size=count)] + spread / np.sqrt(width) * rng.standard_normal(
        (count, width), np.float32
    )
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def measure(count, width, seed=0):
    """{figure: value} of `count` vectors float32 [width] in a folder of their own, which is removed again.

    build_s: to write vectors and codes; change_s: of one transaction that adds, changes and removes CHANGES; then, of a process
    that opens the index as it lies on disk, p50_ms, p95_ms: of one query, warm; recall_at_10: of what exact search finds;
    resident_mb: of that process, of which resident_own_mb are no mapped pages of files; disk_mb: of the index.
    """
    rng = np.random.default_rng(seed)
    centres = clustered(rng, CLUSTERS, rng.standard_normal((CLUSTERS, width), np.float32))
    with tempfile.TemporaryDirectory() as folder:
        head, fields = {"weights": "bench"}, {"vector": (np.dtype("float32"), (width,))}
        start = time.perf_counter()
        write_generation(
            folder, head, fields, [f"{i:08}.jpg" for i in range(count)], np.zeros((count, 2)),
            lambda _, first, last: clustered(np.random.default_rng((seed, first)), last - first, centres),
        )  # fmt: skip
        nearest.build(Store(folder))
        built = time.perf_counter() - start
        logging.info("built %d vectors in %.1f s", count, built)
        start = time.perf_counter()
        change(folder, head, fields, clustered(rng, CHANGES - CHANGES // 3, centres))
        changed = time.perf_counter() - start
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other:
            found = other.submit(answers, folder, clustered(rng, QUERIES, centres)).result()
    return {"vectors": count, "width": width, "build_s": built, "change_s": changed, **found}


def change(folder, head, fields, fresh):
    """A transaction: fresh vectors [n, P] for new keys and for old ones, and a third of CHANGES removed."""
    third = CHANGES // 3
    puts = [*(f"new-{i}.jpg" for i in range(len(fresh) - third)), *(f"{i:08}.jpg" for i in range(third))]
    with writing(folder, head, fields) as writer:
        for key, vector in zip(puts, fresh, strict=True):
            writer.stage(key, (0, 1), {"vector": vector})
        writer.commit(puts, [f"{i:08}.jpg" for i in range(third, 2 * third)])


def answers(folder, queries):
    """Times, hits and memory of queries [n, P], one after the other."""
    store = Store(folder)
    search, took, rows = Nearest(store), [], []
    for query in (*queries[:20], *queries):
        start = time.perf_counter()
        rows.append(search(query, FOUND)[0])
        took.append(1e3 * (time.perf_counter() - start))
    memory = resident("VmRSS"), resident("RssAnon")
    hits = [len(set(found.tolist()) & best) for found, best in zip(rows[-len(queries) :], exact(store, queries), strict=True)]
    p50, p95 = np.percentile(took[-len(queries) :], [50, 95])
    disk = sum(os.path.getsize(os.path.join(store.place, name)) for name in os.listdir(store.place))
    return {
        "p50_ms": float(p50), "p95_ms": float(p95), "recall_at_10": sum(hits) / (FOUND * len(queries)),
        "resident_mb": memory[0] / 1e6, "resident_own_mb": memory[1] / 1e6, "disk_mb": disk / 1e6,
    }  # fmt: skip


def exact(store, queries):
    """[the rows that are nearest to each query indeed, a set of FOUND]."""
    places = [range(first, min(first + PART, store.count)) for first in range(0, store.count, PART)]
    parts = [(part, store.base["vector"][part.start : part.stop]) for part in places]
    parts.append((range(store.count, len(store.alive)), store.journalled("vector")))
    best = [[] for _ in queries]
    for part, vectors in parts:
        rows = np.flatnonzero(store.alive[part.start : part.stop])
        scores = vectors[rows] @ queries.T  # [rows, queries]
        for one, column in zip(best, scores.T, strict=True):
            one += [(column[row], part.start + rows[row]) for row in np.argsort(-column)[:FOUND]]
    return [{int(row) for _, row in sorted(one, reverse=True)[:FOUND]} for one in best]


def resident(kind):
    """Bytes of this process' memory: VmRSS, pages of mapped files among them, or RssAnon, without those."""
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(kind))

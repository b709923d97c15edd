"""The benchmark of an index: its exact search is exact, and it tells all figures."""

import numpy as np

from xmodal_jax.index.store import Store, write_generation
from xmodal_jax.measure import vectors


def test_exact_search_sees_changes(rng, tmp_path, monkeypatch):
    monkeypatch.setattr(vectors, "PART", 100)
    made = vectors.clustered(rng, 450, rng.normal(size=(9, 8)).astype(np.float32))
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, rtol=1e-5)
    keys, fields = [f"{i:08}.jpg" for i in range(450)], {"vector": (np.dtype("float32"), (8,))}
    write_generation(tmp_path, {}, fields, keys, np.zeros((450, 2)), lambda _, first, last: made[first:last])
    monkeypatch.setattr(vectors, "CHANGES", 90)
    fresh = vectors.clustered(rng, 60, made[:3])
    vectors.change(tmp_path, {}, fields, fresh)  # 30 new, 30 changed, 30 removed
    wanted = dict(zip(keys, made, strict=True)) | {f"new-{i}.jpg": fresh[i] for i in range(30)}
    wanted |= {f"{i:08}.jpg": fresh[30 + i] for i in range(30)}
    for i in range(30, 60):
        del wanted[f"{i:08}.jpg"]
    store = Store(tmp_path)
    for query, rows in zip(made[:5], vectors.exact(store, made[:5]), strict=True):
        best = sorted(wanted, key=lambda key, query=query: -float(wanted[key] @ query))[: vectors.FOUND]
        assert {store.key(row) for row in rows} == set(best)


def test_all_figures_are_told(monkeypatch):
    monkeypatch.setattr(vectors, "QUERIES", 5)
    found = vectors.measure(3000, 16)
    assert found["recall_at_10"] == 1.0 and found["resident_mb"] >= found["resident_own_mb"] > 1
    assert set(found) >= {"build_s", "p50_ms", "p95_ms", "change_s", "disk_mb"} and min(found.values()) > 0

"""What codes and journal find is what a comparison with every living vector finds."""

import numpy as np
import pytest

from xmodal_jax.index import nearest
from xmodal_jax.index.nearest import Nearest
from xmodal_jax.index.store import Store, write_generation, writing
from xmodal_jax.measure.vectors import clustered

WIDTH = 16
FIELDS = {"vector": (np.dtype("float32"), (WIDTH,))}


@pytest.fixture(params=["all", "codes"])
def index(request, rng, tmp_path, monkeypatch):
    """(folder, {key: vector}) of 4,000 vectors, whose index has codes or not."""
    if request.param == "codes":
        pytest.importorskip("faiss")
    for name, value in {"MANY": 4000 if request.param == "codes" else 10**9, "LEAST": 200, "CLOSER": 20}.items():
        monkeypatch.setattr(nearest, name, value)
    vectors = clustered(rng, 4000, rng.normal(size=(20, WIDTH)).astype(np.float32))
    keys = [f"{i}.jpg" for i in range(4000)]
    write_generation(tmp_path, {}, FIELDS, keys, np.zeros((4000, 2)), lambda _, first, last: vectors[first:last])
    nearest.build(Store(tmp_path))
    assert Nearest(Store(tmp_path))._codes() is None or request.param == "codes"
    return tmp_path, dict(zip(keys, vectors, strict=True))


def nearest_of(content, query, count):
    """[key] by comparison with all."""
    scores = {key: float(vector @ query) for key, vector in content.items()}
    return sorted(scores, key=scores.get, reverse=True)[:count]


def test_recall_with_changes_behind_the_codes(index, rng):
    folder, content = index
    reader = Nearest(Store(folder))
    hits, query = 0, None
    for turn in range(20):
        query = list(content.values())[turn * 7] + 0.1 * rng.normal(size=WIDTH).astype(np.float32)
        gone = nearest_of(content, query, 3 if turn % 2 else 250)  # the nearest themselves, more than are looked at first
        fresh = {f"new{turn}.jpg": query / np.linalg.norm(query), gone.pop(): -query / np.linalg.norm(query)}
        with writing(folder, {}, FIELDS) as writer:
            for key, vector in fresh.items():
                writer.stage(key, (0, 0), {"vector": vector})
            writer.commit(fresh, gone)
        content = {key: vector for key, vector in content.items() if key not in gone} | fresh
        assert reader.store.refresh()
        rows, scores = reader(query, 10)
        found = [reader.store.key(row) for row in rows]
        assert found[0] == f"new{turn}.jpg"
        np.testing.assert_allclose(scores, [content[key] @ query for key in found], rtol=1e-5)
        assert (np.diff(scores) <= 0).all()
        hits += len(set(found) & set(nearest_of(content, query, 10)))
    assert hits >= 190 and (hits == 200 or reader._codes() is not None)


def test_all_of_a_small_index(tmp_path, rng):
    with writing(tmp_path, {}, FIELDS) as writer:
        writer.commit()
        assert len(Nearest(writer.store)(np.ones(WIDTH), 5)[0]) == 0
        for key in "abc":
            writer.stage(key, (0, 0), {"vector": rng.normal(size=WIDTH)})
        writer.commit("abc")
    assert len(Nearest(Store(tmp_path))(np.ones(WIDTH), 5)[0]) == 3

"""Retrieval recall against a loop written out by hand, and the properties that keep it honest."""

import numpy as np
import pytest

from xmodal_jax.metrics.retrieval import recall_at_k


def naive(scores, owners, ks, equal=None):
    images, texts = scores.shape
    keys = [("own", t) if equal is None or equal[t] is None else ("key", equal[t]) for t in range(texts)]

    def hit(i, t):
        return any(owners[s] == i and keys[s] == keys[t] for s in range(texts))

    ranks = {"i2t": [], "t2i": []}
    for i in range(images):
        if i not in list(owners):
            continue
        order = sorted(range(texts), key=lambda t: (-scores[i, t], hit(i, t)))  # wrong ones first among equals
        ranks["i2t"].append(1 + next(n for n, t in enumerate(order) if hit(i, t)))
    for t in range(texts):
        order = sorted(range(images), key=lambda i: (-scores[i, t], hit(i, t)))
        ranks["t2i"].append(1 + next(n for n, i in enumerate(order) if hit(i, t)))
    out = {}
    for name, values in ranks.items():
        for k in ks:
            out[f"{name}_r{k}"] = sum(v <= k for v in values) / len(values)
        out[f"{name}_median_rank"] = float(np.median(values))
    return out


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("keyed", [False, True])
def test_agrees_with_the_naive_loop(seed, keyed):
    rng = np.random.default_rng(seed)
    images, texts = rng.integers(1, 9), rng.integers(1, 25)
    scores = rng.normal(size=(images, texts))
    if seed % 2:
        scores = np.round(scores)  # many ties
    owners = rng.integers(0, images, texts)
    equal = [None if k == 0 else f"s{k}" for k in rng.integers(0, 6, texts)] if keyed else None
    want = naive(scores, owners, (1, 2, 5), equal)
    got = recall_at_k(scores, owners, (1, 2, 5), equal)
    assert got.keys() == want.keys()
    for key in want:
        assert got[key] == pytest.approx(want[key], abs=1e-12), key


def test_by_hand():
    scores = [[0.9, 0.1, 0.5, 0.2], [0.3, 0.8, 0.7, 0.6]]  # texts 0, 1 belong to image 0; texts 2, 3 to image 1
    got = recall_at_k(scores, [0, 0, 1, 1], ks=(1, 2))
    assert got["i2t_r1"] == 0.5 and got["i2t_r2"] == 1.0 and got["i2t_median_rank"] == 1.5
    assert got["t2i_r1"] == 0.75 and got["t2i_r2"] == 1.0 and got["t2i_median_rank"] == 1.0


@pytest.mark.parametrize("value", [0.0, 1.0, -np.inf, np.inf])
def test_a_constant_matrix_earns_nothing(value):
    got = recall_at_k(np.full((20, 100), value), np.repeat(np.arange(20), 5))
    assert all(got[f"{way}_r{k}"] == 0 for way in ("i2t", "t2i") for k in (1, 5, 10))
    assert got["i2t_median_rank"] == 96 and got["t2i_median_rank"] == 20


def test_the_order_of_images_and_texts_does_not_matter():
    rng = np.random.default_rng(0)
    scores, owners = rng.normal(size=(7, 21)), np.repeat(np.arange(7), 3)
    rows, columns = rng.permutation(7), rng.permutation(21)
    moved = np.argsort(rows)[owners][columns]
    assert recall_at_k(scores[rows][:, columns], moved) == recall_at_k(scores, owners)


def test_equal_sentences_count_as_hits():
    scores = np.array([[0.0, 1.0], [1.0, 0.0]])  # each image prefers the other's sentence
    assert recall_at_k(scores, [0, 1], ks=(1,))["i2t_r1"] == 0.0
    got = recall_at_k(scores, [0, 1], ks=(1,), equal=["a dog", "a dog"])
    assert got["i2t_r1"] == got["t2i_r1"] == 1.0
    assert recall_at_k(scores, [0, 1], ks=(1,), equal=[None, None])["i2t_r1"] == 0.0


def test_images_without_a_text_are_distractors_only():
    got = recall_at_k([[1.0], [2.0]], [0], ks=(1,))
    assert got["i2t_r1"] == 1.0 and got["t2i_r1"] == 0.0


@pytest.mark.parametrize(
    "scores, owners, kwargs, message",
    [
        (np.zeros(3), [0, 0, 0], {}, r"\[images, texts\]"),
        (np.zeros((2, 0)), [], {}, "at least one"),
        (np.zeros((2, 3)), [0, 1], {}, "owners has shape"),
        (np.zeros((2, 3)), [0, 1, 2], {}, "owners span"),
        (np.zeros((2, 3)), [0, 1, -1], {}, "owners span"),
        (np.zeros((2, 3)), [0.0, 1.0, 1.0], {}, "integers"),
        (np.full((2, 3), np.nan), [0, 1, 1], {}, "NaN"),
        (np.zeros((2, 3)), [0, 1, 1], {"ks": (0,)}, "cut-offs"),
        (np.zeros((2, 3)), [0, 1, 1], {"equal": ["a"]}, "one key a text"),
    ],
)
def test_errors(scores, owners, kwargs, message):
    with pytest.raises(ValueError, match=message):
        recall_at_k(scores, owners, **kwargs)

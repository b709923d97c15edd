"""CIDEr and CIDEr-D by hand, against the public code, and the matrix of similarities against single scores."""

import math
import time

import numpy as np
import pytest

from xmodal_jax.metrics.cider import CiderD

CORPUS = [["a red dog".split(), "a dog".split()], ["a cat".split()], ["the sea".split()]]


def random_texts(rng, count, longest=9):
    return [[str(word) for word in rng.choice(list("abcdefg"), rng.integers(0, longest))] for _ in range(count)]


def test_by_hand():
    judge = CiderD(CORPUS)
    # "a" is in two of three items, "dog" and "a dog" in one: weights log 3/2, log 3, log 3
    a, dog = math.log(3 / 2), math.log(3)
    assert judge.scores("a dog".split(), ["a dog".split()]) == pytest.approx((5.0, 5.0))  # no 3-grams: two of four orders
    one = (2 * a * a + dog * dog) / math.sqrt(4 * a * a + dog * dog) / math.sqrt(a * a + dog * dog)
    one_clipped = (a * a + dog * dog) / math.sqrt(4 * a * a + dog * dog) / math.sqrt(a * a + dog * dog)
    two = 1 / math.sqrt(2)  # "a a" and "a dog", both of weight log 3
    plain, clipped = judge.scores("a a dog".split(), ["a dog".split()])
    assert plain == pytest.approx(10 / 4 * (one + two))
    assert clipped == pytest.approx(10 / 4 * (one_clipped + two) * math.exp(-1 / 72))
    mean = judge.score("a a dog".split(), ["a dog".split(), "the sea".split()])
    assert mean == pytest.approx(clipped / 2)


def test_one_item_weighs_nothing():
    assert CiderD([[["a"]]]).scores(["a"], [["a"]]) == (0, 0)


def test_similarities_are_single_scores(rng):
    judge = CiderD([random_texts(rng, 3) for _ in range(30)])
    texts = [*random_texts(rng, 12), [], ["unseen", "words"]]
    got = judge.similarities(texts)
    assert got == pytest.approx(np.array([[judge.score(a, [b]) for b in texts] for a in texts]), abs=1e-12)
    assert judge.similarities([]).shape == (0, 0)


def test_the_consensus_is_the_text_that_others_resemble():
    judge = CiderD([*CORPUS, ["two men on a boat".split()], ["a man on a horse".split()]])
    texts = ["a cat on a boat", "a red dog runs", "a red dog on a boat", "the red dog runs on a boat"]
    scores = judge.similarities([text.split() for text in texts])
    np.fill_diagonal(scores, 0)
    assert texts[int(scores.mean(1).argmax())] == "a red dog on a boat"


def test_similarities_are_fast(rng):
    judge = CiderD([random_texts(rng, 5, 20) for _ in range(100)])
    texts = random_texts(rng, 100, 20)
    start = time.process_time()
    judge.similarities(texts)
    assert time.process_time() - start < 3  # a hundredth of that is usual


def test_agrees_with_the_public_code(rng):
    module = pytest.importorskip("pycocoevalcap.cider.cider_scorer")
    candidates, references = random_texts(rng, 40), [random_texts(rng, 3) for _ in range(40)]
    scorer = module.CiderScorer(n=4, sigma=6.0)
    for tokens, group in zip(candidates, references, strict=True):
        scorer += (" ".join(tokens), [" ".join(other) for other in group])
    total, each = scorer.compute_score()
    judge = CiderD(references)
    got = [judge.score(*pair) for pair in zip(candidates, references, strict=True)]
    assert got == pytest.approx(list(each), abs=1e-12) and np.mean(got) == pytest.approx(total)

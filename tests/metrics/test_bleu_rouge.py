"""BLEU and ROUGE by hand, on random texts against other packages, and their properties."""

import math
from itertools import combinations

import pytest

from xmodal_jax.metrics.bleu import bleu_scores, bleu_stats, corpus_bleu, ngrams
from xmodal_jax.metrics.rouge import lcs_length, rouge_f1, rouge_l, rouge_words


def random_corpus(rng, items=12, words=9, empty=True):
    vocabulary = "a the dog cat".split()

    def text():
        return [str(word) for word in rng.choice(vocabulary, rng.integers(0 if empty else 4, words))]

    return [text() for _ in range(items)], [[text() or ["a"] for _ in range(rng.integers(1, 5))] for _ in range(items)]


def test_ngrams():
    assert list(ngrams(["a", "b", "a"])) == [("a",), ("b",), ("a",), ("a", "b"), ("b", "a"), ("a", "b", "a")]
    assert list(ngrams([])) == []


def test_bleu_by_hand():
    stats = bleu_stats("the the the cat".split(), ["the cat is on the mat".split(), "a cat".split()])
    # lengths 6 and 2 are equally far from 4: the shorter one; "the" counts twice at most
    assert stats.tolist() == [4, 2, 4, 3, 2, 1, 3, 1, 0, 0]
    bleu = bleu_scores(stats)
    assert bleu[0] == pytest.approx(3 / 4) and bleu[1] == pytest.approx(math.sqrt(3 / 4 * 1 / 3))
    assert 0 < bleu[3] < bleu[2] < 1e-4
    short = bleu_scores(bleu_stats(["a"], ["a b c".split()]))
    assert short[0] == pytest.approx(math.exp(1 - 3))


def test_bleu_of_the_reference_is_one_and_of_nothing_is_zero():
    text = "a dog runs on the beach".split()
    assert corpus_bleu([text], [[["x"], text]]) == pytest.approx([1] * 4)
    assert max(corpus_bleu([[]], [[text]])) == 0


def test_bleu_is_over_the_corpus_not_a_mean(rng):
    candidates, references = random_corpus(rng)
    parts = [bleu_stats(*pair) for pair in zip(candidates, references, strict=True)]
    assert corpus_bleu(candidates, references) == bleu_scores(sum(parts))


def test_bleu_agrees_with_sacrebleu(rng):
    sacrebleu = pytest.importorskip("sacrebleu")
    candidates, references = random_corpus(rng, items=200, empty=False)
    width = max(map(len, references))
    columns = [[" ".join(group[n]) if n < len(group) else None for group in references] for n in range(width)]
    texts = [" ".join(tokens) for tokens in candidates]
    ours = corpus_bleu(candidates, references)
    for order in range(1, 5):
        scorer = sacrebleu.BLEU(tokenize="none", smooth_method="none", max_ngram_order=order, effective_order=False)
        assert ours[order - 1] == pytest.approx(scorer.corpus_score(texts, columns).score / 100, abs=1e-9)


def test_bleu_and_rouge_agree_with_the_public_code(rng):
    bleu_module, rouge_module = (pytest.importorskip(f"pycocoevalcap.{n}") for n in ("bleu.bleu_scorer", "rouge.rouge"))
    candidates, references = random_corpus(rng, items=40, empty=False)
    scorer = bleu_module.BleuScorer(n=4)
    for tokens, group in zip(candidates, references, strict=True):
        scorer += (" ".join(tokens), [" ".join(other) for other in group])
    total, each = scorer.compute_score(option="closest")
    assert corpus_bleu(candidates, references) == pytest.approx(total, abs=1e-12)
    for item, pair in enumerate(zip(candidates, references, strict=True)):
        assert bleu_scores(bleu_stats(*pair)) == pytest.approx([values[item] for values in each], abs=1e-12)
        want = rouge_module.Rouge().calc_score([" ".join(pair[0])], [" ".join(other) for other in pair[1]])
        assert rouge_l(*pair) == pytest.approx(want, abs=1e-12)


def slow_lcs(a, b):
    for size in range(len(a), 0, -1):
        kept = {tuple(b[i] for i in places) for places in combinations(range(len(b)), size)}
        if any(tuple(a[i] for i in places) in kept for places in combinations(range(len(a)), size)):
            return size
    return 0


def test_lcs_agrees_with_trying_all(rng):
    for _ in range(100):
        a, b = ([str(w) for w in rng.choice(list("abc"), rng.integers(0, 8))] for _ in range(2))
        assert lcs_length(a, b) == lcs_length(b, a) == slow_lcs(a, b)


def test_rouge_l_by_hand():
    # LCS 3 with the first ("a dog on"), 2 with the second: P = 3/4, R = max(3/5, 2/2)
    got = rouge_l("a dog sits on".split(), ["a big dog on mats".split(), "dog on".split()])
    assert got == pytest.approx(2.44 * 0.75 * 1 / (1 + 1.44 * 0.75))
    assert rouge_l(["x"], [["a"], ["b"]]) == rouge_l([], [["a"]]) == rouge_l(["a"], [[]]) == 0


def test_rouge_f1_by_hand():
    rouge1, rouge_long = rouge_f1("dog a sits".split(), ["a dog sits down here".split(), ["cat"]])
    assert rouge1 == pytest.approx(2 * 3 / 8) and rouge_long == pytest.approx(2 * 2 / 8)
    assert rouge_f1([], [[]]) == rouge_f1([], [["a"]]) == (0, 0)
    assert rouge_words("A dog's T-shirt, 3.5 é") == ["a", "dog", "s", "t", "shirt", "3", "5"]


def test_rouge_f1_agrees_with_rouge_score(rng):
    module = pytest.importorskip("rouge_score.rouge_scorer")
    scorer = module.RougeScorer(["rouge1", "rougeL"])
    candidates, references = random_corpus(rng, items=40)
    for tokens, group in zip(candidates, references, strict=True):
        want = scorer.score_multi(["It's " + " ".join(other) for other in group], " ".join(tokens) + " it's.")
        words = [rouge_words("It's " + " ".join(other)) for other in group]
        got = rouge_f1(rouge_words(" ".join(tokens) + " it's."), words)
        assert got == pytest.approx((want["rouge1"].fmeasure, want["rougeL"].fmeasure), abs=1e-12)

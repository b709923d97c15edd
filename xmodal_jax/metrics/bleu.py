"""BLEU-1 to BLEU-4 as the public caption evaluation computes them (Papineni et al. 2002; Chen et al. 2015).

    BLEU-N = min(1, e^(1 - r/c)) (prod_{n<=N} correct_n / guess_n)^(1/N)

c counts the words of the candidates and r those of the references closest in length, both over the whole corpus; an
n-gram is correct at most as often as the reference that has it most often. Every correct_n and c gains 1e-15 and every
guess_n and r 1e-9, so that nothing divides by zero: a corpus without a common 4-gram has a tiny BLEU-4, not 0.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

N = 4
_TINY, _SMALL = 1e-15, 1e-9


def ngrams(tokens: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The n-grams of length 1 to N, as tuples of words."""
    return chain.from_iterable(zip(*(tokens[i:] for i in range(n)), strict=False) for n in range(1, N + 1))


def bleu_stats(candidate: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """[2 + 2 N] counts of one candidate, to be added over a corpus: c, r, guess_1..N, correct_1..N."""
    length = len(candidate)
    closest = min((abs(len(reference) - length), len(reference)) for reference in references)[1]  # a tie: the shorter
    counts = Counter(ngrams(candidate))
    most = dict.fromkeys(counts, 0)
    for reference in references:
        for ngram, count in Counter(ngrams(reference)).items():
            if count > most.get(ngram, count):
                most[ngram] = count
    correct = [0] * N
    for ngram, count in counts.items():
        correct[len(ngram) - 1] += min(count, most[ngram])
    return np.array([length, closest, *(max(0, length - n) for n in range(N)), *correct], dtype=np.int64)


def bleu_scores(stats: np.ndarray) -> list[float]:
    """BLEU-1 to BLEU-N of the (summed) counts of `bleu_stats`."""
    length, closest, *counts = map(int, stats)
    ratio = (length + _TINY) / (closest + _SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    scores, product = [], 1.0
    for n in range(N):
        product *= (counts[N + n] + _TINY) / (counts[n] + _SMALL)
        scores.append(brevity * product ** (1 / (n + 1)))
    return scores


def corpus_bleu(candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> list[float]:
    """BLEU-1 to BLEU-N of tokenised candidates, each with its own list of tokenised references."""
    return bleu_scores(sum(bleu_stats(*pair) for pair in zip(candidates, references, strict=True)))

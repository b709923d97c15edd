"""CIDEr and CIDEr-D (Vedantam, Zitnick, Parikh 2015, arXiv:1411.5726).

With g^n(s) the vector of count_w(s) log(I / max(1, df_w)) over the n-grams w of a sentence s, where I counts the items
of the reference corpus and df_w those of them with w in some reference,

    CIDEr(c, r)   = 10/4 sum_{n=1..4} <g^n(c), g^n(r)> / (|g^n(c)| |g^n(r)|)
    CIDEr-D(c, r) = 10/4 e^(-(l(c) - l(r))^2 / (2 sigma^2)) sum_n <min(g^n(c), g^n(r)), g^n(r)> / (|g^n(c)| |g^n(r)|)

with sigma = 6, averaged over the references. l counts bigrams, as the public code does. Words are not stemmed, as there.
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from xmodal_jax.metrics.bleu import N, ngrams

_SIGMA = 6.0

Tokens = Sequence[str]
Vector = tuple[list[dict], list[float], int]  # per n: weights of its n-grams and their norm; then the bigrams' count


class CiderD:
    """CIDEr-D (and CIDEr) with the document frequencies of a corpus: for every item, its tokenised references.

    With a corpus of one item every weight is log 1 = 0, and so is every score.
    """

    def __init__(self, reference_corpus: Sequence[Sequence[Tokens]]):
        frequency: Counter = Counter()
        for references in reference_corpus:
            frequency.update({ngram for reference in references for ngram in ngrams(reference)})
        self._unseen = math.log(max(1, len(reference_corpus)))
        self._weight = {ngram: self._unseen - math.log(count) for ngram, count in frequency.items()}

    def score(self, candidate: Tokens, references: Sequence[Tokens]) -> float:
        """CIDEr-D of one candidate."""
        return self.scores(candidate, references)[1]

    def scores(self, candidate: Tokens, references: Sequence[Tokens]) -> tuple[float, float]:
        """(CIDEr, CIDEr-D) of one candidate, means over its references."""
        vector = self._vector(candidate)
        pairs = [_match(vector, self._vector(reference)) for reference in references]
        return tuple(sum(values) / len(pairs) for values in zip(*pairs, strict=True))

    def similarities(self, token_lists: Sequence[Tokens]) -> np.ndarray:
        """[n, n]: entry i, j is CIDEr-D of text i with text j as its only reference.

        For a consensus choice (minimum Bayes risk), take the text with the largest mean over the others.
        """
        vectors = [self._vector(tokens) for tokens in token_lists]
        lengths = np.array([length for _, _, length in vectors], dtype=np.float64)
        total = np.zeros((len(vectors), len(vectors)))
        for n in range(N):
            column: dict = {}
            for weights, _, _ in vectors:
                for ngram in weights[n]:
                    column.setdefault(ngram, len(column))
            dense = np.zeros((len(vectors), len(column)))  # [n, n-grams]
            for row, (weights, _, _) in zip(dense, vectors, strict=True):
                for ngram, weight in weights[n].items():
                    row[column[ngram]] = weight
            norms = np.array([norm[n] for _, norm, _ in vectors])
            norms[norms == 0] = np.inf
            for i, row in enumerate(dense):
                total[i] += (np.minimum(row, dense) * dense).sum(axis=1) / (norms[i] * norms)
        return 10 / N * total * np.exp(-np.square(lengths[:, None] - lengths) / (2 * _SIGMA**2))

    def _vector(self, tokens: Tokens) -> Vector:
        weights: list[dict] = [{} for _ in range(N)]
        squares = [0.0] * N
        for ngram, count in Counter(ngrams(tokens)).items():
            weight = count * self._weight.get(ngram, self._unseen)
            weights[len(ngram) - 1][ngram] = weight
            squares[len(ngram) - 1] += weight * weight
        return weights, [math.sqrt(square) for square in squares], max(0, len(tokens) - 1)


def _match(candidate: Vector, reference: Vector) -> tuple[float, float]:
    """(CIDEr, CIDEr-D) of one candidate against one reference."""
    plain = clipped = 0.0
    for mine, theirs, norm, other_norm in zip(candidate[0], reference[0], candidate[1], reference[1], strict=True):
        if norm and other_norm:
            shared = [(weight, theirs[ngram]) for ngram, weight in mine.items() if ngram in theirs]
            plain += sum(a * b for a, b in shared) / (norm * other_norm)
            clipped += sum(min(a, b) * b for a, b in shared) / (norm * other_norm)
    penalty = math.exp(-((candidate[2] - reference[2]) ** 2) / (2 * _SIGMA**2))
    return 10 / N * plain, 10 / N * clipped * penalty

"""ROUGE (Lin 2004): the caption evaluation's ROUGE-L and the F1 forms of Google's rouge-score package.

LCS is the length of the longest common subsequence of words, P = LCS / candidate words, R = LCS / reference words.
"""

import re
from collections import Counter
from collections.abc import Sequence

_WORD = re.compile(r"[a-z0-9]+")


def lcs_length(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, one row of the table as the bits of an integer (Hyyrö 2004)."""
    where: dict[str, int] = {}
    for i, word in enumerate(a):
        where[word] = where.get(word, 0) | 1 << i
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        hits = row & where.get(word, 0)
        row = (row + hits | row - hits) & full
    return len(a) - row.bit_count()


def rouge_l(candidate: Sequence[str], references: Sequence[Sequence[str]], beta: float = 1.2) -> float:
    """ROUGE-L of one tokenised candidate as the public caption evaluation has it; a corpus' is the mean.

    (1 + beta^2) P R / (R + beta^2 P) of the largest P and the largest R over the references.
    """
    if not candidate:
        return 0.0
    common = [lcs_length(candidate, reference) for reference in references]
    precision = max(common) / len(candidate)
    recall = max((lcs / len(reference) for lcs, reference in zip(common, references, strict=True) if reference), default=0)
    if precision == 0 or recall == 0:
        return 0.0
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)


def rouge_words(text: str) -> list[str]:
    """The words that rouge-score sees: lower case, runs of a-z and 0-9."""
    return _WORD.findall(text.lower())


def rouge_f1(candidate: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, float]:
    """(ROUGE-1, ROUGE-L) F1 = 2 P R / (P + R) of words from `rouge_words`, each the maximum over the references."""
    counts = Counter(candidate)
    rouge1 = rouge_long = 0.0
    for reference in references:
        words = len(candidate) + len(reference)
        if words:
            rouge1 = max(rouge1, 2 * (counts & Counter(reference)).total() / words)
            rouge_long = max(rouge_long, 2 * lcs_length(candidate, reference) / words)
    return rouge1, rouge_long

"""Image-text retrieval: recall at k and median rank, several texts per image.

Letters: I images, T texts.
"""

from collections.abc import Hashable, Sequence

import numpy as np


def recall_at_k(
    scores: np.ndarray,
    owners: Sequence[int] | np.ndarray,
    ks: Sequence[int] = (1, 5, 10),
    equal: Sequence[Hashable | None] | None = None,
) -> dict[str, float]:
    """Recall at k in both directions.

    Image to text: the rank of the best of an image's own texts among all texts. Text to image: the rank of the text's
    image among all images. Ties are broken against the model: every wrong candidate with the same score as the right
    one stands before it, so that a constant score matrix earns nothing.

    Args:
      scores: [I, T], larger is more alike; infinite values are allowed, NaN is not.
      owners: [T] integers, the image that each text belongs to.
      ks: cut-offs, each at least 1.
      equal: [T] one key a text. Texts with the same key (the same sentence twice, or the same group of pictures) are
        interchangeable: each is a hit for every image that owns one of them, and the reverse. None equals nothing.

    Returns:
      `i2t_r{k}` and `t2i_r{k}` as fractions in 0..1, `i2t_median_rank` and `t2i_median_rank` (best is 1). Images
      that own no text are distractors: candidates for the texts, but not queries.

    Raises:
      ValueError: wrong shapes, NaN scores, owners out of range, a cut-off below 1.
    """
    scores, owners, ks = _checked(scores, owners, ks)
    right = _right_answers(scores.shape, owners, equal)  # [I, T]
    i2t = pessimistic_ranks(scores, right)[np.unique(owners)]  # [images with a text]
    t2i = pessimistic_ranks(scores.T, right.T)  # [T]
    out = {}
    for name, ranks in (("i2t", i2t), ("t2i", t2i)):
        for k in ks:
            out[f"{name}_r{k}"] = float(np.mean(ranks <= k, dtype=np.float64))
        out[f"{name}_median_rank"] = float(np.median(ranks))
    return out


def pessimistic_ranks(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Rank (from 1) of the best right candidate of every query.

    Args:
      scores: [queries, candidates].
      right: bool [queries, candidates].

    Returns:
      int [queries]: 1 + the number of wrong candidates that score at least as much as the best right one. A query
      without a right candidate stands behind all of them.
    """
    best = np.where(right, scores, -np.inf).max(axis=1)  # [queries]
    return 1 + np.count_nonzero(~right & (scores >= best[:, None]), axis=1)


def _right_answers(shape, owners, equal) -> np.ndarray:
    """bool [I, T]: which text is an answer for which image."""
    right = np.zeros(shape, bool)
    right[owners, np.arange(shape[1])] = True
    if equal is None:
        return right
    if len(equal) != shape[1]:
        raise ValueError(f"equal has {len(equal)} keys for {shape[1]} texts; it needs one key a text.")
    members: dict[Hashable, list[int]] = {}
    for text, key in enumerate(equal):
        if key is not None:
            members.setdefault(key, []).append(text)
    for texts in members.values():
        right[np.ix_(np.unique(owners[texts]), texts)] = True
    return right


def _checked(scores, owners, ks):
    scores = np.asarray(scores, dtype=np.float64)
    owners = np.asarray(owners)
    if scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(f"scores must be [images, texts] with at least one of each, not of shape {scores.shape}.")
    if owners.shape != (scores.shape[1],):
        raise ValueError(f"owners has shape {owners.shape}; scores {scores.shape} need ({scores.shape[1]},).")
    if not np.issubdtype(owners.dtype, np.integer):
        raise ValueError(f"owners must be integers (indices of images), not {owners.dtype}.")
    if owners.min() < 0 or owners.max() >= scores.shape[0]:
        raise ValueError(f"owners span {owners.min()}..{owners.max()}, but the images are 0..{scores.shape[0] - 1}.")
    if np.isnan(scores).any():
        raise ValueError(f"{np.count_nonzero(np.isnan(scores))} of {scores.size} scores are NaN.")
    ks = tuple(ks)
    if any(k < 1 or k != int(k) for k in ks):
        raise ValueError(f"cut-offs must be whole numbers from 1, not {ks}.")
    return scores, owners, tuple(int(k) for k in ks)

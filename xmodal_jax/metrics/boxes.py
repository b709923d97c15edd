"""Boxes: how much two of them overlap, on numpy."""

import numpy as np


def overlap(a, b):
    """Intersection over union of boxes [..., 4], x0, y0, x1, y1; 0 for boxes without area. float64 [...]."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.clip(sides, 0, None).prod(-1)
    union = sum(np.clip(box[..., 2:] - box[..., :2], 0, None).prod(-1) for box in (a, b)) - shared
    return shared / np.maximum(union, 1e-12)


def best_threshold(present, absent):
    """The score from which a phrase counts as found, so that the mean of the shares of `present` found and of `absent` not
    found is largest; of equally good ones the middle."""
    present, absent = np.sort(present), np.sort(absent)
    edges = np.unique(np.concatenate([present, absent, [-np.inf, np.inf]]))
    found = 1 - np.searchsorted(present, edges, "left") / max(len(present), 1)
    passed = np.searchsorted(absent, edges, "left") / max(len(absent), 1)
    good = np.flatnonzero(np.isclose(found + passed, (found + passed).max()))
    best = good[len(good) // 2]
    below, here = edges[max(best - 1, 0)], edges[best]
    return float((below + here) / 2) if np.isfinite(below) and np.isfinite(here) else float(here)

"""Regions of a picture: the boxes of its objects where the source knows them, else of a uniform grid; which are masked."""

import math

import numpy as np

from xmodal_jax.metrics.boxes import overlap


def regions_of(example, count):
    """(boxes [n, 4] in 0..1, names of what they hold, None for a cell of a grid), n at most `count`; of objects the first.

    Grid: the most rows and columns, as many of each, that `count` allows.
    """
    if objects := example.get("objects"):
        return np.array([thing["box"] for thing in objects[:count]], np.float32), [thing["name"] for thing in objects[:count]]
    side = math.isqrt(count)
    y, x = (part.ravel() for part in np.mgrid[:side, :side])
    return np.stack([x, y, x + 1, y + 1], -1).astype(np.float32) / side, [None] * len(x)


def hidden_regions(boxes, there, share, most, rng):
    """Which of the boxes [R, 4] that are there are masked, bool [R]: a share of them, at least one, and what overlaps with one
    of these by an IoU above `most`."""
    chosen = there & (rng.random(len(boxes)) < share)
    if there.any() and not chosen.any():
        chosen[rng.choice(np.flatnonzero(there))] = True
    near = overlap(boxes[:, None], boxes[None]) > most  # [R, R]
    return there & (chosen | (near & chosen).any(-1))

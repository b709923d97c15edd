"""Regions of a picture: the boxes of its objects where the source knows them, and of a uniform grid; which are masked."""

import math

import numpy as np

from xmodal_jax.metrics.boxes import overlap


def regions_of(example, count):
    """(boxes [n, 4] in 0..1, names of what they hold, their attributes, None for a cell), n at most `count`: those of the
    objects, the first of them where they are more, and behind them the cells of a grid of as many rows and columns as `count`
    allows."""
    objects = (example.get("objects") or ())[:count]
    side = math.isqrt(count - len(objects))
    y, x = (part.ravel() for part in np.mgrid[:side, :side])
    cells = np.stack([x, y, x + 1, y + 1], -1).astype(np.float32) / max(side, 1)
    boxes = np.array([thing["box"] for thing in objects], np.float32).reshape(-1, 4)
    told = ([thing.get(part) for thing in objects] + [None] * len(cells) for part in ("name", "attribute"))
    return np.concatenate([boxes, cells]), *told


def hidden_regions(boxes, there, share, most, rng):
    """Which of the boxes [R, 4] that are there are masked, bool [R]: a share of them, at least one, and what overlaps with one
    of these by an IoU above `most`; none for a share of 0."""
    if not share:
        return np.zeros(len(boxes), bool)
    chosen = there & (rng.random(len(boxes)) < share)
    if there.any() and not chosen.any():
        chosen[rng.choice(np.flatnonzero(there))] = True
    near = overlap(boxes[:, None], boxes[None]) > most  # [R, R]
    return there & (chosen | (near & chosen).any(-1))

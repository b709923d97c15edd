"""Features of boxes from a grid (RoIAlign; He et al., 2017, "Mask R-CNN"): bilinear samples in every bin, averaged.

As two matrices of tent weights and one product instead of gathers. Letters: B pictures, h and w rows and columns of the grid,
C channels, R boxes, P bins of a side.
"""

import jax.numpy as jnp

SAMPLES = 2  # of a bin, each way


def roi_align(grid, boxes, bins=1):
    """grid [B, h, w, C], boxes [B, R, 4] x0, y0, x1, y1 in 0..1 -> [B, R, bins, bins, C] ("aligned": half a cell less)."""
    _, h, w, _ = grid.shape
    rows = tents(boxes[..., 1], boxes[..., 3], h, bins)  # [B, R, P, h]
    columns = tents(boxes[..., 0], boxes[..., 2], w, bins)  # [B, R, P, w]
    return jnp.einsum("brpy,byxc,brqx->brpqc", rows, grid, columns, optimize="optimal")


def tents(low, high, cells, bins):
    """Weights of a grid's cells for the bins of sides low .. high [B, R] in 0..1: [B, R, bins, cells], each bin's sum to 1."""
    step = jnp.arange(bins * SAMPLES) + 0.5
    place = low[..., None] + (high - low)[..., None] * step / (bins * SAMPLES)  # [B, R, P S] in 0..1
    place = jnp.clip(place * cells - 0.5, 0, cells - 1)
    weights = jnp.maximum(1 - jnp.abs(place[..., None] - jnp.arange(cells)), 0)  # [B, R, P S, cells]
    return weights.reshape(*low.shape, bins, SAMPLES, cells).mean(-2)

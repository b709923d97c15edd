"""Image position tables for another image size, as transformers' `interpolate_pos_encoding` makes them."""

import math

import numpy as np

CUBIC = -0.75  # PyTorch's coefficient; JAX's resize takes -0.5


def cubic_matrix(old, new):
    """Bicubic interpolation along one axis, corners not aligned, edge repeated: float64 [new, old] (Keys, 1981)."""
    out = np.zeros((new, old))
    for row in range(new):
        place = (row + 0.5) * old / new - 0.5
        first = math.floor(place)
        for tap in range(first - 1, first + 3):
            t = abs(place - tap)
            if t <= 1:
                weight = (CUBIC + 2) * t**3 - (CUBIC + 3) * t**2 + 1
            else:
                weight = CUBIC * (t**3 - 5 * t**2 + 8 * t - 4)
            out[row, min(max(tap, 0), old - 1)] += weight
    return out


def resize_positions(table, grid):
    """Positions [1, c + g g, D] of a square grid, c (0 or 1) of a class token -> [1, c + h w, D] for grid (h, w)."""
    side = math.isqrt(table.shape[1])
    first, old = np.split(table, [table.shape[1] - side * side], axis=1)
    if grid == (side, side):
        return table
    rows, columns = (cubic_matrix(side, new) for new in grid)
    new = np.einsum("yh,xw,hwd->yxd", rows, columns, old.reshape(side, side, -1).astype(np.float64))
    return np.concatenate([first, new.reshape(1, grid[0] * grid[1], -1).astype(table.dtype)], axis=1)

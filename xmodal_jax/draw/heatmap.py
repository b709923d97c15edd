"""Attention and association over an image: the answer to "which part of the picture did this word look at?".

Letters: H, W pixels; h, w cells of the token grid; N = h * w tokens; K slots.
"""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib import colormaps
from PIL import Image

from xmodal_jax.draw.figures import fonts, new_figure, to_pixels

# The part of the map that is neither black nor white stays readable over dark and light pictures alike.
_HEAT = colormaps["inferno"]
_HEAT_FROM, _HEAT_TO = 0.3, 0.95
_OPACITY = 0.8


def grid_of(weights: np.ndarray, grid: tuple[int, int] | None = None) -> np.ndarray:
    """Weights [h, w] or [N] -> float64 [h, w]. NaN, infinite and negative weights count as 0.

    Raises:
      ValueError: the shape is neither, or N is not a square and no grid was given.
    """
    weights = np.asarray(weights, dtype=np.float64)
    if weights.ndim not in (1, 2) or not weights.size:
        raise ValueError(f"weights must be [h, w] or [N], not {weights.shape}.")
    if weights.ndim == 1:
        side = round(weights.size**0.5)
        grid = grid or (side, side)
        if grid[0] * grid[1] != weights.size:
            raise ValueError(f"{weights.size} weights do not fill a grid of {grid[0]} x {grid[1]}; give grid=(h, w).")
        weights = weights.reshape(grid)
    return np.clip(np.nan_to_num(weights, nan=0.0, posinf=0.0, neginf=0.0), 0.0, None)


def heat(weights: np.ndarray, grid: tuple[int, int] | None = None) -> np.ndarray:
    """How far each cell lies above its even share: float64 [h, w] in 0..1.

    A weight is compared with 1 / N, never stretched between the smallest and the largest: an even map has no heat
    anywhere, and the noise of a nearly even one stays faint. Full heat needs twice the even share at least.
    """
    weights = grid_of(weights, grid)
    total = weights.sum()
    if total <= 0:
        return np.zeros_like(weights)
    excess = np.clip(weights / total * weights.size - 1.0, 0.0, None)
    excess[excess < 1e-6] = 0.0
    return excess / max(excess.max(), 1.0)


def to_peak(weights: np.ndarray, grid: tuple[int, int] | None = None) -> np.ndarray:
    """Weights divided by the largest: float64 [h, w] in 0..1, for maps that are 0 where nothing is, such as Grad-CAM's."""
    weights = grid_of(weights, grid)
    return weights / (weights.max() or 1.0)


def overlay(
    image: np.ndarray,
    weights: np.ndarray,
    upscale_to: int = 256,
    *,
    grid: tuple[int, int] | None = None,
    level: Callable = heat,
) -> np.ndarray:
    """The picture, its colour muted, with heat laid over it.

    Args:
      image: uint8 [H, W, 3].
      weights: [h, w], or [N] row by row (square unless `grid` says otherwise), over the whole picture.
      upscale_to: length of the result's longer side, in pixels.
      grid: (h, w) of flat weights.
      level: (weights, grid) -> how hot each cell is, [h, w] in 0..1: `heat` or `to_peak`.

    Returns:
      uint8 [H', W', 3] with the picture's proportions.
    """
    base = muted(resized(image, upscale_to))
    hot = _upsampled(level(weights, grid), base.shape[:2])[..., None]  # [H', W', 1]
    colour = _HEAT(_HEAT_FROM + (_HEAT_TO - _HEAT_FROM) * hot[..., 0])[..., :3] * 255.0
    alpha = _OPACITY * hot**0.7
    return _to_uint8(base * (1 - alpha) + colour * alpha)


def association_strip(
    image: np.ndarray,
    text: str,
    rows: Sequence[tuple[str, np.ndarray]],
    *,
    grid: tuple[int, int] | None = None,
    columns: int = 6,
) -> np.ndarray:
    """One picture: the image, then one heat map a token, under the whole text. uint8 [H', W', 3].

    Args:
      rows: (label of the token, weights [h, w] or [N]).
    """
    tiles = [("", resized(image, 192))] + [(label, overlay(image, w, 192, grid=grid)) for label, w in rows]
    return _small_multiples(tiles, columns, title=text)


def relation_map(
    relation: np.ndarray,
    image: np.ndarray,
    *,
    kind: str | None = None,
    grid: tuple[int, int] | None = None,
    limit: int = 15,
) -> np.ndarray:
    """A picture of how the tokens of an image were related or reduced. uint8 [H', W', 3].

    Args:
      relation: "assignment" [K, N], rows sum to 1: the territory of the slots (each cell in the colour of its
        strongest slot) and then each slot over the image; or "relation" [N, N], rows sum to 1: the matrix, and what
        the tokens look at together (the mean of its rows) over the image if the tokens fill a grid.
      kind: "assignment" or "relation"; a square matrix is a relation unless told.
      limit: the number of slots drawn; the strongest in the order of the slots.
    """
    relation = np.asarray(relation, dtype=np.float64)
    if relation.ndim != 2 or not relation.size:
        raise ValueError(f"a relation is [N, N] or [K, N], not {relation.shape}.")
    kind = kind or ("relation" if relation.shape[0] == relation.shape[1] else "assignment")
    if kind == "relation":
        return _small_multiples(_relation_tiles(relation, image, grid), 2)
    if kind == "assignment":
        tiles = [("territories", territories(relation, image, grid=grid))]
        for k, row in enumerate(relation[:limit]):
            tiles.append((f"slot {k + 1}", overlay(image, row, 192, grid=grid)))
        return _small_multiples(tiles, 4)
    raise ValueError(f'kind must be "assignment" or "relation", not {kind!r}.')


def territories(
    assignment: np.ndarray, image: np.ndarray, upscale_to: int = 192, *, grid: tuple[int, int] | None = None
) -> np.ndarray:
    """[K, N] -> uint8 [H', W', 3]: each cell in the colour of the slot that holds most of it, over the grey picture."""
    assignment = np.nan_to_num(np.asarray(assignment, dtype=np.float64))
    cells = grid_of(np.zeros(assignment.shape[1]), grid).shape
    palette = np.concatenate([colormaps["tab20"].colors, colormaps["tab20b"].colors]) * 255.0
    colour = palette[assignment.argmax(axis=0) % len(palette)].reshape(*cells, 3)
    base = muted(resized(image, upscale_to), 0.0)
    size = (base.shape[1], base.shape[0])
    flat = np.asarray(Image.fromarray(_to_uint8(colour)).resize(size, Image.Resampling.NEAREST), np.float64)
    return _to_uint8(0.45 * base + 0.55 * flat)


def matrix_picture(matrix: np.ndarray, upscale_to: int = 192) -> np.ndarray:
    """[N, M] -> uint8 [H', W', 3]: darkest at 0, brightest at the 99.5th percentile (one peak hides nothing)."""
    matrix = np.clip(np.nan_to_num(np.asarray(matrix, dtype=np.float64)), 0.0, None)
    top = np.percentile(matrix, 99.5) or matrix.max() or 1.0
    pixels = _to_uint8(colormaps["viridis"](np.clip(matrix / top, 0, 1))[..., :3] * 255.0)
    return resized(pixels, upscale_to, Image.Resampling.NEAREST)


def resized(image: np.ndarray, longest: int, how: Image.Resampling | None = None) -> np.ndarray:
    """uint8 [H, W, 3] with its longer side `longest` pixels; tiny pictures keep their pixels' edges."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"an image must be uint8 [H, W, 3], not {image.dtype} {image.shape}.")
    scale = longest / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    if how is None:
        how = Image.Resampling.NEAREST if scale >= 16 else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(image).resize(size, how))


def muted(image: np.ndarray, saturation: float = 0.45) -> np.ndarray:
    """uint8 [H, W, 3] -> float64 [H, W, 3] in 0..255, less saturated, so that heat is the only strong colour."""
    image = image.astype(np.float64)
    grey = image @ np.array([0.299, 0.587, 0.114])
    return grey[..., None] * (1 - saturation) + image * saturation


def _relation_tiles(relation, image, grid):
    tiles = [("relation", matrix_picture(relation))]
    tokens = relation.shape[1]
    if grid is not None or round(tokens**0.5) ** 2 == tokens:
        tiles.append(("looked at", overlay(image, np.nan_to_num(relation).mean(axis=0), 192, grid=grid)))
    return tiles


def _upsampled(level: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    big = Image.fromarray(level.astype(np.float32)).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(big, np.float64), 0.0, 1.0)  # bicubic overshoots


def _to_uint8(pixels: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _small_multiples(tiles, columns: int, title: str = "") -> np.ndarray:
    """[(label, uint8 [h, w, 3])] -> one picture, uint8 [H', W', 3]."""
    columns = max(1, min(columns, len(tiles)))
    rows = -(-len(tiles) // columns)
    height = max(t.shape[0] / t.shape[1] for _, t in tiles)
    height = min(max(height, 0.4), 2.0)
    figure = new_figure(1.9 * columns, rows * (1.9 * height + 0.35) + (0.45 if title else 0.0))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, (label, tile) in zip(axes, tiles, strict=False):
        axis.imshow(tile, interpolation="nearest")
        axis.set_title(label, fontsize=9, family=fonts(), parse_math=False)
    if title:
        figure.suptitle(title, fontsize=10, family=fonts(), parse_math=False)
    return to_pixels(figure)

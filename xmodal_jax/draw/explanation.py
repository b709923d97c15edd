"""The picture of one answer: what each method said, how sure it was, and which parts of the image spoke for it.

Letters: h, w cells of a map; H', W' pixels of the drawn picture.
"""

import dataclasses
import functools
import os
import warnings
from collections.abc import Sequence

import numpy as np
from matplotlib.patches import Rectangle
from PIL import Image

from xmodal_jax.draw.curves import number, visible
from xmodal_jax.draw.figures import INK, MUTED, RULE, WARM, fonts, new_figure, plain, to_pixels
from xmodal_jax.draw.heatmap import grid_of, overlay, resized, to_peak
from xmodal_jax.files import replacing

DPI = 150
PICTURE, TILE, GAP, MARGIN = 480, 300, 20, 36  # pixels: longer side of the image and of a map, spaces
TITLE, SMALL = 13, 9.5  # points
GOOD = "#2f6b47"
WORDS = 3  # with a map of their own


@dataclasses.dataclass(frozen=True)
class Panel:
    """What one method answered, and where it looked.

    Attributes:
      title: the method's name. answer; probability of it, 0..1, or None.
      truth: the right answer, "" where it is not known; an answer is right that differs from it in case and ends alone.
      gradcam: [h, w], or None. pairs: (words of the question, weights [words, h, w] of word and region), or None.
    """

    title: str
    answer: str
    probability: float | None = None
    gradcam: np.ndarray | None = None
    pairs: tuple[Sequence[str], np.ndarray] | None = None
    truth: str = ""


def explanation(image: np.ndarray, question: str, panels: Sequence[Panel]) -> np.ndarray:
    """The question, the image at the left, and beside it a row a panel: answer, Grad-CAM, pair weights. uint8 [H', W', 3].

    Grad-CAM is drawn against its own largest value, pair weights against their even share (`heatmap.heat`): summed over the
    words, then for the words that hold most of them, with the share they hold.

    Args:
      image: uint8 [H, W, 3].
    Raises:
      ValueError: an image or maps of another shape; other words than rows of weights.
    """
    picture, rows = resized(image, PICTURE), [(panel, _tiles(image, panel)) for panel in panels]
    height, pitch = resized(image, TILE).shape[0], max(resized(image, TILE).shape[1], 2 * TILE // 3) + GAP
    left = MARGIN + max(picture.shape[1], TILE // 2) + 2 * GAP  # of the rows
    width = left + max([2, *(len(tiles) for _, tiles in rows)]) * pitch - GAP + MARGIN
    title = _lines(question, width - 2 * MARGIN, TITLE, 4, True)
    answers = [_lines(panel.answer or "(empty)", width - left - MARGIN, TITLE, 3, True) for panel, _ in rows]
    truth = next((panel.truth for panel in panels if panel.truth), "")
    facts = _lines(f"truth: {truth}", left - 2 * GAP - MARGIN, SMALL, 3) if truth else []

    known = [number(panel.probability) is not None for panel, _ in rows]
    heads = [
        (1 + bar) * _height(SMALL) + len(lines) * _height(TITLE) + GAP // 2 for lines, bar in zip(answers, known, strict=True)
    ]
    bodies = [height + _height(SMALL) if tiles else 0 for _, tiles in rows]
    top = MARGIN + len(title) * _height(TITLE) + 2 * GAP
    tall = max(picture.shape[0] + (1 + len(facts)) * _height(SMALL), sum(heads) + sum(bodies) + 2 * GAP * (len(rows) - 1))
    page = _Page(width, top + tall + MARGIN)

    page.text(MARGIN, MARGIN, title, TITLE, INK, bold=True)
    page.box(MARGIN, top - GAP, width - 2 * MARGIN, 1, RULE)
    page.picture(MARGIN, top + 6, picture)
    page.text(MARGIN, top + picture.shape[0] + 12, facts, SMALL, MUTED)
    y = top
    for (panel, tiles), lines, above, below in zip(rows, answers, heads, bodies, strict=True):
        colour, word = _verdict(panel)
        page.text(left, y, _lines(panel.title + word, width - left - MARGIN, SMALL, 1), SMALL, MUTED)
        page.text(left, y + _height(SMALL), lines, TITLE, colour, bold=True)
        page.probability(left, y + above - GAP // 2 - _height(SMALL), number(panel.probability))
        for column, (label, tile) in enumerate(tiles):
            page.picture(left + column * pitch, y + above, tile)
            page.text(left + column * pitch, y + above + height + 6, _lines(label, pitch - GAP, SMALL, 1), SMALL, MUTED)
        y += above + below + 2 * GAP
    return page.pixels()


def save(path: str | os.PathLike, pixels: np.ndarray) -> None:
    """Writes uint8 [H, W, 3] as a PNG; whoever reads `path` finds the old file or the whole new one."""
    with replacing(path, "wb") as file:
        Image.fromarray(pixels).save(file, "png", optimize=True)


def _tiles(image, panel):
    """[(label, uint8 picture)] of one panel."""
    tiles = []
    if panel.gradcam is not None:
        tiles.append(("Grad-CAM", overlay(image, panel.gradcam, TILE, level=to_peak)))
    if panel.pairs is not None:
        words, weights = panel.pairs
        weights = np.asarray(weights, np.float64)
        if weights.ndim != 3 or len(words) != len(weights):
            raise ValueError(f"pairs: {len(words)} words need weights [{len(words)}, h, w], not {weights.shape}.")
        weights = np.stack([grid_of(map_) for map_ in weights]) if len(words) else weights
        if len(words):
            tiles.append(("pairs, all words", overlay(image, weights.sum(0), TILE)))
        shares = weights.sum((1, 2)) / (weights.sum() or 1.0)
        for word in np.argsort(-shares, kind="stable")[:WORDS]:
            tiles.append((f"“{words[word]}”  {shares[word]:.0%}", overlay(image, weights[word], TILE)))
    return tiles


def _verdict(panel):
    """(colour of an answer, what to add to its title): right, wrong, or not known."""
    if not panel.truth:
        return INK, ""
    right = panel.answer.strip().casefold() == panel.truth.strip().casefold()
    return (GOOD, " · right") if right else (WARM, " · wrong")


def _height(size):
    """Pixels from line to line of text of `size` points."""
    return round(size * DPI / 72 * 1.35)


def _lines(text, width, size, most, bold=False):
    """Text broken into at most `most` lines of `width` pixels, at spaces where there are any."""

    def length(words):
        return sum(_advance(character, size, bold) for character in words)

    lines, line = [], ""
    for word in visible(text).split():
        while length(f"{line} {word}".strip()) > width:
            if not line:  # a word longer than a line
                cut = max(1, next((n for n in range(len(word)) if length(word[: n + 1]) > width), len(word)))
                line, word = word[:cut], word[cut:]
            lines, line = [*lines, line], ""
        line = f"{line} {word}".strip()
    lines = [*lines, line] if line else lines
    if len(lines) > most:
        last = lines[most - 1]
        while last and length(last + "…") > width:
            last = last[:-1]
        lines = [*lines[: most - 1], last.rstrip() + "…"]
    return lines


@functools.lru_cache(8192)
def _advance(character, size, bold):
    """Pixels that a character takes in a line."""
    figure = new_figure(1, 1)
    figure.set_dpi(DPI)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        two, one = (figure.text(0, 0, f"n{character * n}n", **_font(size, bold)).get_window_extent().width for n in (2, 1))
    return two - one


def _font(size, bold):
    return {"fontsize": size, "family": fonts(), "weight": "bold" if bold else "normal", "parse_math": False}


class _Page:
    """A white page with pixels counted from its upper left corner."""

    def __init__(self, width, height):
        self.width, self.height = width, height
        self.figure = new_figure((width + 0.01) / DPI, (height + 0.01) / DPI)  # rounded down to whole pixels
        self.figure.set_layout_engine("none")
        self.figure.set_dpi(DPI)

    def text(self, x, y, lines, size, colour, bold=False):
        for row, line in enumerate(lines):
            place = x / self.width, 1 - (y + row * _height(size)) / self.height
            self.figure.text(*place, line, color=colour, va="top", **_font(size, bold))

    def box(self, x, y, width, height, colour):
        place = (x / self.width, 1 - (y + height) / self.height)
        size = (width / self.width, height / self.height)
        self.figure.add_artist(Rectangle(place, *size, facecolor=colour, edgecolor="none", linewidth=0))

    def picture(self, x, y, tile):
        height, width = tile.shape[:2]
        place = (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        axis = self.figure.add_axes(place)
        axis.set_axis_off()
        axis.imshow(tile, interpolation="nearest", aspect="auto")

    def probability(self, x, y, value):
        """A bar of a tile's length, and the number behind it; nothing where it is not known."""
        if value is None:
            return
        middle = y + _height(SMALL) // 2
        self.box(x, middle - 5, TILE // 2, 9, RULE)
        self.box(x, middle - 5, TILE // 2 * min(max(value, 0.0), 1.0), 9, MUTED)
        self.text(x + TILE // 2 + GAP // 2, y + 4, [f"{value:.1%}"], SMALL, MUTED)

    def pixels(self):
        return to_pixels(plain(self.figure), DPI)

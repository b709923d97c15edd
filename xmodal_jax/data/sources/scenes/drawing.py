"""Sprites, backgrounds and their composition into uint8 pictures.

A thing is rasterised once a (thing, colour, side in pixels) at four times its size, reduced, and kept: a scene then
costs a few small numpy operations.
"""

import hashlib
import threading
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from xmodal_jax.data.sources.scenes.figures import FIGURES

COLORS = {
    "red": (214, 40, 40),
    "orange": (243, 134, 22),
    "yellow": (240, 212, 40),
    "green": (44, 150, 60),
    "blue": (42, 92, 210),
    "purple": (126, 60, 172),
    "pink": (244, 128, 180),
    "gray": (120, 124, 130),
}
BACKGROUNDS = ((246, 240, 224), (214, 232, 244), (222, 240, 218), (244, 224, 228), (232, 226, 244), (226, 230, 230))
TEXTURES = 4  # different grounds and grains of one background colour
_FIXED = {
    "k": (34, 32, 38),
    "w": (252, 252, 252),
    "t": (236, 190, 150),
    "b": (130, 84, 48),
    "g": (70, 130, 60),
    "y": (250, 220, 90),
}
_RIM = (40, 36, 44, 255)
_SUPERSAMPLE = 4
VARIED, VARIANTS = "varied", 32  # the style that has many looks: "varied 0" to "varied 31", alone "varied 0"
_BUDGET = 128 * 2**20  # bytes of sprites and backgrounds kept


class Sprite(NamedTuple):
    """A drawn thing: out = (under * keep + add) >> 8."""

    add: np.ndarray  # uint16 [s, s, 3], colour times alpha (0..256)
    keep: np.ndarray  # uint16 [s, s, 1], 256 - alpha
    box: tuple[int, int, int, int]  # x0, y0, x1, y1 of its visible pixels


class _Cache:
    """What was made last, up to a number of bytes; first in, first out."""

    def __init__(self, budget: int):
        self.budget, self.used, self.items, self.lock = budget, 0, {}, threading.Lock()

    def get(self, key, make):
        """The item of that key; make() -> (item, bytes) where it is not kept."""
        held = self.items.get(key)
        if held is None:
            held = make()
            with self.lock:
                if key not in self.items:
                    self.items[key] = held
                    self.used += held[1]
                    while self.used > self.budget and len(self.items) > 1:
                        self.used -= self.items.pop(next(iter(self.items)))[1]
        return held[0]


_cache = _Cache(_BUDGET)


def _palette(color: str) -> dict[str, tuple[int, int, int]]:
    main = COLORS[color]
    dark = tuple(int(0.62 * value) for value in main)
    light = tuple(int(0.5 * value + 127) for value in main)
    return {"m": main, "d": dark, "l": light, **_FIXED}


def _paint(draw: ImageDraw.ImageDraw, kind: str, numbers: tuple, unit: float, grow: float, fill) -> None:
    """One primitive, `grow` units larger on every side."""
    if kind in "es":
        cx, cy, rx, ry = numbers[:4]
        box = [unit * (cx - rx - grow), unit * (cy - ry - grow), unit * (cx + rx + grow), unit * (cy + ry + grow)]
        if kind == "e":
            draw.ellipse(box, fill=fill)
        else:
            draw.pieslice(box, numbers[4], numbers[5], fill=fill)
    elif kind == "a":
        width, cx, cy, rx, ry, start, end = numbers
        half = width / 2 + grow
        box = [unit * (cx - rx - half), unit * (cy - ry - half), unit * (cx + rx + half), unit * (cy + ry + half)]
        draw.arc(box, start, end, fill=fill, width=max(1, round(2 * half * unit)))
    else:
        points = numbers[1:] if kind == "l" else numbers
        width = (numbers[0] if kind == "l" else 0) + 2 * grow
        points = [(unit * x, unit * y) for x, y in zip(points[::2], points[1::2], strict=True)]
        if kind == "p":
            draw.polygon(points, fill=fill)
            points = [*points, points[0]]
        if width:
            draw.line(points, fill=fill, width=max(1, round(unit * width)))
            radius = unit * width / 2
            for x, y in points:
                draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill)


def rasterise(key: str, color: str, side: int, style: str = "flat") -> np.ndarray:
    """The thing in a square of `side` pixels: uint8 [side, side, 4], alpha not multiplied in."""
    large = side * _SUPERSAMPLE
    canvas = Image.new("RGBA", (large, large), (0, 0, 0, 0))
    name, _, variant = style.partition(" ")
    STYLES[name](ImageDraw.Draw(canvas), FIGURES[key], _palette(color), large / 104, *map(int, variant.split()))
    rgba = np.asarray(canvas, np.float32).reshape(side, _SUPERSAMPLE, side, _SUPERSAMPLE, 4)
    alpha = rgba[..., 3:].mean((1, 3))  # [s, s, 1]
    color_sum = (rgba[..., :3] * rgba[..., 3:]).mean((1, 3))
    rgb = color_sum / np.maximum(alpha, 1e-6)
    if style == "shaded":
        rgb = rgb * np.linspace(1.15, 0.8, side)[:, None, None]  # lit from above
    return np.concatenate([rgb, alpha], -1).round().clip(0, 255).astype(np.uint8)


def _flat(draw, figure, palette, unit):
    """Plain areas within a dark rim round the whole figure, so that it stands out on any background."""
    for _, kind, numbers in figure:
        _paint(draw, kind, _shift(kind, numbers), unit, 2.0, _RIM)
    _cut(draw, figure, palette, unit)


def _areas(draw, figure, unit, fill):
    """Every part plain in the colour fill(role)."""
    for role, kind, numbers in figure:
        _paint(draw, kind, _shift(kind, numbers), unit, 0.0, (*fill(role), 255))


def _cut(draw, figure, palette, unit):
    """Plain areas, as cut out of paper."""
    _areas(draw, figure, unit, palette.__getitem__)


def _pastel(draw, figure, palette, unit):
    """The same in chalk: pale."""
    _areas(draw, figure, unit, lambda role: _thin(palette[role], 0.35))


def _motley(draw, figure, palette, unit):
    """Plain areas of many colours, the largest in the thing's own."""
    others, first = list(COLORS.values()), len(figure) + palette["m"][1]
    _areas(draw, figure, unit, lambda role: palette["m"] if role == "m" else others[(ord(role) + first) % len(others)])


def _shaded(draw, figure, palette, unit):
    """As an icon: no rim round the whole, darker edges of every part's own colour, small parts in colours of their own."""
    others, first = list(COLORS.values()), len(figure) + palette["m"][1]
    for number, (role, kind, numbers) in enumerate(figure):
        color = palette[role] if role != "d" else others[(number + first) % len(others)]
        shifted = _shift(kind, numbers)
        _paint(draw, kind, shifted, unit, 1.2, (*(int(0.7 * value) for value in color), 255))
        _paint(draw, kind, shifted, unit, 0.0, (*color, 255))


def _line(draw, figure, palette, unit):
    """As in a colouring book: every part within a dark line, its colour thin."""
    for role, kind, numbers in figure:
        shifted = _shift(kind, numbers)
        _paint(draw, kind, shifted, unit, 2.0, _RIM)
        _paint(draw, kind, shifted, unit, 0.0, (*_thin(palette[role], 0.5), 255))


def _sketch(draw, figure, palette, unit):
    """With a pen of the thing's colour on paper: every part's outline in two strokes of an unsteady hand, hardly any fill."""
    hand = np.random.Generator(np.random.PCG64(len(figure)))
    for role, kind, numbers in figure:
        ink = palette["d"] if role in "ml" else palette[role]
        points = _outline(kind, _shift(kind, numbers))
        if kind not in "la":
            draw.polygon([tuple(unit * point) for point in points], fill=(*_thin(palette[role], 0.18), 255))
        for _ in range(2):
            stroke = [tuple(unit * point) for point in points + hand.normal(0, 0.9, points.shape)]
            draw.line(stroke, fill=(*ink, 255), width=max(1, round(2.2 * unit)), joint="curve")


def _varied(draw, figure, palette, unit, variant=0):
    """One of VARIANTS looks, each drawn at random once, so that what they have in common is the shape alone (domain
    randomisation, Tobin et al., 2017, arXiv:1703.06907): a rim round the whole or none, edges of parts dark or in their own
    colour, areas full to thin, details in colours of their own, lines thin or thick, by a steady hand or another."""
    look = np.random.Generator(np.random.PCG64([variant, VARIANTS]))
    rim, edge, ink = look.choice([0.0, 0.0, 2.0]), look.choice([0.0, 1.0, 2.0]), look.choice([0.0, 0.6])
    full, thick, unsteady = look.uniform(0.15 if rim or edge else 0.4, 1), look.uniform(0.6, 1.3), look.uniform(0, 1.2)
    own, others = look.random() < 0.3, list(COLORS.values())
    hand = np.random.Generator(np.random.PCG64([variant, len(figure)]))
    parts = []
    for number, (role, kind, numbers) in enumerate(figure):
        color = others[(ord(role) + variant + number) % len(others)] if own and role != "m" else palette[role]
        parts.append((kind, _redrawn(kind, np.array(_shift(kind, numbers), float), hand, unsteady, thick), color))
    for kind, numbers, _ in parts if rim else ():
        _paint(draw, kind, numbers, unit, rim, _RIM)
    for kind, numbers, color in parts:
        is_area = kind not in "la"
        if edge and is_area:
            _paint(draw, kind, numbers, unit, edge, (*(int(ink * value) for value in color), 255))
        _paint(draw, kind, numbers, unit, 0.0, (*(_thin(color, full) if is_area else color), 255))


def _redrawn(kind, numbers, hand, unsteady, thick):
    """A primitive whose points and radii an unsteady hand has moved, with lines `thick` times as wide."""
    first = int(kind in "la")  # of lines and arcs the width comes first
    last = len(numbers) if kind in "pl" else first + 4  # behind centre and radii there are but angles
    numbers[:first] *= thick
    numbers[first:last] += hand.normal(0, unsteady, last - first)
    if kind not in "pl":
        numbers[last - 2 : last] = np.maximum(numbers[last - 2 : last], 1)
    return tuple(numbers)


def _thin(color, share):
    """A colour on white paper."""
    return tuple(int(share * value + (1 - share) * 250) for value in color)


def _outline(kind, numbers):
    """The points round a primitive, or along a line, closed where it is closed: float64 [n, 2]."""
    if kind in "pl":
        points = np.array(numbers[kind == "l" :], np.float64).reshape(-1, 2)
        return np.concatenate([points, points[:1]]) if kind == "p" else points
    if kind == "a":
        _, cx, cy, rx, ry, start, end = numbers
    else:
        cx, cy, rx, ry, start, end = (*numbers, 0, 360)[:6]
    angles = np.radians(np.linspace(start, end if end > start else end + 360, 25))
    points = np.stack([cx + rx * np.cos(angles), cy + ry * np.sin(angles)], -1)
    return np.concatenate([points, [[cx, cy]], points[:1]]) if kind == "s" else points


STYLES = {
    "flat": _flat, "cut": _cut, "pastel": _pastel, "motley": _motley, "shaded": _shaded, "line": _line, "sketch": _sketch,
    VARIED: _varied,
}  # fmt: skip


def _shift(kind: str, numbers: tuple) -> tuple:
    """Figures are drawn in 100 units; the rim needs two more on every side."""
    if kind == "p":
        return tuple(number + 2 for number in numbers)
    if kind == "l":
        return numbers[0], *(number + 2 for number in numbers[1:])
    if kind == "a":
        return numbers[0], numbers[1] + 2, numbers[2] + 2, *numbers[3:]
    return numbers[0] + 2, numbers[1] + 2, *numbers[2:]


def sprite(key: str, color: str, side: int, style: str = "flat") -> Sprite:
    """The thing ready to be pasted, kept from call to call."""

    def make():
        rgba = rasterise(key, color, side, style).astype(np.uint16)
        alpha = (rgba[..., 3:] * 256 + 127) // 255
        add, keep = rgba[..., :3] * alpha, 256 - alpha
        rows, columns = np.flatnonzero(alpha.any((1, 2))), np.flatnonzero(alpha.any((0, 2)))
        box = (0, 0, side, side)
        if rows.size:
            box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        return Sprite(add, keep, box), add.nbytes + keep.nbytes

    return _cache.get((key, color, side, style), make)


def background(color: int, texture: int, size: int) -> np.ndarray:
    """uint8 [size, size, 3], shared: do not write to it. A darker ground, a slow wave and a grain, periodic in x."""

    def make():
        digest = hashlib.blake2b(f"ground {texture}".encode(), digest_size=8).digest()
        noise = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))
        x, y = np.arange(size) / size, (np.arange(size) / size)[:, None]
        wave = 3.0 * np.sin(2 * np.pi * ((texture % 2 + 1) * x + 1.7 * y + texture / 4))
        ground = np.where(y > 0.7 + 0.06 * texture, -16.0, 0.0)
        grain = noise.normal(0, 2.5, (size, size))
        picture = np.asarray(BACKGROUNDS[color], np.float64) + (wave + ground + grain)[..., None]
        picture = picture.round().clip(0, 255).astype(np.uint8)
        return picture, picture.nbytes

    return _cache.get((color, texture, size), make)


def compose(under: tuple[int, int, float], placed: list[tuple[Sprite, int, int]], size: int) -> np.ndarray:
    """Sprites at their top left corners (x, y) in pixels, in order, over background (color, texture, roll in 0..1)."""
    color, texture, roll = under
    base, cut = background(color, texture, size), int(roll * size)
    picture = np.concatenate([base[:, cut:], base[:, :cut]], 1) if cut else base.copy()
    for thing, x, y in placed:
        side = thing.keep.shape[0]
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + side, size), min(y + side, size)
        if left < right and top < bottom:
            rows, columns = slice(top - y, bottom - y), slice(left - x, right - x)
            region = picture[top:bottom, left:right]
            blended = region * thing.keep[rows, columns]
            blended += thing.add[rows, columns]
            blended >>= 8
            region[...] = blended
    return picture

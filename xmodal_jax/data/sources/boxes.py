"""Boxes of a data set, in pixels, as the boxes of the square pictures in examples."""

from __future__ import annotations


def fit_box(box, width: float, height: float, mode: str) -> list[float] | None:
    """A box [x0, y0, x1, y1] in pixels of a width x height picture -> 0..1 of the square that `decode_image` makes of
    it.

    None if nothing of it is left inside the crop.
    """
    mode, _, larger = mode.partition("-")  # "crop-bicubic-256/224": the centre of a larger square
    zoom = [int(part) for part in larger.split("-")[1].split("/")] if larger.count("-") else [1, 1]
    side = max(width, height) if mode == "pad" else min(width, height)
    across, down = (width, height) if mode == "resize" else (side, side)
    left, top = (0.0, 0.0) if mode == "resize" else ((width - side) / 2, (height - side) / 2)
    x0, y0, x1, y1 = box
    fitted = [(x0 - left) / across, (y0 - top) / down, (x1 - left) / across, (y1 - top) / down]
    fitted = [(value - 0.5) * zoom[0] / zoom[1] + 0.5 for value in fitted] if zoom[0] != zoom[1] else fitted
    fitted = [min(1.0, max(0.0, value)) for value in fitted]
    return fitted if fitted[2] > fitted[0] and fitted[3] > fitted[1] else None


def object_extras(objects: list[dict], mode: str) -> dict:
    """Objects {"name", "box" (pixels), "width", "height", "unique"} -> the example's `objects` and `phrases`."""
    fitted = [(thing, fit_box(thing["box"], thing["width"], thing["height"], mode)) for thing in objects]
    kept = [(thing["name"], box, thing["unique"]) for thing, box in fitted if box is not None]
    phrases = [{"phrase": name, "box": box} for name, box, unique in kept if unique]
    objects = [{"name": name, "label": name, "color": None, "size": None, "box": box} for name, box, _ in kept]
    return {key: value for key, value in (("objects", objects), ("phrases", phrases)) if value}

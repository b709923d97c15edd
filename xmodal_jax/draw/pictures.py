"""Samples as the page's template wants them: text cut at its blanks, images as data URIs, fractions as widths."""

import base64
import io

import numpy as np
from PIL import Image

from xmodal_jax.draw import heatmap
from xmodal_jax.draw.blocks import Sample
from xmodal_jax.draw.curves import number, visible
from xmodal_jax.errors import UserError

_LONGEST = 384  # pixels of a picture in the page; larger ones are shrunk


def data_uri(image: np.ndarray) -> str:
    """uint8 [H, W, 3] -> a data URI: PNG or JPEG, whichever is smaller."""
    image = np.asarray(image)
    if image.ndim == 3 and max(image.shape[:2], default=0) > _LONGEST:
        image = heatmap.resized(image, _LONGEST, Image.Resampling.LANCZOS)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"an image must be uint8 [H, W, 3], not {image.dtype} {image.shape}.")
    picture, best = Image.fromarray(image), None
    for kind, options in (("png", {}), ("jpeg", {"quality": 88})):  # optimize: eight times as long for 7 % of the bytes
        out = io.BytesIO()
        picture.save(out, kind, **options)
        if best is None or len(out.getvalue()) < len(best[1]):
            best = kind, out.getvalue()
    return f"data:image/{best[0]};base64,{base64.b64encode(best[1]).decode()}"


def picture(label: str, draw) -> dict:
    """{"label", "uri", "error"} of one picture. The report is written when a run is over: a picture that cannot be
    drawn is said so in its place and does not take the page with it."""
    try:
        return {"label": visible(label), "uri": data_uri(draw()), "error": ""}
    except (ValueError, TypeError, UserError) as error:
        return {"label": visible(label), "uri": "", "error": str(error)}


def pieces(text: str, spans) -> list[tuple[str, bool]]:
    """Text cut at its spans: [(piece, whether it is a blank)]. Spans may overlap or pass the end."""
    out, at = [], 0
    for start, end in sorted((max(0, int(s)), min(len(text), int(e))) for s, e in spans):
        start = max(start, at)
        if end <= start:
            continue
        if start > at:
            out.append((visible(text[at:start]), False))
        out.append((visible(text[start:end]), True))
        at = end
    if at < len(text):
        out.append((visible(text[at:]), False))
    return out


def truth(value) -> bool | None:
    """True, False or None of what may be numpy's."""
    return None if value is None else bool(value)


def width(value) -> float | None:
    """A fraction as the width of a bar in per cent, None if it is not one."""
    value = number(value)
    return None if value is None or not -1e-6 <= value <= 1 + 1e-6 else round(min(max(value, 0.0), 1.0) * 100, 2)


def sample_view(sample: Sample) -> dict:
    """Everything the template shows of a sample."""
    image = sample.image
    view = {
        "sample": sample,
        "correct": truth(sample.correct),
        "pieces": pieces(sample.text, sample.spans),
        "image": None if image is None else picture("image", lambda: image),
        "conditions": [_condition(sample, c) for c in sample.conditions],
        "candidates": [
            {
                "text": visible(c.text),
                "score": c.score,
                "width": width(c.score),
                "right": truth(c.right),
                "image": None if c.image is None else picture(c.text, lambda c=c: c.image),
            }
            for c in sample.candidates
        ],
        "heat": [],
        "maps": [],
    }
    if image is not None:
        for label, weights in sample.heat:
            view["heat"].append(picture(label, lambda w=weights: heatmap.overlay(image, w, grid=sample.grid)))
        view["maps"] = _maps(sample)
    return view


def _condition(sample: Sample, condition) -> dict:
    numbers = [number(p) for p in condition.probabilities]
    numbers = (numbers + [None] * len(sample.senses))[: len(sample.senses)]
    known = [p for p in numbers if p is not None]
    chosen = sample.senses[numbers.index(max(known))] if known else None
    rows = [
        {"sense": visible(s), "width": width(p), "value": p, "expected": s == condition.expected, "chosen": s == chosen}
        for s, p in zip(sample.senses, numbers, strict=True)
    ]
    shown = None
    if condition.image is not None:
        shown = picture(condition.name, lambda: condition.image)
    looked = None
    if condition.heat is not None and condition.image is not None:
        looked = picture("where it looked", lambda: heatmap.overlay(condition.image, condition.heat, grid=sample.grid))
    hit = None if condition.expected is None or chosen is None else chosen == condition.expected
    return {"name": visible(condition.name), "image": shown, "heat": looked, "rows": rows, "hit": hit}


def _maps(sample: Sample) -> list[dict]:
    out = []
    if sample.assignment is not None:
        slots = np.asarray(sample.assignment)
        out.append(picture("territories", lambda: heatmap.territories(slots, sample.image, grid=sample.grid)))
        for k in range(min(15, len(slots))):
            out.append(picture(f"slot {k + 1}", lambda k=k: heatmap.overlay(sample.image, slots[k], 192, grid=sample.grid)))
    if sample.relation is not None:
        out.append(picture("relation", lambda: heatmap.matrix_picture(sample.relation)))
    return out

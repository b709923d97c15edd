"""A picture with boxes drawn around what was found."""

import numpy as np
from PIL import Image, ImageDraw

from xmodal_jax.draw.heatmap import resized

COLORS = {True: (47, 107, 71), False: (180, 83, 42), None: (31, 95, 139)}  # right, wrong, not known


def boxed(image, boxes, longest=256):
    """uint8 [H, W, 3], [(box, right: True, False or None)], x0, y0, x1, y1 in 0..1 -> uint8 [H', W', 3].

    Each box is an outline of white around one of a colour, so that it is seen on any picture.
    """
    large = resized(np.asarray(image), longest)
    height, width, _ = large.shape
    picture = Image.fromarray(large)
    pen, line = ImageDraw.Draw(picture), max(2, longest // 100)
    for box, right in boxes:
        x0, y0, x1, y1 = (round(float(value) * side) for value, side in zip(box, (width, height) * 2, strict=True))
        x0, y0, x1, y1 = min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
        pen.rectangle((x0, y0, x1 - 1 if x1 > x0 else x1, y1 - 1 if y1 > y0 else y1), outline=(255, 255, 255), width=2 * line)
        pen.rectangle((x0, y0, x1 - 1 if x1 > x0 else x1, y1 - 1 if y1 > y0 else y1), outline=COLORS[right], width=line)
    return np.asarray(picture)

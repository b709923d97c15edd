"""Random changes of training pictures that leave their captions true."""

import numpy as np

FLIPS = ("none", "horizontal", "all")


def augment(image, rng, flips="horizontal", zoom=1.0, brightness=0.0):
    """A changed copy of a picture, uint8 [H, W, 3].

    Args:
      flips: "none"; "horizontal", which makes left of right; "all": the eight symmetries of a square, for views from above.
      zoom: at most so many times nearer: a random square of at least side / zoom is cut out and enlarged, bilinear.
      brightness: largest relative change of brightness and of contrast, and half of it of each colour.
    """
    return augment_with_boxes(image, np.zeros((0, 4)), rng, flips, zoom, brightness)[0]


def augment_with_boxes(image, boxes, rng, flips="horizontal", zoom=1.0, brightness=0.0):
    """The same of a picture and boxes in it, [n, 4]: x0, y0, x1, y1 in 0..1 -> (picture, boxes; what is cut off is empty)."""
    height, width, _ = image.shape
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    if flips != "none" and rng.random() < 0.5:
        image, boxes = image[:, ::-1], np.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], -1)
    if flips == "all":
        turns = int(rng.integers(4))
        image = np.rot90(image, turns)
        for _ in range(turns):  # (x, y) -> (y, 1 - x)
            boxes = np.stack([boxes[:, 1], 1 - boxes[:, 2], boxes[:, 3], 1 - boxes[:, 0]], -1)
    if zoom > 1:
        share = 1 / (1 + (zoom - 1) * rng.random())
        rows, columns = max(1, round(height * share)), max(1, round(width * share))
        top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
        image = enlarge(image[top : top + rows, left : left + columns], height, width)
        corner, size = np.array([left, top] * 2), np.array([columns, rows] * 2)
        boxes = np.clip((boxes * np.array([width, height] * 2) - corner) / size, 0, 1)
    if brightness:
        gain = 1 + brightness * rng.uniform(-1, 1) + brightness / 2 * rng.uniform(-1, 1, 3)
        shift = 128 * brightness * rng.uniform(-1, 1)
        levels = np.clip(np.arange(256)[:, None] * gain + shift, 0, 255).astype(np.uint8)  # [256, 3]
        image = levels[image, np.arange(3)]
    return np.ascontiguousarray(image), boxes.astype(np.float32)


def enlarge(image, height, width):
    """Bilinear resizing to [height, width, 3]."""
    from PIL import Image

    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((width, height), Image.Resampling.BILINEAR))

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
    height, width, _ = image.shape
    if flips != "none" and rng.random() < 0.5:
        image = image[:, ::-1]
    if flips == "all":
        image = np.rot90(image, int(rng.integers(4)))
    if zoom > 1:
        share = 1 / (1 + (zoom - 1) * rng.random())
        rows, columns = max(1, round(height * share)), max(1, round(width * share))
        top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
        image = enlarge(image[top : top + rows, left : left + columns], height, width)
    if brightness:
        gain = 1 + brightness * rng.uniform(-1, 1) + brightness / 2 * rng.uniform(-1, 1, 3)
        shift = 128 * brightness * rng.uniform(-1, 1)
        levels = np.clip(np.arange(256)[:, None] * gain + shift, 0, 255).astype(np.uint8)  # [256, 3]
        image = levels[image, np.arange(3)]
    return np.ascontiguousarray(image)


def enlarge(image, height, width):
    """Bilinear resizing to [height, width, 3]."""
    from PIL import Image

    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((width, height), Image.Resampling.BILINEAR))

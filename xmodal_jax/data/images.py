"""Decoding of image files into uint8 RGB arrays: any Pillow format and mode; odd files are handled or named in an
error.
"""

from __future__ import annotations

import io
import os

import numpy as np
from PIL import Image, ImageOps

from xmodal_jax.errors import UserError

MAX_PIXELS = 80_000_000  # 240 MB as RGB; a header that promises more is refused before anything is decoded
MODES = ("resize", "crop", "pad")
ORIENTATION = 0x0112  # EXIF tag; from 5 on width and height are exchanged
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"})


class ImageError(UserError):
    """An image that cannot be decoded; the message names the file."""


def decode_image(
    source: bytes | str | os.PathLike,
    size: int | None = None,
    mode: str = "resize",
    *,
    name: str | None = None,
    background: tuple[int, int, int] = (255, 255, 255),
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Decode an encoded image (bytes, or the path of a file) to uint8 [H, W, 3], turned upright by its EXIF
    orientation.

    size: side in pixels of the square result, None to keep the picture's own size. mode: "resize" stretches to the
    square, "crop" cuts the centre square first, "pad" keeps the whole picture and fills up with `background`.
    Transparent pixels are composited on `background`; 16-bit grey is scaled by 1/257; of an animation the first frame
    is taken. `name` stands for bytes in errors. Raises ImageError for a missing, truncated or oversized file, or one
    that is no image.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {MODES}, not {mode!r}")
    name = name or ("<bytes>" if isinstance(source, (bytes, bytearray, memoryview)) else os.fspath(source))
    try:
        data = bytes(source) if isinstance(source, (bytes, bytearray, memoryview)) else _read(source)
        if not data:
            raise ImageError(f"Image {name}: the file is empty.")
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > max_pixels:
                raise ImageError(
                    f"Image {name}: {image.width} x {image.height} pixels are more than the limit of {max_pixels}; "
                    "scale the picture down, or leave it out."
                )
            if size and image.format == "JPEG" and min(image.size) >= 2 * size:
                image.draft("RGB" if image.mode == "RGB" else None, (2 * size, 2 * size))  # decodes at 1/2, 1/4 or 1/8
            rgb = to_rgb(ImageOps.exif_transpose(image), background)
        return np.array(_fit(rgb, size, mode, background), np.uint8)  # a copy: writable, without the file
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(f"Image {name}: it promises more pixels than the limit of {max_pixels}; leave it out.") from None
    except Image.UnidentifiedImageError:
        raise ImageError(f"Image {name}: this is not an image in a format that Pillow reads (JPEG, PNG, WebP, ...).") from None
    except Exception as error:  # decoders of broken files raise whatever they like
        raise ImageError(f"Image {name}: it cannot be decoded ({error}); the file may be truncated.") from error


def size_of(path: str | os.PathLike) -> tuple[int, int]:
    """(width, height) of a picture as `decode_image` turns it, from its header alone; raises ImageError."""
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(ORIENTATION, 1) >= 5
            return image.size[::-1] if turned else image.size
    except Exception as error:
        raise ImageError(f"Image {os.fspath(path)}: its size cannot be read ({error}).") from error


def encode_png(image: np.ndarray) -> bytes:
    """uint8 [H, W, 3] -> the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _read(path: str | os.PathLike) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise ImageError(f"Image {os.fspath(path)}: there is no such file.") from None
    except OSError as error:
        raise ImageError(f"Image {os.fspath(path)}: the file cannot be read ({error.strerror or error}).") from None


def to_rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Any mode to RGB, with transparency composited on `background`."""
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_to_rgb(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGBA", rgba.size, (*background, 255))
        return Image.alpha_composite(canvas, rgba).convert("RGB")
    return image.convert("RGB")  # 1, L, P, RGB, CMYK, YCbCr, LAB, HSV


def _deep_to_rgb(image: Image.Image) -> Image.Image:
    """16-bit and 32-bit grey and float: Pillow's own conversion clips at 255 instead of scaling."""
    values = np.asarray(image).astype(np.float64)
    values = np.where(np.isfinite(values), values, 0)
    high = values.max(initial=0)
    if image.mode == "F" and high <= 1:
        values = values * 255
    elif high > 255 or image.mode.startswith("I;16"):
        values = values / (257 if high <= 65535 else high / 255)
    grey = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _fit(image: Image.Image, size: int | None, mode: str, background: tuple[int, int, int]) -> Image.Image:
    if size is None or image.size == (size, size):
        return image
    if mode == "crop":
        return ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    if mode == "pad":
        return ImageOps.pad(image, (size, size), Image.Resampling.BICUBIC, color=background)
    return image.resize((size, size), Image.Resampling.BICUBIC)


def picture_of(example, size):
    """uint8 [size, size, 3] of an example of a source, a path, the bytes of a file, or an array.

    Raises UserError where an example's picture has another size.
    """
    if not isinstance(example, dict):
        return decode_image(encode_png(example) if isinstance(example, np.ndarray) else example, size)
    image = example["image"]
    if image.shape != (size, size, 3):
        raise UserError(
            f"{example['id']}: picture of shape {image.shape}, but examples.image_size={size}: give the source the same size."
        )
    return image

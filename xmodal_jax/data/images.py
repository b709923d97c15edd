"""Pictures as uint8 RGB arrays: decoding of files of any usual format, mode and size, and what else is given as a picture;
odd ones are handled or named in an error.

Memory: whatever the file, decoding takes at most 512 MiB beside its bytes.
"""

from __future__ import annotations

import io
import math
import os
import re

import numpy as np
from PIL import Image, ImageOps

from xmodal_jax.data.formats import MAX_PIXELS, SUFFIXES, ImageError, decoded_at, open_image
from xmodal_jax.errors import UserError
from xmodal_jax.files import at_home, read_regular

__all__ = ["SUFFIXES", "ImageError", "decode_image", "encode_png", "file_of", "picture_of", "rgb_of", "size_of"]
MODES = ("resize", "crop", "pad")
NEARLY = 1e-3  # what floats in 0..1 may be out by, as rounding leaves them
# As image processors of public checkpoints do it: RESIZE or CROP, a filter of Pillow's, and where they cut out the centre
# of a larger square, how much larger it is: "resize-bilinear", "crop-bicubic", "crop-bicubic-256/224".
AS_PROCESSORS = re.compile(r"(resize|crop)-(nearest|lanczos|bilinear|bicubic|box|hamming)(?:-(\d+)/(\d+))?")
ORIENTATION = 0x0112  # EXIF tag; from 5 on width and height are exchanged
WHITE = (255, 255, 255)
WHOLE = 48_000_000  # pixels; a larger picture is reduced as it is converted
PART = 1_000_000  # pixels that are converted at a time
MAX_FILE = 1 << 30  # bytes
TAKEN = (
    "a path, the bytes of a file, a Pillow image, or an array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] of uint8 or of floats "
    "in 0..1"
)


def decode_image(
    source: bytes | str | os.PathLike,
    size: int | None = None,
    mode: str = "resize",
    *,
    name: str | None = None,
    background: tuple[int, int, int] = WHITE,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Decode an encoded image (bytes, or the path of a file) to uint8 [H, W, 3], turned upright by its EXIF
    orientation.

    size: side in pixels of the square result, None to keep the picture's own size, or, above WHOLE pixels, that size divided
    by a whole number. mode: "resize" stretches to the square, "crop" cuts the centre square first, "pad" keeps the whole
    picture and fills up with `background`, others: AS_PROCESSORS. Transparent pixels are composited on `background`; 16-bit
    grey is scaled by 1/257; of an animation the first frame is taken. Broken EXIF, colour profiles and texts do not matter.
    `name` stands for bytes in errors. max_pixels: see `formats.decoded_at`. Raises ImageError for a missing or truncated
    file, one that takes too much memory, or one that is no image.
    """
    check_mode(mode)
    is_file = isinstance(source, (bytes, bytearray, memoryview))
    name = name or ("<bytes>" if is_file else os.fspath(source))
    try:
        data = bytes(source) if is_file else _read(source)
        if not data:
            raise ImageError(f"Image {name}: the file is empty.")
        return _fitted(_decoded(data, size, mode, name, background, max_pixels), size, mode, background)
    except ImageError:
        raise
    except Exception as error:  # decoders of broken files raise whatever they like
        raise ImageError(f"Image {name}: it cannot be decoded ({error}); the file may be truncated.") from error


def check_mode(mode: str) -> None:
    """Raise a ValueError for what is none of MODES, nor one AS_PROCESSORS."""
    if mode not in MODES and not AS_PROCESSORS.fullmatch(mode):
        raise ValueError(f"mode must be one of {MODES}, or as in 'crop-bicubic' and 'resize-bilinear-256/224', not {mode!r}")


def _decoded(data, size, mode, name, background, max_pixels) -> np.ndarray:
    """uint8 [H, W, 3] upright, its sides at least 2 * size where it was reduced: AS_PROCESSORS only for the memory's sake."""
    image = open_image(data, name)
    reduced = math.ceil(math.sqrt(image.width * image.height / WHOLE))
    wanted = 2 * size if size and (mode in MODES or reduced > 1) else min(image.size) // reduced + (reduced == 1)
    decoded_at(image, wanted, name, max_pixels)
    image.load()
    turn = _orientation(image)
    reduced = math.ceil(math.sqrt(image.width * image.height / WHOLE))
    factor = max(reduced, min(image.size) // (2 * size)) if size and reduced > 1 else reduced
    return _turned(to_rgb(image, background, factor), turn)


def size_of(path: str | os.PathLike) -> tuple[int, int]:
    """(width, height) of a picture as `decode_image` turns it, from its header alone; raises ImageError."""
    try:
        with open_image(_read(path), os.fspath(path)) as image:
            turned = image.format != "TIFF" and _orientation(image) >= 5  # Pillow turns a TIFF itself
            return image.size[::-1] if turned else image.size
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"Image {os.fspath(path)}: its size cannot be read ({error}).") from error


def file_of(picture) -> bytes:
    """The bytes of a picture's file; of one in another form of TAKEN, those of a PNG."""
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return bytes(picture)
    return _read(picture) if isinstance(picture, (str, os.PathLike)) else encode_png(rgb_of(picture))


def encode_png(image: np.ndarray) -> bytes:
    """uint8 [H, W, 3] -> the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _read(path: str | os.PathLike) -> bytes:
    """The bytes of a picture's file."""
    try:
        return read_regular(at_home(path), MAX_FILE)
    except FileNotFoundError:
        raise ImageError(f"Image {os.fspath(path)}: there is no such file.") from None
    except (OSError, ValueError) as error:  # a ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"Image {os.fspath(path)!r}: the file cannot be read ({reason}).") from None


def _orientation(image: Image.Image) -> int:
    """1 to 8, as EXIF numbers the ways a camera was held; 1 where that is not said, or broken."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # whatever broken metadata raise: the pixels are whole
        return 1


def _turned(rgb: np.ndarray, orientation: int) -> np.ndarray:
    """[H, W, 3] turned upright."""
    if orientation in (5, 6, 7, 8):
        rgb = rgb.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        rgb = rgb[::-1]
    if orientation in (2, 3, 6, 7):
        rgb = rgb[:, ::-1]
    return np.ascontiguousarray(rgb)


def to_rgb(image: Image.Image, background: tuple[int, int, int] = WHITE, factor: int = 1) -> np.ndarray:
    """A Pillow image of any mode as uint8 [H, W, 3], with transparency composited on `background`, and each factor x factor
    pixels averaged. Converted part by part, so that little memory is taken beside the picture's own."""
    rows = max(PART // image.width // factor, 1) * factor
    bounds = [(top, min(top + rows, image.height)) for top in range(0, image.height, rows)]
    whole = len(bounds) == 1
    deep = image.mode.startswith("I") or image.mode == "F"

    def part(top, bottom):
        return image if whole else image.crop((0, top, image.width, bottom))

    high = max(float(_values(part(*bound)).max(initial=0)) for bound in bounds) if deep else 0
    out = np.empty((-(-image.height // factor), -(-image.width // factor), 3), np.uint8)
    for top, bottom in bounds:
        piece = part(top, bottom)
        rgb = _grey(piece, high) if deep else _composited(piece, background)
        out[top // factor : -(-bottom // factor)] = np.asarray(rgb.reduce(factor) if factor > 1 else rgb)
    return out


def _composited(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Modes of 8 bits to RGB."""
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGBA", rgba.size, (*background, 255))
        return Image.alpha_composite(canvas, rgba).convert("RGB")
    return image.convert("RGB")  # 1, L, P, RGB, CMYK, YCbCr, LAB, HSV


def _values(image: Image.Image) -> np.ndarray:
    """16-bit and 32-bit grey and float as float64 [H, W]."""
    values = np.asarray(image).astype(np.float64)
    return np.where(np.isfinite(values), values, 0)


def _grey(image: Image.Image, high: float) -> Image.Image:
    """The same to RGB, where the whole picture reaches `high`: Pillow's own conversion clips at 255 instead of scaling."""
    values = _values(image)
    if image.mode == "F" and high <= 1:
        values = values * 255
    elif high > 255 or image.mode.startswith("I;16"):
        values = values / (257 if high <= 65535 else high / 255)
    grey = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _fitted(rgb: np.ndarray, size: int | None, mode: str, background: tuple[int, int, int]) -> np.ndarray:
    """uint8 [H, W, 3] -> uint8 [size, size, 3]."""
    exact = AS_PROCESSORS.fullmatch(mode)
    if size is None or (rgb.shape[:2] == (size, size) and not (exact and exact[3])):
        return rgb
    image = Image.frombuffer("RGB", rgb.shape[1::-1], rgb, "raw", "RGB", 0, 1)  # without fromarray's second copy
    if exact:
        edge = size * int(exact[3] or 1) // int(exact[4] or 1)
        long = int(edge * max(image.size) / min(image.size))
        sides = (edge, edge) if exact[1] == "resize" else (edge, long) if image.width <= image.height else (long, edge)
        return centre_crop(np.asarray(image.resize(sides, Image.Resampling[exact[2].upper()])), (size, size))
    if mode == "crop":
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    elif mode == "pad":
        image = ImageOps.pad(image, (size, size), Image.Resampling.BICUBIC, color=background)
    else:
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return np.array(image, np.uint8)  # a copy: writable


def centre_crop(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 3] -> uint8 [*size, 3]; a smaller picture is filled up with zeros on all sides."""
    missing = np.maximum(np.subtract(size, picture.shape[:2]), 0)
    picture = np.pad(picture, [*zip((missing + 1) // 2, missing // 2, strict=True), (0, 0)])
    top, left = np.subtract(picture.shape[:2], size) // 2
    return picture[top : top + size[0], left : left + size[1]]


def rgb_of(picture, name: str = "The picture", upright: bool = True) -> np.ndarray:
    """uint8 [H, W, 3] of a picture in whatever form of TAKEN it is given, its transparency laid on white.

    upright: whether a Pillow image is turned by its EXIF orientation, as files are. Raises UserError for anything else, and for
    a picture without pixels.
    """
    if isinstance(picture, (str, os.PathLike, bytes, bytearray, memoryview)):
        return decode_image(picture)
    if isinstance(picture, Image.Image):
        if min(picture.size) < 1:
            raise UserError(f"{name} is {picture.width} x {picture.height} pixels, which is none.")
        try:
            picture.load()
            return _turned(to_rgb(picture), _orientation(picture) if upright else 1)
        except Exception as error:  # Pillow decodes late: a broken file shows here
            raise UserError(f"{name} cannot be decoded ({error}); its file may be truncated.") from error
    if isinstance(picture, (list, tuple, dict, set)) or not hasattr(picture, "__array__"):
        raise UserError(f"{name} is a {type(picture).__name__}: give {TAKEN}.")
    try:
        array = np.asarray(picture)
    except (TypeError, ValueError, RuntimeError) as error:  # a tensor with gradients, on a device, of a type that numpy lacks
        raise UserError(f"{name} is a {type(picture).__name__} that gives no array ({error}): give {TAKEN}.") from None
    told = f"{name} is {array.dtype} {list(array.shape)}"
    array = array[..., None] if array.ndim == 2 else array
    is_float = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
    if not (array.dtype == np.uint8 or is_float) or array.ndim != 3 or array.shape[-1] not in (1, 3, 4) or not array.size:
        raise UserError(f"{told}: give {TAKEN}.")
    if is_float:
        low, high = float(array.min()), float(array.max())
        if not (low >= -NEARLY and high <= 1 + NEARLY):  # NaN too
            raise UserError(f"{told} with values from {low:.4g} to {high:.4g}: floats must lie in 0..1; levels are uint8.")
        array = np.rint(np.clip(array.astype(np.float32), 0, 1) * 255).astype(np.uint8)
    array = np.ascontiguousarray(array[..., 0] if array.shape[-1] == 1 else array)
    return to_rgb(Image.fromarray(array))


def picture_of(example, size, mode="resize"):
    """uint8 [size, size, 3] of an example of a source, or of a picture in any form of TAKEN; mode: see `decode_image`.

    Raises UserError where an example's picture has another size.
    """
    if isinstance(example, (str, os.PathLike, bytes, bytearray, memoryview)):
        return decode_image(example, size, mode)
    if not isinstance(example, dict):
        rgb = rgb_of(example)
        return rgb if rgb.shape[:2] == (size, size) else _fitted(rgb, size, mode, WHITE)  # of that size it is prepared already
    image = example.get("image")
    if not hasattr(image, "shape"):
        raise UserError(f"The picture is a dict of {', '.join(map(str, example)) or 'nothing'}: give {TAKEN}.")
    if image.shape != (size, size, 3):
        raise UserError(
            f"{example['id']}: picture of shape {image.shape}, but examples.image_size={size}: give the source the same size."
        )
    return image

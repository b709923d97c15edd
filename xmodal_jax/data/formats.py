"""Which picture files are opened, and what they may cost: an allow-list of Pillow's decoders, none of which starts another
program, and a bound on the memory of each.
"""

from __future__ import annotations

import io
import math
import struct
import zlib

from PIL import Image

from xmodal_jax.errors import UserError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
SUFFIXES = frozenset(  # of the files that are taken for pictures in a folder
    ".jpg .jpeg .jpe .jfif .png .apng .webp .gif .bmp .tif .tiff .avif .jp2 .j2k .jpx .ppm .pgm .pbm .pnm".split()
)
REFUSED_SUFFIXES = frozenset(  # of pictures that are refused, and said to be, rather than passed over
    ".heic .heif .tga .psd .svg .eps .ico .jxl .exr .hdr .dds .pcx .dng .cr2 .nef .arw".split()
)
MAX_PIXELS = 110_000_000  # decoded at most, of 4 bytes each; where a decoder takes more memory, fewer
MAX_JPEG_PIXELS = 400_000_000  # a JPEG that is decoded at 1/2, 1/4 or 1/8: half a minute of work
BYTES = {"WEBP": 17, "AVIF": 10, "JPEG2000": 24}  # a pixel, measured; others: 4, and what `_bytes` adds
KNOWN = {  # first bytes of files that are often met and never opened: what they are
    b"%!PS": "PostScript, a program rather than a picture", b"\xc5\xd0\xd3\xc6": "PostScript, a program rather than a picture",
    b"%PDF": "a PDF document", b"8BPS": "a Photoshop document", b"<svg": "an SVG drawing", b"<?xm": "XML, perhaps a drawing",
    b"<!do": "a web page", b"<htm": "a web page", b"{": "JSON", b"PK\x03\x04": "a ZIP archive", b"\x1f\x8b": "a gzip archive",
    b"version https://git-lfs": "a Git LFS pointer, whose file was not fetched",
}  # fmt: skip
HEIF = (b"heic", b"heix", b"hevc", b"mif1", b"msf1")
PNG_HEAD = b"\x89PNG\r\n\x1a\n"
PNG_KEPT = (b"tRNS",)  # of the parts whose names begin small, what pixels hang on
XMP, XMP_MOST = b"XML:com.adobe.xmp\0\0", 1 << 16  # text that is not compressed, and can say which side is up


class ImageError(UserError):
    """An image that cannot be decoded; the message names the file."""


def open_image(data: bytes, name: str) -> Image.Image:
    """A picture whose header was read and whose pixels were not, of the bytes of a file; one of FORMATS, else an ImageError.

    Pillow's own guard against large pictures, a setting of the whole process, is not asked: `decoded_at` is.
    """
    data = _without_texts(data)
    Image.init()
    for kind in FORMATS:
        factory, accept = Image.OPEN.get(kind, (None, None))  # AVIF is missing in older versions
        if factory is None or (accept and accept(data[:16]) is not True):
            continue
        try:
            image = factory(io.BytesIO(data), "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # Pillow's way to say that it is another format
            continue
        if min(image.size) < 1:
            raise ImageError(f"Image {name}: it is {image.width} x {image.height} pixels, which is none.")
        return image
    what = next((told for head, told in KNOWN.items() if data.lstrip()[: len(head)].lower() == head.lower()), None)
    if data[4:8] == b"ftyp" and data[8:12] in HEIF:
        what = "HEIC, as some telephones write it: export it as JPEG"
    raise ImageError(
        f"Image {name}: this is not an image in a format that is read here ({', '.join(FORMATS)}), or its header is broken"
        f"{f'; it looks like {what}' if what else ''}."
    )


def decoded_at(image: Image.Image, least: int, name: str, max_pixels: int = MAX_PIXELS) -> None:
    """Let a JPEG decode itself at 1/2, 1/4 or 1/8 where both sides stay at least `least` pixels; raise an ImageError where
    what is decoded is more than the memory of `max_pixels` pixels allows."""
    width, height = image.size
    if image.format in ("JPEG", "MPO") and min(width, height) >= least:
        image.draft("RGB" if image.mode == "RGB" else None, (least, least))
    cost = image.width * image.height * _bytes(image) + _coefficients(image, width * height)
    if cost > 4 * max_pixels or width * height > MAX_JPEG_PIXELS:
        raise ImageError(
            f"Image {name}: {width} x {height} pixels of {image.format}"
            f"{', progressive,' if image.info.get('progressive') else ''} take {cost / 1e6:,.0f} MB to decode, more than the "
            f"limit of {4 * max_pixels / 1e6:,.0f} MB; scale the picture down, or leave it out."
        )


def _bytes(image: Image.Image) -> float:
    """Memory of a pixel while it is decoded."""
    if image.format != "TIFF":
        return BYTES.get(image.format, 4)
    tags = image.tag_v2  # a strip or tile is unpacked as a whole beside the picture
    rows, across, down = (tags.get(tag) for tag in (278, 322, 323))
    part = across * down if across and down else image.width * min(rows or image.height, image.height)
    return 4 + 4 * part / (image.width * image.height)


def _coefficients(image: Image.Image, pixels: int) -> int:
    """Memory of a progressive JPEG, whose coefficients are all kept until its end, however small it is decoded."""
    if not image.info.get("progressive"):
        return 0
    sampled = [layer[1] * layer[2] for layer in image.layer]
    return math.ceil(2 * pixels * sum(sampled) / max(sampled))


def _without_texts(data: bytes) -> bytes:
    """A PNG without the parts that its pixels do not hang on (texts, colour profiles, times), of which Pillow refuses large and
    broken ones; other files, and what is no row of whole parts, as they are."""
    kept, at = [data[: len(PNG_HEAD)]], len(PNG_HEAD)
    while data.startswith(PNG_HEAD) and at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kind, part = data[at + 4 : at + 8], memoryview(data)[at:end]
        says_up = kind == b"eXIf" or (kind == b"iTXt" and data.startswith(XMP, at + 8) and len(part) < XMP_MOST)
        if kind[:1].isupper() or kind in PNG_KEPT or (says_up and zlib.crc32(part[4:-4]) == int.from_bytes(part[-4:], "big")):
            kept.append(part)
        at = end
    return b"".join(kept) if len(kept) > 1 else data

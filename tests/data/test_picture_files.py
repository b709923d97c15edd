"""Which picture files are decoded whatever stands beside their pixels, which are refused, and what decoding may cost."""

import io
import os
import random
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from xmodal_jax.data import formats
from xmodal_jax.data.images import ImageError, decode_image, size_of

Image.init()
COLOURS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def encoded(kind="PNG", picture=None, **settings):
    out = io.BytesIO()
    (picture or Image.fromarray(COLOURS)).save(out, kind, **settings)
    return out.getvalue()


def with_part(kind, content, crc=None):
    """A PNG with one more part behind its header."""
    raw = encoded()
    crc = zlib.crc32(kind + content) if crc is None else crc
    return raw[:33] + struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc) + raw[33:]


LONG = zlib.compress(b"x" * (2 << 20))
XMP = b'<rdf tiff:Orientation="6"/>'


@pytest.mark.parametrize(
    ("kind", "content", "crc"),
    [
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LONG, None),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"x" * (2 << 20), None),
        (b"zTXt", b"Raw profile type exif\0\0" + LONG, None),
        (b"tEXt", b"Comment\0" + b"x" * (3 << 20), None),
        (b"iCCP", b"icc\0\0" + LONG, None),
        (b"iCCP", b"icc\0\0not compressed at all", None),
        (b"eXIf", b"MM\0*\0\0\xff\xff", None),
        (b"eXIf", b"no exif", None),
        (b"eXIf", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0", 5),  # upright but for its wrong sum
        (b"tIME", b"\0", None),
        (b"prVt", bytes(range(40)), 7),
    ],
)
def test_texts_and_profiles_of_a_png_do_not_matter(kind, content, crc):
    np.testing.assert_array_equal(decode_image(with_part(kind, content, crc)), COLOURS)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (b"eXIf", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
    ],
)
def test_a_png_is_turned_by_either_of_its_metadata(kind, content):
    np.testing.assert_array_equal(decode_image(with_part(kind, content)), np.rot90(COLOURS, -1))


@pytest.mark.parametrize(("kind", "settings"), [("JPEG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_broken_exif_and_profiles_do_not_matter(kind, settings):
    exif = Image.Exif()
    exif[0x010F], exif[0x011A] = "maker", 72.0
    exif.get_ifd(0x8769)[0x9286] = b"x" * 50
    whole, rng = exif.tobytes(), random.Random(1)
    expected = np.sort(decode_image(encoded(kind, **settings)).reshape(-1))
    for _ in range(40):
        broken = bytearray(whole)
        for _ in range(rng.choice([1, 5, 40])):
            broken[rng.randrange(6, len(broken))] = rng.randrange(256)
        metadata = {"icc_profile": rng.randbytes(300)} | ({"exif": bytes(broken)} if kind != "TIFF" else {})
        np.testing.assert_array_equal(np.sort(decode_image(encoded(kind, **settings, **metadata)).reshape(-1)), expected)


@pytest.mark.parametrize("kind", [kind for kind in formats.FORMATS if kind in Image.SAVE])
def test_every_format_of_the_list_is_decoded(kind):
    lossless = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}, "AVIF": {"quality": 100}}
    plain = Image.new("RGB", (24, 16), (200, 30, 60))
    array = decode_image(encoded(kind, plain, **lossless.get(kind, {})))
    assert array.shape == (16, 24, 3) and np.abs(array - np.array([200.0, 30, 60])).max() <= 3


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n", "PostScript"),
        (b"\xc5\xd0\xd3\xc6" + b"\0" * 40, "PostScript"),
        (b"8BPS\0\1" + b"\0" * 40, "Photoshop"),
        (b"\n<!DOCTYPE html><html>not found</html>", "web page"),
        (b"%PDF-1.7\n", "PDF"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (encoded("TGA"), "format"),
        (encoded("ICO"), "format"),
        (encoded("PCX"), "format"),
    ],
)
def test_what_is_no_picture_or_of_another_format_is_refused_by_what_it_is(data, what, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("a program is started"))
    with pytest.raises(ImageError, match=f"record 5.*{what}"):
        decode_image(data, name="record 5")


def test_a_picture_without_width_and_files_that_are_no_files(tmp_path):
    raw = bytearray(encoded())
    raw[16:20] = bytes(4)
    raw[29:33] = struct.pack(">I", zlib.crc32(raw[12:29]))
    with pytest.raises(ImageError, match="record 1"):
        decode_image(bytes(raw), name="record 1")
    os.mkfifo(tmp_path / "pipe.png")
    for place in (tmp_path, tmp_path / "pipe.png", "/dev/zero"):
        with pytest.raises(ImageError, match="regular file"):
            decode_image(place)
        with pytest.raises(ImageError, match="regular file"):
            size_of(place)
    with pytest.raises(ImageError, match="cannot be read"):
        decode_image("a\0.png")


def test_photos_of_many_megapixels_are_decoded_reduced():
    grey = encoded("JPEG", Image.new("L", (12000, 9000), 70))
    assert (decode_image(grey, 64) == 70).all()


def test_a_large_picture_is_reduced_by_averaging(monkeypatch):
    picture = Image.new("RGBA", (400, 200), (10, 20, 30, 255))
    picture.paste((90, 20, 30, 0), (0, 0, 200, 200))  # transparent
    whole = decode_image(encoded("PNG", picture), 20)
    monkeypatch.setattr("xmodal_jax.data.images.WHOLE", 30_000)
    monkeypatch.setattr("xmodal_jax.data.images.PART", 1_000)
    own = decode_image(encoded("PNG", picture))
    assert own.shape == (100, 200, 3) and (own[:, :100] == 255).all() and (own[:, 100:] == [10, 20, 30]).all()
    assert np.abs(decode_image(encoded("PNG", picture), 20).astype(int) - whole).max() <= 24  # beside the edge
    deep = Image.fromarray(np.full((200, 400), 257 * 40, np.uint16))
    assert (decode_image(encoded("PNG", deep), 20) == 40).all()


@pytest.mark.parametrize("size", [None, 8])
def test_what_takes_too_much_memory_is_refused_with_what_it_takes(size):
    plain = Image.new("RGB", (200, 150))
    for kind, settings in (("WEBP", {}), ("TIFF", {"compression": "tiff_lzw"}), ("JPEG", {"progressive": True}), ("PNG", {})):
        data = encoded(kind, plain, **settings)
        with pytest.raises(ImageError, match="200 x 150 pixels.*MB"):
            decode_image(data, size, max_pixels=8_000)
    baseline = encoded("JPEG", plain)
    assert decode_image(baseline, 8, max_pixels=2_000).shape == (8, 8, 3)  # it is decoded at 1/8


def mutated(rng, data):
    """Some bytes changed, the end cut off, or a piece doubled."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 3, 30])):
        data[rng.randrange(len(data)) if rng.random() < 0.5 else rng.randrange(min(64, len(data)))] = rng.randrange(256)
    cut = rng.randrange(len(data))
    return bytes(data[:cut] if rng.random() < 0.2 else data[:cut] + data[cut // 2 :] if rng.random() < 0.2 else data)


SAMPLES = [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("GIF", {}), ("BMP", {}), ("PPM", {}),
           ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("JPEG2000", {})]  # fmt: skip


def try_mutated(seed, count):
    """Decode mutated pictures: each is an array or an ImageError."""
    rng = random.Random(seed)
    files = [encoded(kind, Image.fromarray(COLOURS[:20, :30]), **settings) for kind, settings in SAMPLES]
    found = {"decoded": 0, "refused": 0}
    for number in range(count):
        try:
            array = decode_image(mutated(rng, files[number % len(files)]), rng.choice([None, 16]))
            assert array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3 and array.size
            found["decoded"] += 1
        except ImageError:
            found["refused"] += 1
    return found


@pytest.mark.filterwarnings("ignore")
def test_mutated_pictures_are_decoded_or_refused():
    found = try_mutated(0, 300)
    assert min(found.values()) > 20


WITHIN = """
import sys
sys.path.insert(0, sys.argv[1])
import test_picture_files as tried
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
tried.decode_image(tried.encoded()); before = peak()
exec(sys.argv[2])
print(peak() - before)
"""


def memory_of(work):
    """Bytes that a process of its own takes at most beyond what it has before."""
    command = [sys.executable, "-W", "ignore", "-c", WITHIN, os.path.dirname(__file__), work]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("size", [None, 64, 2000])
@pytest.mark.parametrize(("mode", "sides"), [("RGB", (12000, 9000)), ("RGBA", (6900, 6900)), ("I;16", (8900, 8900))])
def test_memory_stays_within_the_stated_bound(mode, sides, size, tmp_path):
    path = str(tmp_path / "large.png")
    Image.new(mode, sides).save(path, compress_level=1)
    assert memory_of(f"tried.decode_image({path!r}, {size})") < 512 * 2**20


@pytest.mark.slow
def test_mutated_pictures_stay_within_the_stated_bound():
    assert memory_of("assert min(tried.try_mutated(1, 2000).values()) > 100") < 512 * 2**20

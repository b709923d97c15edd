"""Decoding of odd image files."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from xmodal_jax.data import images
from xmodal_jax.data.images import ImageError, decode_image, encode_png, picture_of, rgb_of
from xmodal_jax.errors import UserError


def encoded(image, kind="PNG", **kwargs):
    buffer = io.BytesIO()
    image.save(buffer, kind, **kwargs)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("mode", "colour", "kind", "expected"),
    [
        ("1", 1, "PNG", (255, 255, 255)),
        ("L", 100, "PNG", (100, 100, 100)),
        ("LA", (100, 255), "PNG", (100, 100, 100)),
        ("LA", (100, 0), "PNG", (255, 255, 255)),
        ("RGBA", (0, 0, 200, 0), "PNG", (255, 255, 255)),
        ("RGBA", (0, 0, 255, 51), "PNG", (204, 204, 255)),
        ("CMYK", (0, 255, 255, 0), "TIFF", (255, 0, 0)),
        ("I;16", 257 * 40, "PNG", (40, 40, 40)),
        ("I", 65535, "TIFF", (255, 255, 255)),
        ("F", 0.5, "TIFF", (128, 128, 128)),
        ("RGB", (1, 2, 3), "BMP", (1, 2, 3)),
        ("P", 0, "GIF", (0, 0, 0)),
    ],
)
def test_every_mode_becomes_rgb(mode, colour, kind, expected):
    array = decode_image(encoded(Image.new(mode, (5, 3), colour), kind))
    assert array.shape == (3, 5, 3) and array.dtype == np.uint8 and array.flags.writeable
    np.testing.assert_allclose(array[1, 2], expected, atol=1)


def test_cmyk_jpeg_and_palette_with_transparency():
    assert decode_image(encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG")).shape == (8, 8, 3)
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    assert (decode_image(encoded(palette, transparency=1)) == 255).all()
    assert (decode_image(encoded(palette, transparency=0)) == 9).all()


def test_exif_orientation_turns_the_picture_upright():
    picture = Image.new("RGB", (32, 16), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(encoded(picture, "JPEG", exif=exif)).shape == (32, 16, 3)


@pytest.mark.parametrize("mode", images.MODES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (33, 20), (16, 16)])
def test_size_gives_a_square(mode, shape):
    assert decode_image(encoded(Image.new("RGB", shape, "blue")), 16, mode).shape == (16, 16, 3)


def test_modes_stretch_crop_and_pad():
    picture = np.zeros((10, 30, 3), np.uint8)
    picture[:, 10:20] = 200  # the middle third
    data = encode_png(picture)
    assert (decode_image(data, 10, "crop") == 200).all()
    padded = decode_image(data, 30, "pad", background=(7, 7, 7))
    assert (padded[0] == 7).all() and (padded[15, 15] == 200).all() and (padded[15, 0] == 0).all()
    assert (decode_image(data, 30, "resize")[:, 0] == 0).all()


def test_draft_decoding_of_a_large_jpeg_is_close_to_full_decoding():
    x = np.linspace(0, 255, 512)
    picture = np.stack(np.broadcast_arrays(x[:, None], x[None], 100.0), -1).astype(np.uint8)
    data = encoded(Image.fromarray(picture), "JPEG", quality=95)
    full = np.asarray(Image.open(io.BytesIO(data)).resize((32, 32), Image.Resampling.BICUBIC), np.int32)
    assert np.abs(decode_image(data, 32).astype(np.int32) - full).max() <= 4


def test_png_round_trip_is_exact():
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    np.testing.assert_array_equal(decode_image(encode_png(picture)), picture)


def test_errors_name_the_file(tmp_path):
    whole = encoded(Image.effect_noise((64, 64), 90).convert("RGB"), "JPEG")
    cases = {
        "cut.jpg": whole[: len(whole) // 2],
        "empty.jpg": b"",
        "text.jpg": b"hello",
        "head.png": b"\x89PNG\r\n\x1a\n",
    }
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError, match=name):
            decode_image(tmp_path / name)
    with pytest.raises(ImageError, match="no such file"):
        decode_image(tmp_path / "none.jpg")
    with pytest.raises(UserError, match="record 7"):
        decode_image(b"", name="record 7")


def test_decompression_bombs_are_refused():
    with pytest.raises(ImageError, match="more than the limit"):
        decode_image(encoded(Image.new("1", (3000, 3000))), max_pixels=1_000_000)
    with pytest.raises(ImageError):  # beyond Pillow's own guard as well
        decode_image(encoded(Image.new("1", (20_000, 10_000))))


def test_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="resize"):
        decode_image(b"", mode="stretch")


def test_the_same_picture_in_every_form_that_is_taken(tmp_path):
    levels = np.random.default_rng(0).integers(0, 256, (6, 5, 4), np.uint8)
    rgb, grey = levels[..., :3], levels[..., 0]
    (tmp_path / "p.png").write_bytes(encode_png(rgb))
    forms = [
        tmp_path / "p.png", str(tmp_path / "p.png"), encode_png(rgb), bytearray(encode_png(rgb)), Image.fromarray(rgb), rgb,
        rgb / 255, (rgb / 255).astype(np.float32), Image.open(tmp_path / "p.png"), jnp.asarray(rgb),
    ]  # fmt: skip
    for form in forms:
        np.testing.assert_array_equal(rgb_of(form), rgb)
        np.testing.assert_array_equal(picture_of(form, 4), decode_image(encode_png(rgb), 4))
    for form in (grey, grey[..., None], Image.fromarray(grey), grey / 255, (grey / 255)[..., None]):
        np.testing.assert_array_equal(rgb_of(form), np.repeat(grey[..., None], 3, -1))
    for form in (levels, Image.fromarray(levels), levels / 255):
        np.testing.assert_array_equal(rgb_of(form), decode_image(encoded(Image.fromarray(levels))))


def test_a_pillow_image_is_turned_as_its_file_is(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.arange(60, dtype=np.uint8).reshape(10, 6)).save(tmp_path / "p.png", exif=exif)
    np.testing.assert_array_equal(rgb_of(Image.open(tmp_path / "p.png")), decode_image(tmp_path / "p.png"))
    assert images.size_of(tmp_path / "p.png") == (10, 6)


@pytest.mark.parametrize(
    "picture",
    [
        None, 3, 1.5, [1, 2], {1, 2}, object(), np.zeros((4, 4, 3)) + 2, np.full((4, 4), np.nan), np.zeros((4, 4, 3), np.int64),
        np.zeros((4, 4, 3), bool), np.zeros((3, 8, 9), np.uint8), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8),
        np.zeros(5, np.uint8), np.zeros((2, 4, 4, 3), np.uint8), np.array(["a.png"]), -np.ones((4, 4)),
        Image.new("RGB", (0, 4)),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused(picture):
    with pytest.raises(UserError, match="Photo 3 is"):
        rgb_of(picture, "Photo 3")

"""Every modality as bytes (claim 1, S120-S130): ByT5's ids by its own tokeniser, and round trips."""

import numpy as np
import pytest

from xmodal_jax.data import bytes as byte_ids

LANGUAGES = {
    "en": "A child is holding a bat.", "ko": "아이가 배를 들고 있다", "zh": "一个孩子拿着球棒",
    "ja": "子供がバットを持っている",
    "ar": "طفل يحمل مضربًا", "hi": "एक बच्चा बल्ला पकड़े हुए है", "ru": "Ребёнок держит биту", "th": "เด็กถือไม้เบสบอล",
    "de": "Ein Kind hält einen Schläger", "he": "ילד מחזיק מחבט",
    "el": "Ένα παιδί κρατά ρόπαλο", "vi": "Một đứa trẻ cầm gậy",
    "emoji": "👩‍👧‍👦🦇🏳️‍🌈", "odd": "\x00\x01 tab\tnew\nline \u200b\ufeff \x7f  two  spaces ",
}  # fmt: skip


def random_text(rng, length):
    """Characters from all planes, surrogates left out."""
    points = rng.choice([128, 0x800, 0xD800, 0x110000], length)
    return "".join(chr(p) for p in rng.integers(0, points) if not 0xD800 <= p < 0xE000)


@pytest.fixture(scope="module")
def byt5():
    return pytest.importorskip("transformers").ByT5Tokenizer()


@pytest.mark.parametrize("lang", LANGUAGES)
def test_ids_are_those_of_the_byt5_tokeniser(byt5, lang):
    text = LANGUAGES[lang]
    expected = byt5(text, add_special_tokens=False).input_ids
    ids = byte_ids.encode_text(text)
    assert ids.dtype == np.int32 and ids.tolist() == expected
    assert byte_ids.decode_text([*ids, byte_ids.END]) == text


def test_special_ids_and_sentinels_are_those_of_the_byt5_tokeniser(byt5):
    assert len(byt5) == byte_ids.VOCABULARY
    assert (byt5.pad_token_id, byt5.eos_token_id, byt5.unk_token_id) == (byte_ids.PAD, byte_ids.END, byte_ids.UNKNOWN)
    names = [f"<extra_id_{i}>" for i in range(byte_ids.SENTINELS)]
    assert byt5.convert_tokens_to_ids(names) == [byte_ids.sentinel(i) for i in range(byte_ids.SENTINELS)]
    for wrong in (-1, byte_ids.SENTINELS):
        with pytest.raises(ValueError, match="sentinel"):
            byte_ids.sentinel(wrong)
    with_gap = byt5("a <extra_id_0> b", add_special_tokens=False).input_ids
    assert 259 in with_gap and byte_ids.sentinel(0) == 259


def test_any_utf8_comes_back(rng):
    for length in (0, 1, 2, 7, 100):
        text = random_text(rng, length)
        ids = byte_ids.encode_text(text)
        assert len(ids) == len(text.encode()) and (ids.size == 0 or (ids.min() >= 3 and ids.max() <= 258))
        assert byte_ids.decode_text(ids) == text
    assert byte_ids.encode_text("").shape == (0,) and byte_ids.decode_text([]) == ""


def test_lone_surrogates_and_broken_bytes_do_not_raise():
    assert byte_ids.decode_text(byte_ids.encode_text("a\ud800b\udfff")) == "a?b?"
    whole = byte_ids.encode_text("배")
    assert byte_ids.decode_text(whole[:2]) == "\ufffd"
    assert byte_ids.decode_text([0, *whole, 259, 300, 1, 100]) == "배"  # pads, sentinels, what follows the end mark


@pytest.mark.parametrize(("height", "width", "patch"), [(8, 12, 4), (1, 1, 1), (14, 28, 14)])
def test_image_bytes_come_in_patch_order_and_back(rng, height, width, patch):
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    raw = byte_ids.image_bytes(image, patch)
    group = patch * patch * 3
    assert raw.dtype == np.uint8 and raw.shape == (height * width * 3,)
    number = int(rng.integers(len(raw) // group))
    row, column = divmod(number, width // patch)
    block = image[row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
    np.testing.assert_array_equal(raw[number * group : (number + 1) * group], np.frombuffer(block.tobytes(), np.uint8))
    np.testing.assert_array_equal(byte_ids.image_from_bytes(raw, patch, height, width), image)


def test_image_that_is_no_whole_number_of_patches_is_refused():
    with pytest.raises(ValueError, match="5 x 8"):
        byte_ids.image_bytes(np.zeros((5, 8, 3), np.uint8), 4)


def test_audio_and_series_are_little_endian_of_fixed_width(rng):
    samples = rng.integers(-32768, 32768, 50).astype(np.int16)
    expected = b"".join(int(s).to_bytes(2, "little", signed=True) for s in samples)
    assert byte_ids.audio_bytes(samples).tobytes() == expected
    assert byte_ids.audio_bytes(samples[::2]).tobytes() == samples[::2].astype("<i2").tobytes()  # not contiguous
    values = rng.normal(size=(5, 3)).astype(np.float32)
    raw = byte_ids.series_bytes(values)
    assert raw.dtype == np.uint8 and raw.shape == (60,)
    np.testing.assert_array_equal(np.frombuffer(raw.tobytes(), "<f4").reshape(5, 3), values)
    big_endian = values.astype(">f4")
    np.testing.assert_array_equal(byte_ids.series_bytes(big_endian), raw)


def test_fit_cuts_or_pads_with_zeros_and_tells_the_used_length(rng):
    raw = rng.integers(1, 256, 10).astype(np.uint8)
    for length in (0, 4, 10, 15):
        out, used = byte_ids.fit(raw, length)
        assert out.dtype == np.uint8 and len(out) == length and used == min(10, length)
        np.testing.assert_array_equal(out[:used], raw[:used])
        assert not out[used:].any()
    out, used = byte_ids.fit(np.zeros(0, np.uint8), 3, np.int32)
    assert out.dtype == np.int32 and out.tolist() == [0, 0, 0] and used == 0

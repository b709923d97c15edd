"""Tokenisers learned from captions, changes of pictures, and the arrays of a captioner's examples."""

import numpy as np
import pytest

from xmodal_jax.data.augment import augment, augment_with_boxes
from xmodal_jax.data.captioning import ABSENT, NAMES, THERE, UNSAID, CaptionExamples, CaptionMaker
from xmodal_jax.data.tokenizers import content_words, learn_tokenizer
from xmodal_jax.errors import UserError

CAPTIONS = [["A red car.", "The red car stops."], ["A dog's tail, red.", "A dog"], ["a red  house"]]


class Source:
    """Three pictures with captions."""

    def __init__(self, size=8):
        rng = np.random.default_rng(0)
        self.pictures = rng.integers(0, 256, (3, size, size, 3)).astype(np.uint8)

    def __len__(self):
        return 3

    def captions(self, i):
        return CAPTIONS[i], None, "en"

    def __getitem__(self, i):
        return {"id": f"p/{i}", "image": self.pictures[i], "captions": CAPTIONS[i], "lang": "en"}


def maker(**settings):
    spec = settings.pop("tokenizer", "words:1")
    tokenizer = learn_tokenizer(spec, [text for texts in CAPTIONS for text in texts])
    config = CaptionExamples(image_size=8, length=6, tokenizer=spec, **{"flips": "none"} | settings)
    return CaptionMaker(config, tokenizer, Source())


def test_words_are_lower_case_and_rare_ones_unknown():
    tokenizer = learn_tokenizer("words:2", [text for texts in CAPTIONS for text in texts])
    ids = tokenizer("A red HOUSE.", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["a", "red", "<unk>", "."]
    assert tokenizer.eos_token_id == 0 == tokenizer.pad_token_id


@pytest.mark.parametrize("spec", ["words:1", "bpe:300"])
def test_ids_come_back_as_the_caption(spec):
    made = maker(tokenizer=spec)
    ids, length = made.caption("a dog's tail, red.")
    expected = "a dog's tail, red." if spec == "words:1" else "a dog's tail, red."[: len(made.text(ids[1:length]))]
    assert made.text(ids[1:]) == expected and ids[length] == made.end == ids[0]


@pytest.mark.parametrize("spec", ["words:x", "letters", "bpe", "words:99"])
def test_a_tokenizer_that_cannot_be_learned_is_refused(spec):
    with pytest.raises(UserError, match="tokenizer"):
        learn_tokenizer(spec, ["a b"])


def test_a_caption_is_cut_and_keeps_its_closing_end_mark():
    made = maker()
    ids, length = made.caption("red " * 20)
    assert len(ids) == 8 and length == 7 and (ids[1:7] == ids[1]).all() and ids[7] == ids[0] == 0


def test_names_are_the_words_that_tell_pictures_apart():
    rows = [[[1, 2], [1, 3]], [[1, 4]], [[1, 5]], [[1, 2]]]
    assert content_words(rows, common=0.5) == {2, 3, 4, 5}
    made = maker()
    red = made.ids("red")[0]
    assert red not in made.content
    names = made.names(tuple(CAPTIONS[1]))
    words = made.tokenizer.convert_ids_to_tokens([i for i in names if i >= 0])
    assert len(names) == NAMES and "dog" in words and "red" not in words


def test_examples_are_a_function_of_seed_and_position():
    made, source = maker(flips="all", zoom=1.5, brightness=0.3), Source()
    first, again, other = made(source[0], 5), made(source[0], 5), made(source[0], 6)
    for key, value in made.example_batch(1).items():
        np.testing.assert_array_equal(first[key], again[key])
        assert np.shape(first[key]) == value.shape[1:] and first[key].dtype == value.dtype
    assert not (first["image"] == other["image"]).all()


def test_shuffled_pictures_keep_one_wrong_set_of_captions():
    made, source = maker(shuffled=True), Source(8)
    seen = {i: {tuple(made(source[i], p)["caption"]) for p in range(20)} for i in range(3)}
    for i, captions in seen.items():
        owners = {j for j in range(3) for text in CAPTIONS[j] if tuple(made.caption(text)[0]) in captions}
        assert len(owners) == 1 and i not in owners


def test_flips_are_the_symmetries_that_are_asked_for(rng):
    image = rng.integers(0, 256, (6, 6, 3)).astype(np.uint8)
    symmetries = [np.rot90(flipped, k).tobytes() for flipped in (image, image[:, ::-1]) for k in range(4)]
    for flips, count in {"none": 1, "horizontal": 2, "all": 8}.items():
        found = {augment(image, np.random.default_rng(i), flips).tobytes() for i in range(200)}
        assert found <= set(symmetries) and len(found) == count


def test_zoom_cuts_out_and_brightness_keeps_the_order_of_levels(rng):
    ramp = np.broadcast_to(np.arange(0, 240, 8, dtype=np.uint8)[None, :, None], (30, 30, 3))
    near = augment(ramp, np.random.default_rng(1), "none", zoom=2.0)
    assert near.shape == ramp.shape and near.max() - near.min() < ramp.max() - ramp.min()
    bright = augment(ramp, rng, "none", brightness=0.5)
    assert (np.diff(bright[0].astype(int), axis=0) >= 0).all() and not (bright == ramp).all()


@pytest.mark.parametrize("zoom", [1.0, 1.8])
def test_boxes_go_with_what_they_are_around(rng, zoom):
    """A white rectangle on black is found again where its box says."""
    seen = set()
    for number in range(60):
        (x0, x1), (y0, y1) = (np.sort(rng.choice(61, 2, replace=False)) for _ in range(2))
        image = np.zeros((60, 60, 3), np.uint8)
        image[y0:y1, x0:x1] = 255
        box = np.array([x0, y0, x1, y1]) / 60
        changed, (found,) = augment_with_boxes(image, [box], np.random.default_rng(number), "all", zoom, 0.1)
        again = augment(image, np.random.default_rng(number), "all", zoom, 0.1)
        np.testing.assert_array_equal(changed, again)
        rows, columns = (np.flatnonzero((changed[..., 0] > 127).any(axis)) for axis in (1, 0))
        if len(rows):
            wanted = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / 60
            np.testing.assert_allclose(found, wanted, atol=1e-6 if zoom == 1 else 1.5 / 60)
            seen.add(tuple(np.round(found, 3)) == tuple(np.round(box.astype(np.float32), 3)))
        else:
            assert (found[2:] - found[:2]).min() <= 1.5 / 60  # cut off
    assert seen == {False, True} or zoom > 1


def test_phrases_mean_an_object_or_none_in_equal_shares():
    made = maker(phrases=4)
    boxes = {"red car": [0, 0, 0.5, 0.5], "dog": [0.25, 0.5, 1, 1]}
    example = Source(8)[0] | {"phrases": [{"phrase": text, "box": box} for text, box in boxes.items()], "absent": ["house"]}
    said = []
    for position in range(100):
        found = made(example, position)
        assert {name: (array.shape, array.dtype) for name, array in found.items()} == {
            name: (array.shape[1:], array.dtype) for name, array in made.example_batch(2).items()
        }
        for ids, length, box, kind in zip(*(found[f"phrase{part}"] for part in ("", "_length", "_box", "_said")), strict=True):
            text = made.text(ids[1:])
            assert length == len(text.split()) + 1 and (text == "house") == (kind == ABSENT)
            np.testing.assert_array_equal(box, np.float32(boxes.get(text, [0] * 4)))
            said.append(kind)
    assert 0.4 < np.mean(np.array(said) == THERE) < 0.6
    nothing = made(Source(8)[0], 0)
    assert (nothing["phrase_said"] == UNSAID).all()
    far = maker(phrases=4, zoom=4.0)  # what is cut off is not asked for
    corner = example | {"phrases": [{"phrase": "dog", "box": [0, 0, 0.01, 0.01]}], "absent": []}
    assert {kind for position in range(50) for kind in far(corner, position)["phrase_said"]} == {THERE, UNSAID}


@pytest.mark.parametrize("settings", [{"flips": "up"}, {"zoom": 0.5}, {"brightness": 2.0}, {"length": 0}])
def test_settings_without_sense_are_refused(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        CaptionExamples(**settings)


def test_a_picture_of_another_size_is_refused():
    with pytest.raises(UserError, match="image_size=8"):
        maker()({"id": "x", "image": np.zeros((4, 4, 3), np.uint8), "captions": ["a"], "lang": "en"}, 0)

"""The emoji pack: senses by pictures, splits by family, Korean 배."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xmodal_jax.data.senses import LeskScorer, choose_sense
from xmodal_jax.data.sources.emoji import Emoji, family
from xmodal_jax.errors import UserError

REAL = os.environ.get("XMODAL_REAL_DATA")
real_data = pytest.mark.skipif(not REAL, reason="set XMODAL_REAL_DATA to the folder of data packs")
LANGUAGES = ("en", "ko", "ja", "zh", "de", "fr", "es", "ar")

# codepoint, group, subgroup, Korean words, English words, German words
ROWS = [
    ("1F350", "Food & Drink", "food-fruit", ["배", "과일"], ["pear", "fruit"], ["Birne", "Obst"]),
    ("1F6A2", "Travel & Places", "transport-water", ["선박", "배"], ["ship", "boat"], ["Schiff", "Boot"]),
    ("1F6F6", "Travel & Places", "transport-water", ["카누", "배"], ["canoe", "boat"], ["Kanu", "Boot"]),
    ("1F6A3", "People & Body", "person-sport", ["노젓기", "배"], ["rowing", "boat"], ["Rudern", "Boot"]),
    ("1F34E", "Food & Drink", "food-fruit", ["사과", "과일"], ["apple", "fruit"], ["Apfel", "Obst"]),
]


@pytest.fixture(name="pack")
def small_pack(tmp_path):
    folder = tmp_path / "emoji"
    (folder / "images").mkdir(parents=True)
    rows = []
    for i, (point, group, subgroup, *words) in enumerate(ROWS):
        Image.new("RGBA", (72, 72), (10 * i, 0, 0, 255 if i else 0)).save(folder / "images" / f"emoji_u{point.lower()}.png")
        lang = {key: {"name": two[0], "keywords": sorted(two)} for key, two in zip(("ko", "en", "de"), words, strict=True)}
        rows.append({"emoji": chr(int(point, 16)), "image": f"images/emoji_u{point.lower()}.png", "codepoints": [point]})
        rows[-1] |= {"group": group, "subgroup": subgroup, "lang": lang}
    (folder / "annotations.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_a_word_has_a_sense_for_each_kind_of_picture(pack):
    source = Emoji(path=pack, split_fractions=(1, 0, 0))
    senses = source.inventory().senses("배")
    assert [sense.id for sense in senses] == [
        "배@transport-water",
        "배@food-fruit",
    ]  # rowing says "boat" in two languages
    assert set(senses[0].synonyms) == {"선박", "카누", "노젓기"} and senses[1].synonyms == ("과일",)
    assert len(source.inventory().senses("과일")) == 1 and source.inventory().lemma("배를") == "배"


def test_glosses_come_from_the_dictionary_beside_the_pack(pack):
    (pack.parent / "dictionary").mkdir()
    senses = [
        {"id": "1", "gloss": "a vessel", "english": ["ship", "boat"]},
        {"id": "2", "gloss": "a fruit", "english": ["pear"]},
    ]
    (pack.parent / "dictionary" / "omw_nouns_ko.jsonl.gz").write_text(json.dumps({"lemma": "배", "senses": senses}))
    assert [sense.gloss for sense in Emoji(path=pack, split_fractions=(1, 0, 0)).inventory().senses("배")] == [
        "a vessel",
        "a fruit",
    ]
    without = Emoji(path=pack, split_fractions=(1, 0, 0), dictionary=False)
    assert without.inventory().senses("배")[1].gloss == "과일"


def test_captions_and_mentions(pack):
    source = Emoji(path=pack, split_fractions=(1, 0, 0))
    captions, mentions, lang = source.captions(1)
    assert captions == ["선박", "선박 · 배", "배"] and lang == "ko"
    assert mentions == [[(0, 2, "선박")], [(0, 2, "선박"), (5, 6, "배")], [(0, 1, "배")]]


def test_pictures_stand_on_a_background(pack):
    white = Emoji(path=pack, split_fractions=(1, 0, 0), size=16)
    assert (white[0]["image"] == 255).all() and white[0]["image"].shape == (16, 16, 3)
    light = Emoji(path=pack, split_fractions=(1, 0, 0), background="light")
    colour = light[0]["image"][0, 0]
    assert colour.min() >= 200 and (light[0]["image"] == colour).all() and (light[0]["image"][0, 0] == colour).all()


def test_several_languages_are_examples_of_their_own(pack):
    source = Emoji(path=pack, lang=("en", "ko"), split_fractions=(1, 0, 0), file_bytes=True)
    assert len(source) == 10
    assert (source[4]["captions"][0], source[5]["captions"][0]) == ("canoe", "카누")
    assert (source[4]["id"], source[5]["id"]) == ("emoji/en/emoji_u1f6f6", "emoji/ko/emoji_u1f6f6")
    assert source[5]["image_file"][:4] == b"\x89PNG" and set(source.inventories()) == {"en", "ko"}
    assert pickle.loads(pickle.dumps(source)).captions(4) == source.captions(4)


def test_sense_items(pack):
    source = Emoji(path=pack, split_fractions=(1, 0, 0), size=8)
    items = source.sense_items(10, seed=1)
    assert len(items) == 4 and {item["word"] for item in items} == {"배"}
    for item in items:
        start, end = item["span"]
        assert item["text"][start:end] == "배" and item["lang"] == "ko"
        assert item["senses"] == ("배@transport-water", "배@food-fruit")
        assert item["sense"] != item["swapped_sense"] and item["swapped_sense"] in item["senses"]
        np.testing.assert_array_equal(item["image"], source[item["index"]]["image"])
        assert not np.array_equal(item["image"], item["swapped_image"])
        np.testing.assert_array_equal(item["wrong_image"], source[4]["image"])  # the apple
    again = source.sense_items(2, seed=1)
    assert [item["index"] for item in again] == [item["index"] for item in items[:2]]


def test_folds_hold_every_picture_out_once(pack):
    """Of two fruits and three boats no fold of two has all of a kind."""
    folds = [{split: Emoji(path=pack, split=split, folds=2, fold=k) for split in ("train", "val")} for k in (0, 1)]
    names = [{split: {source[i]["id"] for i in range(len(source))} for split, source in fold.items()} for fold in folds]
    assert names[0]["train"] == names[1]["val"] and names[0]["val"] == names[1]["train"]
    assert sorted(map(len, (names[0]["val"], names[0]["train"]))) == [2, 3]
    assert all(len(found["val"] & {"emoji/ko/emoji_u1f350", "emoji/ko/emoji_u1f34e"}) == 1 for found in names)  # one fruit each
    with pytest.raises(UserError, match="fold 0 to 1 of them"):
        Emoji(path=pack, folds=2, fold=2)
    with pytest.raises(UserError, match="there is no test"):
        Emoji(path=pack, split="test", folds=2)


def test_a_sense_may_be_learned_from_its_other_words(pack):
    """No pear in train, but another fruit: the held-out pear is asked about; without any fruit it is not."""
    assert {item["sense"] for item in _holding(pack, "emoji_u1f350").sense_items(10)} == {"배@food-fruit", "배@transport-water"}
    lines = (pack / "annotations.jsonl").read_text().splitlines()
    (pack / "annotations.jsonl").write_text("\n".join(lines[:-1]))  # no apple
    assert _holding(pack, "emoji_u1f350").sense_items(10) == []


def _holding(pack, name):
    """Of two folds the one that holds a picture out."""
    folds = [Emoji(path=pack, split="val", folds=2, fold=fold) for fold in (0, 1)]
    return next(fold for fold in folds if f"emoji/ko/{name}" in {fold[i]["id"] for i in range(len(fold))})


def test_family_joins_gender_person_and_hair():
    assert family(["1F6A3", "200D", "2642", "FE0F"]) == family(["1F6A3", "200D", "2640", "FE0F"])
    assert family(["1F468", "200D", "1F3A8"]) == family(["1F469", "200D", "1F3A8"]) == family(["1F9D1", "200D", "1F3A8"])
    assert family(["1F469", "200D", "1F9B0"]) == family(["1F468"]) and family(["1F9B0"]) == "1F9B0"
    assert family(["1FAC3"]) == family(["1FAC4"]) == family(["1F930"])


def test_errors(pack, tmp_path):
    with pytest.raises(UserError, match="annotations.jsonl"):
        Emoji(path=tmp_path)
    with pytest.raises(UserError, match="no annotation in ja; the languages here are de, en, ko"):
        Emoji(path=pack, lang="ja")
    with pytest.raises(UserError, match="background"):
        Emoji(path=pack, background="blue")
    with pytest.raises(UserError, match="no emoji in split 'val'"):
        Emoji(path=pack, split="val", split_fractions=(1, 0, 0))
    with (pack / "annotations.jsonl").open("a") as file:
        file.write("\n{}")
    with pytest.raises(UserError, match=r"annotations\.jsonl:6: .*codepoints"):
        Emoji(path=pack)


@pytest.fixture(name="korean", scope="module")
def all_korean():
    if not REAL:
        pytest.skip("set XMODAL_REAL_DATA to the folder of data packs")
    return {split: Emoji(path=Path(REAL) / "emoji", split=split) for split in ("train", "val", "test")}


def test_real_splits_keep_families_together(korean):
    families = {split: {source[i]["group"] for i in range(0, len(source), 7)} for split, source in korean.items()}
    whole = {split: {source._all[i]["family"] for i in source._rows} for split, source in korean.items()}
    assert families["train"] <= whole["train"]
    assert not whole["train"] & whole["test"] and not whole["train"] & whole["val"] and not whole["val"] & whole["test"]
    sizes = {split: len(source) for split, source in korean.items()}
    assert sum(sizes.values()) == 1597
    assert 0.80 < sizes["train"] / 1597 < 0.90 and 0.07 < sizes["test"] / 1597 < 0.13


def test_real_bae_is_pear_ship_and_belly(korean):
    """The senses found without the dictionary's help are those that were read through by hand."""
    source = korean["train"]
    record = json.loads((Path(REAL) / "dictionary" / "bae_ko.json").read_text("utf-8"))
    theirs = {row["image"]: row["sense_group"] for row in record["emoji"]}
    ours = {source._all[i]["image"]: sense.id for sense in source._senses["ko"]["배"] for i in sense.pictures}
    assert set(ours) == set(theirs)
    assert {(ours[image], theirs[image]) for image in ours} == {
        ("배@food-fruit", "fruit"),
        ("배@transport-water", "ship"),
        ("배@person-role", "belly"),
    }
    glosses = {sense["id"]: sense["gloss"] for sense in record["senses"]}
    allowed = {group: {glosses[name] for name in names} for group, names in record["sense_groups"].items()}
    senses = {sense.id: sense for sense in source.inventory().senses("배")}
    assert senses["배@food-fruit"].gloss in allowed["fruit"] and "과일" in senses["배@food-fruit"].synonyms
    assert senses["배@transport-water"].gloss in allowed["ship"] and "선박" in senses["배@transport-water"].synonyms
    assert senses["배@person-role"].gloss in allowed["belly"] and "임신" in senses["배@person-role"].synonyms


def test_real_held_out_pictures_have_sense_items_with_bae(korean):
    items = korean["test"].sense_items(1000)
    assert len(items) >= 5 and "배" in {item["word"] for item in items}
    trained = {korean["train"]._all[i]["image"] for i in korean["train"]._rows}
    for item in items:
        row = korean["test"]._at(item["index"])[0]
        assert row["image"] not in trained and item["word"] in row["words"]["ko"]


def test_claim_6_real_captions_choose_the_sense_of_their_own_picture(korean):
    """Symbolic scorer, Korean captions beside each picture of 배: the keywords settle the sense."""
    source, right = korean["train"], 0
    rows = {sense.id: sorted(sense.pictures) for sense in source._senses["ko"]["배"]}
    for name, pictures in rows.items():
        for i in pictures:
            captions = [text for text, _ in source._captions(source._all[i], "ko")]
            found = choose_sense(source.inventory().senses("배"), captions, "배", LeskScorer("ko"), 0.05)
            right += found is not None and found.id == name
    assert right == 8


@real_data
@pytest.mark.parametrize("lang", LANGUAGES)
def test_real_every_language_has_ambiguous_words_and_right_mentions(lang):
    source = Emoji(path=Path(REAL) / "emoji", split="test", lang=lang)
    assert len(source.sense_items()) >= 5
    for i in range(len(source)):
        captions, mentions, _ = source.captions(i)
        assert 1 <= len(captions) <= 5 and len(mentions) == len(captions)
        for text, found in zip(captions, mentions, strict=True):
            assert found and all(text[start:end] == name for start, end, name in found)

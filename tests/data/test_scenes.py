"""The built-in scenes: every text, box, answer and label is checked against what is drawn."""

import dataclasses
import io
import pickle
import random
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from xmodal_jax.data.sources.scenes import Scenes, scene_senses
from xmodal_jax.data.sources.scenes.drawing import COLORS, rasterise
from xmodal_jax.data.sources.scenes.figures import FIGURES
from xmodal_jax.data.sources.scenes.korean import PARTICLES
from xmodal_jax.data.sources.scenes.language import captions
from xmodal_jax.data.sources.scenes.layout import PARTS, part, sample, signature
from xmodal_jax.data.sources.scenes.sound import sound, voice
from xmodal_jax.data.sources.scenes.source import FIELDS, GRAMMARS
from xmodal_jax.data.sources.scenes.things import AMBIGUOUS, DENOTES, FAMILY, KEYS, LANGUAGES, THINGS
from xmodal_jax.errors import UserError


def same(one, other):
    """Equal, down to arrays inside dictionaries and lists."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return one == other


def expressions(key, lang):
    words = THINGS[key].words[lang]
    return (*words.ambiguous, *words.names, *words.kinds)


# ---- the table of things


def test_every_thing_is_drawn_named_and_explained():
    assert set(FIGURES) == set(KEYS) and len(KEYS) >= 45
    assert {"person", "animal", "vehicle", "fruit", "tool", "shape"} <= {thing.category for thing in THINGS.values()}
    for thing in THINGS.values():
        for lang in LANGUAGES:
            words = thing.words[lang]
            assert words.names and words.kinds and words.gloss, (thing.key, lang)


def test_enough_ambiguous_words_and_other_expressions_settle_the_sense():
    assert len(AMBIGUOUS["en"]) >= 8 and len(AMBIGUOUS["ko"]) >= 3
    assert set(AMBIGUOUS["ko"]["배"]) == {"pear", "ship", "belly"}
    assert any(len(senses) >= 3 for senses in AMBIGUOUS["en"].values())
    for lang in LANGUAGES:
        for word, senses in AMBIGUOUS[lang].items():
            assert len(senses) >= 2
            assert DENOTES[lang][word] == senses, "an ambiguous word is no name or kind of another thing"
            others = [set(expressions(key, lang)) - {word} for key in senses]
            assert len(set().union(*others)) == sum(map(len, others)), f"{word}: two senses share an expression"


def test_pictures_of_the_senses_of_a_word_differ_strongly():
    for lang in LANGUAGES:
        for word, senses in AMBIGUOUS[lang].items():
            drawn = [rasterise(key, "red", 26).astype(float) for key in senses]
            for i, one in enumerate(drawn):
                for other in drawn[:i]:
                    shape = np.abs(one[..., 3] - other[..., 3]).mean() / np.minimum(one[..., 3], other[..., 3]).mean()
                    assert shape > 0.3, (word, senses)


def test_any_two_things_differ_at_the_smallest_size():
    drawn = {key: rasterise(key, "blue", 18).astype(float) for key in KEYS}
    shown = {key: np.where(rgba[..., 3:] > 127, rgba[..., :3], 255) for key, rgba in drawn.items()}
    for key in KEYS:
        for other in KEYS:
            assert key == other or np.abs(shown[key] - shown[other]).mean() > 8, (key, other)


def test_main_colour_prevails_in_every_figure():
    def hue(key, color):
        rgba = rasterise(key, color, 32).astype(float)
        return rgba[..., :3][rgba[..., 3] > 200].mean(0)

    for key in KEYS:
        means = [hue(key, color) for color in COLORS]
        gaps = [np.abs(one - other).sum() for i, one in enumerate(means) for other in means[:i]]
        assert min(gaps) > 8, key


# ---- scenes and splits


def test_deterministic_and_equal_from_a_pickled_copy():
    source = Scenes(size=32, fields=FIELDS, file_bytes=True, count=64, cache=True)
    first = [source[i] for i in range(12)]
    copy = pickle.loads(pickle.dumps(source))
    again = Scenes(size=32, fields=FIELDS, file_bytes=True, count=64)
    for i in reversed(range(12)):
        assert same(first[i], copy[i]) and same(first[i], again[i]) and same(first[i], source[i])
    assert not same(first[0], Scenes(size=32, fields=FIELDS, file_bytes=True, count=64, seed=1)[0])


def test_splits_share_no_scene_whatever_the_seed():
    seen = {}
    for split, parts in PARTS.items():
        scenes = [sample(seed, split, i, LANGUAGES[i % 2]) for seed in (0, 1) for i in range(1500)]
        assert all(part(scene) in parts for scene in scenes)
        seen[split] = {signature(scene) for scene in scenes}
    assert not seen["train"] & seen["val"] and not seen["train"] & seen["test"] and not seen["val"] & seen["test"]
    assert not set(PARTS["train"]) & set(PARTS["val"]) and not set(PARTS["val"]) & set(PARTS["test"])


def test_a_variant_stays_in_its_split():
    for i in range(200):
        scene = sample(0, "val", i, LANGUAGES[i % 2])
        assert all(part(scene.with_main(key)) in PARTS["val"] for key in FAMILY[scene.objects[0].key])


def test_main_objects_are_large_and_others_overlap_little():
    for i in range(1000):
        objects = sample(0, "train", i, "en").objects
        assert 1 <= len(objects) <= 3 and objects[0].width >= 0.4
        assert len({thing.key for thing in objects}) == len(objects)
        for thing in objects:
            half = thing.width / 2
            assert half <= thing.x <= 1 - half and half <= thing.y <= 1 - half
            for other in objects:
                across = (thing.width + other.width) / 2 - abs(thing.x - other.x)
                down = (thing.width + other.width) / 2 - abs(thing.y - other.y)
                covered = max(across, 0) * max(down, 0) / min(thing.width, other.width) ** 2
                assert thing == other or covered < 0.25


@pytest.mark.parametrize("lang", LANGUAGES)
def test_senses_are_balanced_and_the_rest_does_not_depend_on_them(lang):
    scenes = [sample(0, "train", i, lang) for i in range(6000)]
    named = [scene for scene in scenes if scene.word]
    assert 0.65 < len(named) / len(scenes) < 0.75
    for word, senses in AMBIGUOUS[lang].items():
        of_word = [scene for scene in named if scene.word == word]
        assert abs(len(of_word) / len(named) * len(AMBIGUOUS[lang]) - 1) < 0.25
        for number, sense in enumerate(senses):
            of_sense = [scene for scene in of_word if scene.objects[0].key == sense]
            share = 1 / len(senses)
            spread = (share * (1 - share) / len(of_word)) ** 0.5
            assert abs(len(of_sense) / len(of_word) - share) < 4 * spread, (word, number)
    for attribute in ("color", "size", "place"):  # chi-square of attribute by sense's number, pooled over words of two
        table = Counter()
        for scene in named:
            senses = AMBIGUOUS[lang][scene.word]
            if len(senses) == 2:
                table[getattr(scene.objects[0], attribute), senses.index(scene.objects[0].key)] += 1
        values = {value for value, _ in table}
        columns = [sum(table[value, sense] for value in values) for sense in (0, 1)]
        chi = 0.0
        for value in values:
            row = table[value, 0] + table[value, 1]
            for sense in (0, 1):
                expected = row * columns[sense] / sum(columns)
                chi += (table[value, sense] - expected) ** 2 / expected
        assert chi < 30, (attribute, chi)  # eight values: 24 at one in a thousand


# ---- captions


@pytest.mark.parametrize("lang", LANGUAGES)
def test_captions_are_five_short_and_mention_what_is_there(lang):
    source, limit = Scenes(lang=lang), {"en": 64, "ko": 96}[lang]
    varied = 0
    for i in range(600):
        scene = source.scene(i)
        texts, mentions, told = source.captions(i)
        assert told == lang and len(texts) == len(mentions) == 5
        varied += len(set(texts)) >= 4
        keys = {thing.key for thing in scene.objects}
        for text, spans in zip(texts, mentions, strict=True):
            assert len(text.encode()) <= limit
            assert spans and scene.objects[0].key in {key for _, _, key in spans}
            for start, end, key in spans:
                assert key in keys and text[start:end] in expressions(key, lang)
        if scene.word:
            start, end, _ = next(span for span in mentions[0] if span[2] == scene.objects[0].key)
            assert texts[0][start:end] == scene.word
    assert varied > 550


def test_a_caption_over_the_limit_is_shortened():
    scenes = [sample(0, "train", i, "en") for i in range(100)]
    for limit in (50, 40, 32):
        grammar = dataclasses.replace(GRAMMARS["en"], limit=limit)
        told = [captions(grammar, scene, 0, "train", i)[0] for i, scene in enumerate(scenes)]
        assert max(len(text) for texts in told for text in texts) in range(limit - 4, limit + 1)


def test_inventory_finds_exactly_the_mentions():
    for lang in LANGUAGES:
        source = Scenes(lang=lang)
        inventory = source.inventory(lang)
        for i in range(150):
            texts, mentions, _ = source.captions(i)
            for text, spans in zip(texts, mentions, strict=True):
                assert [(start, end) for start, end, _ in inventory.find(text)] == [(s, e) for s, e, _ in sorted(spans)]


def test_languages_alternate_and_either_can_be_asked_for():
    source = Scenes()
    assert [source[i]["lang"] for i in range(4)] == ["en", "ko", "en", "ko"]
    assert {Scenes(lang="ko")[i]["lang"] for i in range(4)} == {"ko"}
    for i in range(6):
        for lang in LANGUAGES:
            texts, mentions, told = source.captions(i, lang=lang)
            assert told == lang and any("가" <= letter <= "힣" for letter in texts[0]) == (lang == "ko")
            for text, spans in zip(texts, mentions, strict=True):
                assert all(text[start:end] in expressions(key, lang) for start, end, key in spans)


def test_articles():
    source = Scenes(lang="en", fields=("captions", "questions", "statements"))
    for i in range(300):
        example = source[i]
        texts = example["captions"] + [one["question"] for one in example["questions"]]
        for text in texts + [one["statement"] for one in example["statements"]]:
            for article, letter in re.findall(r"\b(an?) (\w)", text):
                assert (article == "an") == (letter in "aeiou"), text
            assert not re.search(r"\b(an?|the) (an?|the)\b|  ", text), text


def test_korean_particles_follow_the_last_sound():
    forms = {form: pair for pair in PARTICLES.values() for form in pair}
    seen = Counter()
    source = Scenes(lang="ko")
    for i in range(400):
        for text, spans in zip(*source.captions(i)[:2], strict=True):
            for _, end, _ in spans:
                particle = text[end:].split(" ")[0]
                if particle in forms:
                    closed = (ord(text[end - 1]) - ord("가")) % 28 > 0
                    assert particle == forms[particle][0 if closed else 1], text
                    seen[particle] += 1
                else:
                    assert particle in ("", "의"), text
    assert set(forms) <= set(seen)


# ---- objects and sounds


@pytest.mark.parametrize("size", (64, 37))
def test_boxes_hold_what_is_drawn_and_little_else(size):
    source = Scenes(size=size, fields=("objects",))
    for i in range(60):
        scene = source.scene(i)
        whole = source.draw(scene).astype(int)
        assert [one["name"] for one in source[i]["objects"]] == [thing.key for thing in scene.objects]
        for number, one in enumerate(source[i]["objects"]):
            x0, y0, x1, y1 = (round(edge * size) for edge in one["box"])
            assert 0 <= x0 < x1 <= size and 0 <= y0 < y1 <= size
            without = source.draw(scene._replace(objects=scene.objects[:number] + scene.objects[number + 1 :]))
            changed = np.abs(whole - without).max(-1) > 0
            rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
            assert rows[0] >= y0 and rows[-1] < y1 and columns[0] >= x0 and columns[-1] < x1
            if number == 0:  # the main object is never hidden, so its box is tight (but for all but clear pixels)
                assert rows[0] <= y0 + 1 and rows[-1] >= y1 - 2 and columns[0] <= x0 + 1 and columns[-1] >= x1 - 2


def test_audio_tells_its_object():
    source = Scenes(fields=("objects", "audio"))
    example = source[3]
    assert example["audio"].dtype == np.int16 and example["audio"].shape == (4000,) and example["audio_rate"] == 8000
    assert 0 <= example["audio_object"] < len(example["objects"])

    def spectrum(samples):
        bins = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))[:2000]
        smooth = np.log1p(np.convolve(bins, np.ones(9), "same") / 1e4)
        return smooth - smooth.mean()

    def likeness(one, other):
        return one @ other / np.sqrt((one @ one) * (other @ other))

    clean = {key: spectrum(sound(random.Random(1), key)) for key in KEYS}
    right = 0
    for i in range(80):
        example = source[i]
        heard = spectrum(example["audio"])
        best = max(KEYS, key=lambda key: likeness(heard, clean[key]))
        right += best == example["objects"][example["audio_object"]]["name"]
    assert right >= 72
    assert len({round(voice(key)[0], 3) for key in KEYS}) == len(KEYS)


# ---- senses


def test_inventory_holds_every_sense():
    for lang in LANGUAGES:
        inventory, table = Scenes().inventory(lang), scene_senses(lang)
        assert inventory.lang == lang and set(inventory) == set(table)
        for word, senses in AMBIGUOUS[lang].items():
            assert tuple(sense.id for sense in inventory.senses(word)) == senses
            for sense in inventory.senses(word):
                assert set(sense.synonyms) == set(THINGS[sense.id].words[lang].names) <= inventory.related(word)
                assert sense.hypernyms and sense.gloss
        for thing in THINGS.values():
            for name in thing.words[lang].names:
                assert [sense.id for sense in inventory.senses(name)] == [thing.key] and inventory.lemma(name) == name
            for kind in thing.words[lang].kinds:
                assert len(inventory.senses(kind)) == 1 and thing.words[lang].usual in inventory.related(kind)
    assert Scenes().inventory("en").lemma("bats") == "bat" and Scenes().inventory("ko").lemma("배를") == "배"


def test_variants_share_all_but_the_main_object():
    source = Scenes(size=32)
    for i in range(60):
        scene = source.scene(i)
        if scene.word:
            variants = [source.variant(i, key) for key in AMBIGUOUS[scene.lang][scene.word]]
            assert len({variant["captions"][0] for variant in variants}) == 1
            assert len({variant["image"].tobytes() for variant in variants}) == len(variants)
            own = next(v for v in variants if v["id"].endswith("~" + scene.objects[0].key))
            assert own["captions"] == source[i]["captions"] and np.array_equal(own["image"], source[i]["image"])
    with pytest.raises(UserError):
        source.variant(0, next(key for key in KEYS if key not in FAMILY[source.scene(0).objects[0].key]))


def test_sense_items_are_balanced_and_swapped_pictures_are_other_scenes():
    source = Scenes(split="val", size=32)
    items = source.sense_items(120, seed=3)
    assert 118 <= len(items) <= 120 and {item["lang"] for item in items} == set(LANGUAGES)
    by_text = {}
    for item in items:
        start, end = item["span"]
        assert item["text"][start:end] == item["word"] and item["senses"] == AMBIGUOUS[item["lang"]][item["word"]]
        shown = source.scene(item["index"]).with_main(item["sense"])
        assert np.array_equal(item["image"], source.draw(shown))
        other, wrong = source.scene(item["swapped_index"]), source.scene(item["wrong_index"])
        assert item["swapped_index"] != item["index"] != item["wrong_index"]
        assert other.objects[0].key == item["swapped_sense"] != item["sense"]
        assert item["swapped_sense"] in item["senses"]
        assert item["sense"] not in {thing.key for thing in other.objects}
        assert not {thing.key for thing in wrong.objects} & set(item["senses"])
        assert np.array_equal(item["swapped_image"], source[item["swapped_index"]]["image"])
        assert np.array_equal(item["wrong_image"], source[item["wrong_index"]]["image"])
        by_text.setdefault((item["index"], item["text"]), []).append(item["sense"])
    for (i, _), senses in by_text.items():
        assert tuple(senses) == AMBIGUOUS[source.scene(i).lang][source.scene(i).word]
    assert all(same(one, other) for one, other in zip(items, source.sense_items(120, seed=3), strict=True))
    with pytest.raises(UserError):
        Scenes(split="val", size=8, count=4).sense_items(10, seed=0)


# ---- the source


@pytest.mark.parametrize("size", (1, 2, 7, 224, 512))
def test_any_size(size):
    example = Scenes(size=size, fields=FIELDS, file_bytes=True)[5]
    assert example["image"].shape == (size, size, 3) and example["image"].dtype == np.uint8
    assert all(0 <= edge <= 1 for one in example["objects"] for edge in one["box"])


def test_fields_choose_what_is_made_and_file_is_the_picture():
    assert set(Scenes(fields="captions")[0]) == {"id", "lang", "captions", "mentions"}
    assert set(Scenes(fields=("image",))[0]) == {"id", "lang", "image"}
    example = Scenes(file_bytes=True)[0]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(example["image_file"]))), example["image"])
    assert Scenes()[-1]["id"] == "scenes/train/8191" and len(Scenes(split="val")) == 1024
    assert np.array_equal(Scenes(cache=True)[4]["image"], Scenes()[4]["image"])


WRONG = ({"styles": ("oil",)}, {"split": "dev"}, {"lang": "fr"}, {"fields": ("picture",)}, {"size": 0}, {"count": 0})


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_settings_are_named(wrong):
    with pytest.raises(UserError, match=next(iter(wrong)).rstrip("s")):
        Scenes(**wrong)
    with pytest.raises(IndexError):
        Scenes(count=3)[3]

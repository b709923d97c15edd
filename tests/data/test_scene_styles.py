"""Scenes in other styles, with their colours mentioned, and their things as emoji."""

import pickle

import numpy as np
import pytest
from PIL import Image

from xmodal_jax.data.masking import ATTRIBUTE
from xmodal_jax.data.sources.scenes import Scenes
from xmodal_jax.data.sources.scenes.drawing import COLORS, STYLES, VARIANTS, VARIED, rasterise
from xmodal_jax.data.sources.scenes.emoji import EMOJI
from xmodal_jax.data.sources.scenes.source import FIELDS, GRAMMARS
from xmodal_jax.data.sources.scenes.things import AMBIGUOUS, FAMILY, KEYS
from xmodal_jax.errors import UserError


def test_a_style_changes_what_things_look_like_and_nothing_else():
    plain, fields = Scenes(split="val", fields=FIELDS), ("captions", "mentions", "questions", "statements")
    for style in set(STYLES) - {"flat"}:
        other = plain.in_style(style)
        one, same = plain[3], other[3]
        assert all(one[name] == same[name] for name in fields) and np.abs(one["image"] - same["image"].astype(float)).mean() > 1
        assert np.array_equal(pickle.loads(pickle.dumps(other))[3]["image"], same["image"])
        assert [item["text"] for item in other.sense_items(16)] == [item["text"] for item in plain.sense_items(16)]
    assert plain.styles == ("flat",)


def test_every_scene_has_one_of_several_styles_by_its_number():
    mixed = Scenes(styles=("cut", "line"), cache=True)
    for i in range(8):
        assert mixed.scene(i).style in ("cut", "line")
        assert np.array_equal(mixed[i]["image"], Scenes().in_style(mixed.scene(i).style)[i]["image"])
    assert len({mixed.scene(i).style for i in range(8)}) == 2
    assert mixed.variant(*next((i, key) for i in range(9) for key in FAMILY[mixed.scene(i).objects[0].key]))["image"].any()


@pytest.mark.parametrize("style", STYLES)
def test_things_differ_in_every_style(style):
    drawn = {key: rasterise(key, "blue", 26, style).astype(float) for key in KEYS}
    shown = {key: np.where(rgba[..., 3:] > 127, rgba[..., :3], 255) for key, rgba in drawn.items()}
    for key in KEYS:
        for other in KEYS:
            assert key == other or np.abs(shown[key] - shown[other]).mean() > 4, (key, other)


def test_the_looks_of_one_style_are_many_and_show_every_thing():
    shown = {}
    for variant in range(VARIANTS):
        drawn = np.stack([rasterise(key, "blue", 26, f"{VARIED} {variant}") for key in KEYS]).astype(float)
        assert ((drawn[..., 3] > 127).mean((1, 2)) > 0.05).all(), variant
        shown[variant] = np.where(drawn[..., 3:] > 127, drawn[..., :3], 255)
        assert all(np.abs(shown[variant] - shown[before]).mean() > 1 for before in range(variant))
    assert np.array_equal(rasterise("apple", "red", 20, "varied 3"), rasterise("apple", "red", 20, "varied 3"))
    looks = {Scenes(styles=(VARIED,)).scene(i).style for i in range(300)}
    assert len(looks) == VARIANTS and all(look.split()[0] == VARIED for look in looks)


def test_attributes_mention_the_colours_too():
    plain, told = Scenes(split="val"), Scenes(split="val", attributes=True)
    words = {lang: {c: {grammar.colors[c], grammar.color_nouns[c]} for c in COLORS} for lang, grammar in GRAMMARS.items()}
    seen = set()
    for i in range(60):
        one, other = plain[i], told[i]
        assert one["captions"] == other["captions"]
        for text, own, more in zip(one["captions"], one["mentions"], other["mentions"], strict=True):
            colours = [mention for mention in more if mention[2].startswith(ATTRIBUTE)]
            assert [mention for mention in more if mention not in colours] == sorted(own) and more == sorted(more)
            for start, end, name in colours:
                seen.add(name)
                assert any(word.startswith(text[start:end]) for word in words[one["lang"]][name.removeprefix(ATTRIBUTE)])
            named = sum(text.count(min(pair, key=len)) for pair in words[one["lang"]].values())
            assert len(colours) == named
    assert len(seen) == len(COLORS)


def test_emoji_of_all_senses_of_a_word_are_items(tmp_path):
    codes = [code for codes in EMOJI.values() for code in codes.split()]
    for number, code in enumerate(codes):
        Image.new("RGBA", (72, 72), (4 * number, 0, 200, 255 * (number > 0))).save(tmp_path / f"emoji_u{code}.png")
    source = Scenes(split="val", size=20)
    items = source.emoji_items(str(tmp_path))
    assert len(items) == len(codes) == 46
    for item in items:
        start, end = item["span"]
        assert item["text"][start:end] == item["word"] and item["senses"] == AMBIGUOUS[item["lang"]][item["word"]]
        assert item["sense"] in item["senses"] and item["swapped_sense"] in set(item["senses"]) - {item["sense"]}
        assert item["image"].shape == (20, 20, 3)
    shown, paper = items[1]["image"], items[0]["image"]  # the first is transparent: nothing but paper
    np.testing.assert_array_equal(shown[10, 10], (4, 0, 200))
    assert (paper > 150).all() and np.array_equal(shown[0], paper[0])
    (tmp_path / f"emoji_u{codes[5]}.png").unlink()
    with pytest.raises(UserError, match=codes[5]):
        source.emoji_items(str(tmp_path))

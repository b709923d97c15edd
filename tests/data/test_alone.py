"""Texts and pictures that stand by themselves among pairs."""

import collections
import os

import numpy as np
import pytest
from PIL import Image

from tests.data.pairs_of_three import Source, maker
from xmodal_jax.data.alone import Pictures, Texts
from xmodal_jax.data.pair_examples import PAIR, TEXT
from xmodal_jax.errors import UserError


def test_texts_and_pictures_by_themselves(tmp_path, caplog):
    """Each of their share of the examples, and nothing else; held-out pairs are halved as before."""
    (tmp_path / "texts" / "more").mkdir(parents=True)
    (tmp_path / "texts" / "one.txt").write_text("two dogs run\n\n the old house \n")
    (tmp_path / "texts" / "more" / "two.txt").write_text("a mat\n")
    lines = Texts(tmp_path / "texts")
    assert [*lines] == ["two dogs run", "the old house", "a mat"] and [*Texts(tmp_path / "texts" / "one.txt")] == lines[:2]
    for number in range(2):
        Image.fromarray(np.full((20, 30, 3), 90 + number, np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"broken")
    pictures, shares = Pictures(tmp_path), {"text_alone": 0.3, "image_alone": 0.3, "masked": "random", "regions": 4}
    made = maker(**shares, texts="texts", pictures="pictures")
    made.lines, made.pictures, plain = lines, pictures, maker(**shares)
    assert sorted(map(os.path.basename, made.files)) == ["0.png", "1.png", "2.png", "one.txt", "two.txt"] and not plain.files
    seen = collections.Counter()
    for position in range(200):
        row, half = made(Source()[0], position), plain(Source()[0], position)
        assert row["alone"] == half["alone"] and {n: v.shape for n, v in row.items()} == {n: v.shape for n, v in half.items()}
        text = made.text(row["caption"][1:])
        if row["alone"] == PAIR:
            assert all(np.array_equal(row[name], half[name]) for name in row)
        elif row["alone"] == TEXT:
            seen[text] += 1
            words = row["masked_words"]
            assert made.tokenizer.decode(words[words >= 0][0]) in text and not row["regions_there"].any()
        else:
            level = int(row["image"][0, 0, 0])
            seen[level] += 1
            assert text == "" and row["image"].shape == (8, 8, 3) and row["regions_there"].all()  # a grid, no objects
    assert set(seen) == {*lines, 90, 91} and min(seen.values()) > 8
    assert caplog.text.count("a picture is skipped") == 1
    np.testing.assert_array_equal(made.over(Source())(Source()[0], 3)["image"], plain.over(Source())(Source()[0], 3)["image"])
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="there is no text here"):
        Texts(tmp_path / "none")
    (tmp_path / "0.png").unlink()
    (tmp_path / "1.png").unlink()
    with pytest.raises(UserError, match="not one of its 1 pictures"):
        Pictures(tmp_path).take(0, 8, "resize")

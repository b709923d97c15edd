"""The picture of an answer: maps lie where they belong, words are chosen by weight, odd contents are survived or named."""

import os

import numpy as np
import pytest
from PIL import Image

from xmodal_jax.draw import explanation as drawn
from xmodal_jax.draw import heatmap
from xmodal_jax.draw.explanation import Panel, explanation, save

GREY = np.full((48, 64, 3), 120, np.uint8)
WORDS = ("what", "colour", "is", "the", "ball")


def box_of(a, b):
    """(top, bottom, left, right) of where two pictures of one size differ."""
    moved = np.abs(a.astype(int) - b).sum(-1) > 3
    rows, columns = np.flatnonzero(moved.any(1)), np.flatnonzero(moved.any(0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def one_hot(cell, shape=(6, 8)):
    weights = np.zeros(shape)
    weights[cell] = 1
    return weights


@pytest.mark.parametrize("cell", [(0, 0), (2, 3), (5, 7)])
@pytest.mark.parametrize("row", [0, 1])
def test_a_hot_cell_is_hot_at_its_place(cell, row):
    def draw(weights):
        panels = [Panel("baseline", "blue", 0.4, one_hot((1, 1))), Panel("UME", "red", 0.9, one_hot((1, 1)))]
        panels[row] = Panel(panels[row].title, panels[row].answer, panels[row].probability, weights)
        return explanation(GREY, "What colour?", panels)

    cold = draw(np.zeros((6, 8)))
    top, bottom, left, right = box_of(draw(np.ones((6, 8))), cold)  # of the map
    assert (bottom - top, right - left) == (225, 300)
    moved = np.abs(draw(one_hot(cell)).astype(int) - cold).sum(-1)
    y, x = np.unravel_index(moved.argmax(), moved.shape)
    assert (int((y - top) / 225 * 6), int((x - left) / 300 * 8)) == cell
    moved[top:bottom, left:right] = 0
    assert not moved.any()


def test_a_row_more_is_higher_and_as_wide():
    pairs = (WORDS, np.random.default_rng(0).random((5, 6, 8)))
    one = explanation(GREY, "q", [Panel("UME", "red", 0.9, np.ones((6, 8)), pairs)])
    two = explanation(GREY, "q", [Panel("baseline", "blue", 0.4, np.ones((6, 8))), Panel("UME", "red", 0.9, None, pairs)])
    none = explanation(GREY, "q", [])
    for picture in (one, two, none):
        assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3 and picture.std() > 1
    assert two.shape[0] > one.shape[0] >= none.shape[0] and one.shape[1] > two.shape[1] > none.shape[1]
    assert (two[:10] == 255).all() and (two[:, -10:] == 255).all()  # nothing runs over the margins


def test_the_words_with_most_weight_have_maps(rng):
    weights = rng.random((5, 6, 8))
    weights[1] *= 9
    weights[4] *= 3
    labels = [label for label, _ in drawn._tiles(GREY, Panel("UME", "red", pairs=(WORDS, weights)))]
    shares = weights.sum((1, 2)) / weights.sum()
    assert labels[0] == "pairs, all words" and len(labels) == 4
    assert labels[1] == f"“colour”  {shares[1]:.0%}" and labels[2].startswith("“ball”")
    tiles = dict(drawn._tiles(GREY, Panel("UME", "red", pairs=(WORDS[:1], weights[:1]))))
    np.testing.assert_array_equal(tiles["pairs, all words"], tiles["“what”  100%"])


def test_each_word_s_map_is_hot_where_its_weights_are():
    cells = [(0, 5), (4, 1), (2, 7), (5, 0), (1, 2)]  # of the words, each heavier than the one before
    weights = np.stack([(n + 1) * one_hot(cell) for n, cell in enumerate(cells)])
    cold = heatmap.overlay(GREY, np.zeros((6, 8)), drawn.TILE)

    def hottest(tile):
        y, x = np.unravel_index(np.abs(tile.astype(int) - cold).sum(-1).argmax(), tile.shape[:2])
        return int(y / tile.shape[0] * 6), int(x / tile.shape[1] * 8)

    found = {label: hottest(tile) for label, tile in drawn._tiles(GREY, Panel("UME", "red", pairs=(WORDS, weights)))}
    assert found == {
        "pairs, all words": cells[4], "“ball”  33%": cells[4], "“the”  27%": cells[3], "“is”  20%": cells[2],
    }  # fmt: skip


def test_grad_cam_is_drawn_against_its_peak_and_pairs_against_an_even_share():
    even, half = np.ones((6, 8)), np.full((6, 8), 0.5)
    half[0, 0] = 1
    assert (heatmap.to_peak(even) == 1).all() and not heatmap.heat(even).any()
    np.testing.assert_array_equal(heatmap.to_peak(7 * half), half)
    assert not heatmap.to_peak(np.zeros((2, 2))).any() and not heatmap.to_peak(-even).any()
    panel = Panel("UME", "red", gradcam=half, pairs=(["a"], half[None]))
    (_, cam), (_, pair), _ = drawn._tiles(GREY, panel)
    np.testing.assert_array_equal(cam, heatmap.overlay(GREY, half, drawn.TILE, level=heatmap.to_peak))
    np.testing.assert_array_equal(pair, heatmap.overlay(GREY, half, drawn.TILE))
    assert (cam != pair).any()


@pytest.mark.parametrize("shape", [(48, 64, 3), (64, 16, 3), (4, 300, 3), (1, 1, 3), (300, 2, 3)])
def test_any_language_length_and_proportion(recwarn, shape):
    image, rng = np.full(shape, 90, np.uint8), np.random.default_rng(0)
    for question, words, answer in (
        ("아이가 들고 있는 $배는$ 무슨 색입니까?", ["배는", "무슨", "색"], "초록색"),
        ("什么" * 200, ["什么", "", "\x07"], "word " * 200),
        ("ما لون الكرة؟", ["ما", "لون", "x" * 500], ""),
        ("", [], "a" * 500),
    ):
        pairs = (words, rng.random((len(words), 3, 4)))
        panels = [Panel("방법 " * 50, answer, float("nan"), rng.random((3, 3)), pairs, "초록색 " * 40)]
        found = explanation(image, question, panels)
        assert found.std() > 1 and (found[:, -10:] == 255).all() and (found[-10:] == 255).all()
    assert not recwarn.list


def test_answers_are_judged_where_the_truth_is_known():
    colours = [
        drawn._verdict(Panel("", answer, truth=truth)) for answer, truth in ((" Red", "red"), ("blue", "red"), ("x", ""))
    ]
    assert [word for _, word in colours] == [" · right", " · wrong", ""] and len({colour for colour, _ in colours}) == 3


def test_lines_keep_every_letter_and_end_where_they_are_told():
    lines = drawn._lines("one two three four " + "x" * 60, 200, 13, 99)
    assert "".join(lines).replace(" ", "") == "onetwothreefour" + "x" * 60 and len(lines) > 3
    page = drawn._Page(400, 400)
    page.text(0, 0, lines, 13, "black")
    assert max(text.get_window_extent().width for text in page.figure.texts) <= 202
    assert drawn._lines("", 200, 13, 3) == [] and drawn._lines("배" * 9, 1, 13, 99) == ["배"] * 9
    assert len(drawn._lines("one two three four five", 120, 13, 2)) == 2
    assert drawn._lines("one two three four five", 120, 13, 2)[1].endswith("…")


@pytest.mark.parametrize(
    ("image", "panel", "told"),
    [
        (np.zeros((4, 4, 3)), Panel("", "a"), "uint8"),
        (GREY, Panel("", "a", pairs=(WORDS, np.ones((4, 2, 2)))), "5 words"),
        (GREY, Panel("", "a", pairs=(WORDS, np.ones((5, 4)))), "5 words"),
        (GREY, Panel("", "a", gradcam=np.ones(5)), "grid"),
    ],
)
def test_what_does_not_fit_is_named(image, panel, told):
    with pytest.raises(ValueError, match=told):
        explanation(image, "q", [panel])


def test_saving_replaces_the_file_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    path, pixels = tmp_path / "deep" / "answer.png", explanation(GREY, "q", [Panel("UME", "red", 0.5)])
    save(path, GREY)
    save(path, pixels)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), pixels)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(drawn.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save(path, GREY)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), pixels)
    assert os.listdir(path.parent) == ["answer.png"]

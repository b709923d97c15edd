"""Curves from rows of any quality, and bars."""

import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from xmodal_jax.draw import curves


def run(n=60):
    rows = [{"step": i, "train/loss": 4 * math.exp(-i / 10) + 0.1, "examples_per_s": 100.0 + i % 3} for i in range(n)]
    for i in range(0, n, 10):
        rows[i]["eval/accuracy"] = i / n
        rows[i]["eval/loss"] = 1.0
    return rows


def test_series_keep_finite_numbers_in_the_order_of_steps_and_the_later_of_a_repeated_step():
    rows = [
        {"step": 2, "train/loss": 2.0},
        {"step": 1, "train/loss": 1.0, "note": "text", "flag": True, "list": [1, 2]},
        {"step": 2, "train/loss": np.float32(5.0)},
        {"step": 3, "train/loss": float("nan")},
        {"step": 4, "train/loss": None},
        {"train/loss": 7.0},
    ]
    found = curves.series(rows)
    assert list(found) == ["train/loss"]
    np.testing.assert_array_equal(found["train/loss"], [[1, 2, 5], [1.0, 5.0, 7.0]])


def test_smoothing_keeps_constants_and_lines_and_lessens_noise():
    np.testing.assert_allclose(curves.smooth(np.full(31, 3.0), 9), 3.0)
    line = np.arange(101.0)
    np.testing.assert_allclose(curves.smooth(line, 9)[4:-4], line[4:-4])
    noise = np.random.default_rng(0).normal(size=2000)
    assert curves.smooth(noise, 51).std() < 0.25
    assert len(curves.smooth(np.ones(1), 5)) == 1


def test_a_logarithm_only_for_what_falls_by_an_order_of_magnitude():
    assert curves.wants_log(np.geomspace(5, 0.05, 50))
    assert not curves.wants_log(np.linspace(0.01, 0.99, 50))
    assert not curves.wants_log(np.linspace(5, 0, 50))
    assert not curves.wants_log(np.linspace(5, 2, 50))
    assert not curves.wants_log(np.cos(np.linspace(0, np.pi / 2, 50)) + 1e-9)  # a learning rate


def test_losses_come_first_and_training_shares_a_panel_with_evaluation():
    panels = curves.panels(run())
    assert [title for title, _ in panels] == ["loss", "accuracy", "examples_per_s"]
    assert set(panels[0][1]) == {"train", "eval"}


def test_the_figure_is_one_well_formed_svg_with_its_titles_as_text():
    svg = curves.training_curves(run())
    root = ET.fromstring(svg)
    texts = " ".join(root.itertext())
    for title in ("loss (log)", "accuracy", "examples_per_s"):
        assert title in texts
    assert "#0102" not in svg  # no placeholder colour is left
    assert curves.training_curves(run(), "png").startswith("data:image/png;base64,")
    assert curves.training_curves(run()) == svg  # the same run, the same bytes


@pytest.mark.parametrize(
    "rows", [[], [{}], [{"step": 1}], [{"step": 1, "train/loss": float("nan")}], [{"step": 1, "train/loss": 1.0}]]
)
def test_nothing_to_draw(rows):
    assert curves.training_curves(rows) == ""


@pytest.mark.parametrize("values", [[1.0, 2.0], [0.0, 0.0], [1e30, 1e-30, 5.0], [-3.0] * 40, list(range(3000))])
def test_odd_curves_are_drawn(values):
    rows = [{"step": i, "train/<x> $y$ \x00": v} for i, v in enumerate(values)]
    ET.fromstring(curves.training_curves(rows))


def test_thinning_keeps_spikes_and_both_ends():
    values = np.zeros(20_000)
    values[[777, -1]] = 9.0
    steps, thin = curves._thinned(np.arange(20_000.0), values)
    assert len(steps) <= 510 and steps[0] == 0 and steps[-1] == 19_999 and 777 in steps and thin.max() == 9


def test_bars_say_their_values_and_what_is_missing():
    svg = curves.bars([("right image", 0.972, 0.5), ("배 <b>", None, 0.5), ("no image", float("nan")), ("x", 0.5, None)])
    texts = " ".join(ET.fromstring(svg).itertext())
    for text in ("97.2 %", "not measured", "배 <b>", "right image"):
        assert text in texts
    assert curves.bars([]) == ""
    assert "1200.0" in curves.bars([("speed", 1200.0)], unit="")


def test_unknown_format():
    with pytest.raises(ValueError, match="svg"):
        curves.training_curves(run(), "pdf")

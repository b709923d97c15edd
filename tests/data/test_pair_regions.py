"""Regions of a picture: which there are, which are masked, and by what."""

import numpy as np
import pytest

from tests.data.pairs_of_three import Source, maker
from xmodal_jax.data.pairs import PairMaker
from xmodal_jax.data.regions import hidden_regions
from xmodal_jax.errors import UserError


def test_regions_are_the_objects_and_a_grid():
    made = maker(regions=4, region_share=0.3, region_retained=0.5)
    row = made(Source()[0], 0)
    np.testing.assert_allclose(row["boxes"][:2], [[0, 0.1, 0.4, 0.6], [0.1, 0.1, 0.5, 0.6]], atol=1e-6)
    np.testing.assert_array_equal(row["boxes"][2:], [[0, 0, 1, 1], [0, 0, 0, 0]])  # a grid of one cell
    assert row["regions_there"].tolist() == [True, True, True, False] and row["region_class"].tolist() == [0, -1, -1, -1]
    assert made(Source()[1], 0)["region_class"].tolist() == [2, 1, -1, 2]
    grid = made(Source()[2], 0)
    assert grid["regions_there"].all() and set(grid["region_class"]) == {-1}
    np.testing.assert_allclose(grid["boxes"][1], [0.5, 0, 1, 0.5])
    rows = [made(Source()[2], position) for position in range(300)]
    hidden, target = (np.array([row[f"regions_{name}"] for row in rows]) for name in ("hidden", "target"))
    assert target.any(1).all() and not (hidden & ~target).any()
    assert abs(target.mean() - (0.3 + 0.7**4 / 4)) < 0.06 and abs(hidden.sum() / target.sum() - 0.5) < 0.1


def test_masked_regions_show_nothing_or_another_pictures():
    """Eight in ten, one, and one in ten as they are; what a thing is like is known of things alone."""
    made = maker(regions=4, region_share=0.5, region_retained=0.1, region_replaced=0.1)
    rows = [made(Source()[2], position) for position in range(900)]
    hidden, target, replaced = (np.array([row[f"regions_{name}"] for row in rows]) for name in ("hidden", "target", "replaced"))
    assert not (hidden & replaced).any() and not ((hidden | replaced) & ~target).any()
    assert abs(hidden.sum() / target.sum() - 0.8) < 0.04 and abs(replaced.sum() / target.sum() - 0.1) < 0.03
    assert "region_attribute" not in rows[0]
    told = PairMaker(made.config, made.tokenizer, Source(), classes=made.classes, attributes=("blue", "red"))
    example = Source()[0]
    example["objects"][0]["attribute"] = "red"
    assert told(example, 0)["region_attribute"].tolist() == [1, -1, -1, -1]
    assert {name: value.shape[1:] for name, value in told.example_batch(2).items()} == {
        name: np.shape(value) for name, value in told(example, 0).items()
    }
    with pytest.raises(UserError, match="shares of the masked regions, together at most 1"):
        maker(regions=4, region_retained=0.6, region_replaced=0.5)


def test_what_overlaps_is_masked_too(rng):
    boxes = np.array([[0, 0, 0.5, 0.5], [0.02, 0, 0.5, 0.5], [0.6, 0.6, 1, 1], [0, 0, 0, 0]], np.float32)
    there = np.array([True, True, True, False])
    for _ in range(40):
        chosen = hidden_regions(boxes, there, 0.2, 0.4, rng)
        assert chosen[0] == chosen[1] and not chosen[3] and chosen.any()

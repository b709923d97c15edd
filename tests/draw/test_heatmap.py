"""Heat lies where the weight is, an even map shows nothing, and odd shapes and values are survived or named."""

import numpy as np
import pytest

from xmodal_jax.draw import heatmap

GREY = np.full((48, 64, 3), 120, np.uint8)


def change(weights, image=GREY, **kwargs):
    """How far each pixel of the overlay is from the one of an even map."""
    shown = heatmap.overlay(image, weights, **kwargs).astype(int)
    even = heatmap.overlay(image, np.ones_like(np.asarray(weights, float)), **kwargs).astype(int)
    return np.abs(shown - even).sum(axis=-1)


@pytest.mark.parametrize("cell", [(0, 0), (2, 3), (5, 7)])
def test_the_hottest_pixel_is_where_the_weight_is(cell):
    weights = np.full((6, 8), 0.01)
    weights[cell] = 1.0
    moved = change(weights)
    assert moved.shape == (192, 256)
    y, x = np.unravel_index(moved.argmax(), moved.shape)
    assert (y // 32, x // 32) == cell
    far = np.ones((6, 8), bool)
    far[max(0, cell[0] - 2) : cell[0] + 3, max(0, cell[1] - 2) : cell[1] + 3] = False
    assert moved[np.kron(far, np.ones((32, 32), bool))].max() <= 3


@pytest.mark.parametrize("level", [1.0, 1 / 48, 1e-9, 0.0])
def test_an_even_map_is_even_over_an_even_picture(level):
    shown = heatmap.overlay(GREY, np.full((6, 8), level))
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) == 1


def test_the_noise_of_a_nearly_even_map_stays_faint():
    noise = 1 + 0.02 * np.random.default_rng(0).normal(size=(6, 8))
    assert heatmap.heat(noise).max() < 0.1
    peak = np.ones((6, 8))
    peak[1, 1] = 3
    assert heatmap.heat(peak).max() == 1.0


def test_heat_does_not_depend_on_the_scale_of_the_weights():
    weights = np.random.default_rng(0).random((4, 4))
    np.testing.assert_allclose(heatmap.heat(weights), heatmap.heat(weights * 1e-6), atol=1e-9)


def test_permuting_the_cells_permutes_the_heat():
    rng = np.random.default_rng(0)
    weights, order = rng.random(16), rng.permutation(16)
    np.testing.assert_allclose(heatmap.heat(weights[order]).ravel(), heatmap.heat(weights).ravel()[order])


def test_flat_weights_need_a_grid_unless_square():
    weights = np.random.default_rng(0).random(12)
    np.testing.assert_array_equal(heatmap.overlay(GREY, weights, grid=(3, 4)), heatmap.overlay(GREY, weights.reshape(3, 4)))
    with pytest.raises(ValueError, match="grid"):
        heatmap.overlay(GREY, weights)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 2), (700, 500)])
def test_pictures_of_any_size(shape):
    shown = heatmap.overlay(np.full((*shape, 3), 7, np.uint8), np.eye(3))
    assert shown.dtype == np.uint8 and max(shown.shape) == 256 and min(shown.shape[:2]) >= 1


def test_weights_that_are_not_numbers_count_as_nothing():
    weights = np.ones((3, 3))
    weights[0, 0], weights[1, 1], weights[2, 2] = np.nan, np.inf, -5
    assert np.isfinite(heatmap.heat(weights)).all()
    assert not heatmap.heat(np.full((3, 3), np.nan)).any()


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_not_an_image_is_named(image):
    with pytest.raises(ValueError, match="uint8"):
        heatmap.overlay(image, np.ones((2, 2)))


def test_strip_and_maps_are_pictures_and_leave_no_figure_behind():
    rng = np.random.default_rng(0)
    assignment, relation = rng.dirichlet(np.ones(5), 16).T, rng.dirichlet(np.ones(16), 16)
    drawn = [
        heatmap.association_strip(GREY, "아이가 $배를$ 들고", [("아이가", rng.random((2, 2))), ("عين", rng.random(9))]),
        heatmap.association_strip(GREY, "", []),
        heatmap.relation_map(assignment, GREY),
        heatmap.relation_map(relation, GREY),
        heatmap.relation_map(relation, GREY, kind="assignment", limit=2),
        heatmap.relation_map(rng.random((7, 7)), GREY),  # 7 slots fill no grid: the matrix alone
    ]
    assert all(d.dtype == np.uint8 and d.ndim == 3 and d.shape[2] == 3 and d.std() > 1 for d in drawn)
    with pytest.raises(ValueError, match="kind"):
        heatmap.relation_map(relation, GREY, kind="both")
    with pytest.raises(ValueError, match="relation is"):
        heatmap.relation_map(relation[0], GREY)


def test_territories_follow_the_strongest_slot():
    assignment = np.zeros((2, 4))
    assignment[0, [0, 2]] = assignment[1, [1, 3]] = 1  # left half, right half
    shown = heatmap.territories(assignment, np.full((8, 8, 3), 90, np.uint8), 64)
    left, right = shown[:, :32].reshape(-1, 3), shown[:, 32:].reshape(-1, 3)
    assert len(np.unique(left, axis=0)) == len(np.unique(right, axis=0)) == 1
    assert (left[0] != right[0]).any()

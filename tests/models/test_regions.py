"""Features of boxes against loops, and the tokens that the rows of the survey make of them against their equations."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import apply, random_params
from xmodal_jax.errors import UserError
from xmodal_jax.models.backbones.encoded import Encoded, mask_of
from xmodal_jax.models.byte_embedding import sincos_2d
from xmodal_jax.models.images.cells import Cells
from xmodal_jax.models.images.codes import PatchCodes
from xmodal_jax.models.images.dictionary import Dictionary
from xmodal_jax.models.images.regions import Regions, numbers
from xmodal_jax.models.images.roi import SAMPLES, roi_align
from xmodal_jax.train.gradient import join_batch, split_batch

B, SIDE, F, R, D = 2, 4, 6, 3, 10


class Grid(nn.Module):
    """[B, 4, 4, 6] as tokens behind a class token."""

    width: int = F

    def __call__(self, images, train=False):
        x = jnp.pad(images.reshape(len(images), -1, self.width), ((0, 0), (1, 0), (0, 0)), constant_values=9.0)
        return Encoded(x, mask_of(x), class_tokens=1)


def draw_boxes(rng, *shape):
    corners = np.sort(rng.random((*shape, 2, 2)), axis=-2)
    return corners.reshape(*shape, 4).astype(np.float32)


def sampled(grid, y, x):
    """Bilinear, coordinates in cells whose middles are whole numbers, clipped to the grid."""
    y, x = np.clip(y, 0, grid.shape[0] - 1), np.clip(x, 0, grid.shape[1] - 1)
    top, left = min(int(y), grid.shape[0] - 2), min(int(x), grid.shape[1] - 2)
    v, u = y - top, x - left
    corner = grid[top : top + 2, left : left + 2].astype(np.float64)
    return (1 - v) * ((1 - u) * corner[0, 0] + u * corner[0, 1]) + v * ((1 - u) * corner[1, 0] + u * corner[1, 1])


@pytest.mark.parametrize("bins", [1, 3])
def test_roi_align_by_loops(bins, rng):
    grid, boxes = rng.normal(size=(B, SIDE, 5, F)).astype(np.float32), draw_boxes(rng, B, R)
    found = np.asarray(roi_align(grid, boxes, bins))
    for b, r, p, q in np.ndindex(B, R, bins, bins):
        x0, y0, x1, y1 = np.float64(boxes[b, r])
        total = 0
        for i, j in np.ndindex(SAMPLES, SAMPLES):
            y = (y0 + (y1 - y0) * (p + (i + 0.5) / SAMPLES) / bins) * SIDE - 0.5
            x = (x0 + (x1 - x0) * (q + (j + 0.5) / SAMPLES) / bins) * 5 - 0.5
            total = total + sampled(grid[b], y, x)
        np.testing.assert_allclose(found[b, r, p, q], total / SAMPLES**2, rtol=1e-4, atol=1e-5)


def norm(x, params):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    return x * params["scale"] + params["bias"]


def dense(x, params):
    return x @ params["kernel"] + params["bias"]


def parts(f, g, p):
    return norm(dense(f, p["feature"]), p["norm_feature"]), norm(dense(g, p["geometry"]), p["norm_geometry"])


EQUATIONS = {  # each public model's, of features f, geometry g and the module's parameters
    "lxmert": (
        {"geometry": "corners", "mix": "mean", "norm_parts": True, "norm": False}, lambda f, g, p: sum(parts(f, g, p)) / 2,
    ),
    "uniter": (
        {"geometry": "seven", "norm_parts": True, "segment": True, "hidden": "vector"},
        lambda f, g, p: norm(sum(parts(f, g, p)) + p["modality"], p["norm"]),
    ),
    "vilbert": (
        {"geometry": "area", "whole": True},
        lambda f, g, p: norm(dense(f, p["feature"]) + dense(g, p["geometry"]), p["norm"]),
    ),
    "visualbert": (
        {"geometry": "none", "mix": "plain", "segment": True},
        lambda f, g, p: norm(dense(f, p["feature"]) + p["modality"], p["norm"]),
    ),
    "oscar": (
        {"geometry": "six", "mix": "joined", "norm": False},
        lambda f, g, p: dense(np.concatenate([f, g], -1), p["feature"]),
    ),
}  # fmt: skip


def geometry(boxes, kind):
    x0, y0, x1, y1 = np.moveaxis(np.float64(boxes), -1, 0)
    w, h = x1 - x0, y1 - y0
    more = {"none": [], "corners": [], "area": [w * h], "six": [w, h], "seven": [w, h, w * h]}[kind]
    return np.stack([x0, y0, x1, y1, *more], -1)


@pytest.mark.parametrize("row", EQUATIONS)
def test_tokens_are_those_of_the_rows_equation(row, rng):
    settings, equation = EQUATIONS[row]
    images, boxes = rng.normal(size=(B, SIDE, SIDE, F)).astype(np.float32), draw_boxes(rng, B, R)
    there, hidden = np.array([[1, 1, 1], [1, 1, 0]], bool), np.array([[0, 1, 0], [1, 0, 0]], bool)
    given = {"boxes": boxes, "there": there, "hidden": hidden}
    model = Regions(Grid(), width=D, **settings)
    params = random_params(model, images, given)
    found = apply(model, "__call__", params, images, given)
    f = np.float64(roi_align(images, boxes)[:, :, 0, 0])
    np.testing.assert_allclose(found.features, f, atol=1e-5)
    f = np.where(hidden[..., None], params["mask_token"] if settings.get("hidden") == "vector" else 0.0, f)
    if settings.get("whole"):
        mean = np.stack([f[b][there[b]].mean(0) for b in range(B)])
        f, boxes = np.concatenate([mean[:, None], f], 1), np.concatenate([np.tile([[[0.0, 0, 1, 1]]], (B, 1, 1)), boxes], 1)
        there = np.pad(there, ((0, 0), (1, 0)), constant_values=True)
    expected = equation(f, geometry(boxes, settings["geometry"]), jax.tree.map(np.float64, params))
    np.testing.assert_allclose(found.x, expected, atol=2e-4)
    np.testing.assert_array_equal(found.mask, there)
    assert found.class_tokens == int(settings.get("whole", False))


def test_a_hidden_region_tells_nothing_of_its_pixels(rng):
    """Nor do two pictures that differ there alone, as far as its own box is concerned."""
    images, boxes = (
        rng.normal(size=(1, SIDE, SIDE, F)).astype(np.float32),
        np.array([[[0, 0, 0.25, 0.25], [0.5, 0.5, 1, 1]]], np.float32),
    )
    given = {"boxes": boxes, "there": np.ones((1, 2), bool), "hidden": np.array([[True, False]])}
    model = Regions(Grid(), width=D)
    params = random_params(model, images, given)
    changed = images.copy()
    changed[0, 0, 0] += 1
    a, b = (apply(model, "__call__", params, x, given).x for x in (images, changed))
    np.testing.assert_array_equal(a, b)
    shown = [apply(model, "__call__", params, x, given | {"hidden": np.zeros((1, 2), bool)}).x for x in (images, changed)]
    assert np.abs(shown[0] - shown[1])[0, 0].max() > 1e-3 and np.abs(shown[0] - shown[1])[0, 1].max() == 0


def test_a_replaced_region_shows_that_of_another_picture(rng):
    """Of the row half a batch on, also where the batch is computed in microbatches; its own feature stays what is told."""
    images, boxes = rng.normal(size=(8, SIDE, SIDE, F)).astype(np.float32), draw_boxes(rng, 8, R)
    given = {"boxes": boxes, "there": np.ones((8, R), bool), "replaced": rng.random((8, R)) < 0.5}
    model = Regions(Grid(), width=D, geometry="none", mix="plain", norm=False)
    params = random_params(model, images, given)
    found = apply(model, "__call__", params, images, given)
    f = np.asarray(roi_align(images, boxes)[:, :, 0, 0])
    np.testing.assert_allclose(found.features, f, atol=1e-5)
    shown = np.where(given["replaced"][..., None], f[[4, 5, 6, 7, 0, 1, 2, 3]], f)
    np.testing.assert_allclose(found.x, dense(np.float64(shown), params["feature"]), atol=1e-4)
    parts, given = split_batch(images, 2), split_batch(given, 2)
    again = [apply(model, "__call__", params, parts[i], jax.tree.map(lambda x, i=i: x[i], given)).x for i in range(2)]
    np.testing.assert_allclose(join_batch(np.stack(again)), found.x, atol=1e-5)


def test_waves_as_wide_as_features(rng):
    """Where none are named; 64 of each number else, as runs of before have them."""
    images, boxes = rng.normal(size=(1, SIDE, SIDE, 8)).astype(np.float32), draw_boxes(rng, 1, R)
    given = {"boxes": boxes, "there": np.ones((1, R), bool)}
    for waves, width in ((0, 8 + 8), (64, 8 + 256)):
        model = Regions(Grid(8), width=D, geometry="sine", mix="joined", waves=waves)
        assert random_params(model, images, given)["feature"]["kernel"].shape == (width, D)


def test_waves_tell_corners_apart(rng):
    boxes = draw_boxes(rng, 40)
    waves = np.asarray(numbers(boxes, "sine"))
    assert waves.shape == (40, 4 * 64) and np.abs(waves).max() <= 1
    apart = np.linalg.norm(waves[:, None] - waves[None], axis=-1) + np.eye(40) * 9
    assert apart.min() > 0.1


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"geometry": "eight"}, "geometry='eight'"), ({"mix": "plain"}, "go together"), ({"hidden": "black"}, "hidden='black'")],
)
def test_mistakes_are_named(settings, told):
    given = {"boxes": np.zeros((1, 1, 4)), "there": np.ones((1, 1), bool)}
    with pytest.raises(UserError, match=told):
        Regions(Grid(), width=D, **settings).init(jax.random.PRNGKey(0), np.zeros((1, SIDE, SIDE, F)), given)


def test_cells_are_drawn_in_training_alone(rng):
    """Each a cell of the grid, none twice, others at every draw; all of them otherwise."""

    images = rng.normal(size=(2, 4, 4, F)).astype(np.float32)
    model = Cells(Grid(), width=5, sample=6)
    params = random_params(model, images)
    whole = apply(model, "__call__", params, images).x
    cell = params["cell"]
    expected = images.reshape(2, 16, F) @ cell["kernel"] + cell["bias"] + params["modality"]
    np.testing.assert_allclose(whole, expected, atol=1e-5)
    seen = []
    for number in range(2):
        drawn = model.apply({"params": params}, images, True, rngs={"dropout": jax.random.PRNGKey(number)}).x
        near = np.abs(np.asarray(drawn)[:, :, None] - expected[:, None]).max(-1)  # [B, 6, 16]
        assert (near.min(-1) < 1e-5).all()
        seen.append([frozenset(row.argmin(-1).tolist()) for row in near])
        assert all(len(row) == 6 for row in seen[-1])
    assert seen[0] != seen[1]


def test_a_transformer_over_the_regions_that_there_are(rng):
    """What is in a box that is not there changes no other region."""
    images = rng.normal(size=(1, SIDE, SIDE, F)).astype(np.float32)
    regions = {"boxes": np.array([[[0, 0, 0.5, 0.5], [0.5, 0, 1, 1], [0, 0, 1, 1]]], np.float32)}
    regions["there"] = np.array([[True, True, False]])
    model = Regions(Grid(), width=12, heads=2, layers=1, geometry="none", mix="plain")
    params = random_params(model, images, regions)
    plain = apply(model, "__call__", params, images, regions).x
    moved = regions | {"boxes": regions["boxes"] * np.array([1, 1, 0.5], np.float32)[:, None]}
    np.testing.assert_allclose(apply(model, "__call__", params, images, moved).x[:, :2], plain[:, :2], atol=1e-5)
    moved = regions | {"boxes": regions["boxes"] * np.array([1, 0.5, 1], np.float32)[:, None]}
    assert np.abs(apply(model, "__call__", params, images, moved).x[:, 0] - plain[:, 0]).max() > 1e-3


def test_regions_that_know_their_number(rng):
    """Two boxes of one place are told apart by it alone."""
    images, boxes = rng.normal(size=(1, SIDE, SIDE, F)).astype(np.float32), np.array([[[0, 0, 0.5, 0.5]] * 2], np.float32)
    regions = {"boxes": boxes, "there": np.ones((1, 2), bool)}
    model = Regions(Grid(), width=D, norm=False, numbers=3)
    params = random_params(model, images, regions)
    x = apply(model, "__call__", params, images, regions).x[0]
    np.testing.assert_allclose(x[1] - x[0], params["number_table"][1] - params["number_table"][0], atol=1e-5)
    with pytest.raises(UserError, match="numbers=1: there are 2 regions"):
        Regions(Grid(), width=D, numbers=1).init(jax.random.PRNGKey(0), images, regions)


def test_a_visual_dictionary(rng):
    """Cells and their nearest entries by loops; hidden are all cells of one entry; gradients pass the entries by."""
    images, N, K = rng.normal(size=(B, SIDE, SIDE, F)).astype(np.float32), SIDE * SIDE, 5
    model, normed = (Dictionary(Grid(), width=8, entries=K, normed=after) for after in (False, True))
    params = dict(random_params(normed, images))
    norm = params.pop("norm")
    place = np.array([0.4, -1.0], np.float32)
    seen = jax.device_get(apply(model, "__call__", params, images, {"place": place}))
    table, codes = np.float64(params["dictionary_table"]), seen.codes
    z = images.reshape(B, N, F).astype(np.float64) @ params["cell"]["kernel"] + params["cell"]["bias"]
    for b in range(B):
        for n in range(N):
            k = np.argmin(((table - z[b, n]) ** 2).sum(-1))
            assert codes[b, n] == k
            shares = np.concatenate([z[b, n], table[k]]) @ params["gate"]["kernel"] + params["gate"]["bias"]
            shares = np.exp(shares) / np.exp(shares).sum()
            x = shares[0] * z[b, n] + shares[1] * table[k]
            hidden = b == 0 and k == codes[0, int(0.4 * N)]
            assert bool(seen.hidden[b, n]) == hidden
            expected = (params["mask_token"] if hidden else x) + sincos_2d(SIDE, SIDE, 8)[n]
            np.testing.assert_allclose(seen.x[b, n], expected, atol=1e-4)
    np.testing.assert_allclose(seen.features, z, atol=1e-4)
    after = apply(normed, "__call__", params | {"norm": norm}, images, {"place": place}).x
    unit = (seen.x - seen.x.mean(-1, keepdims=True)) / np.sqrt(seen.x.var(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(after, unit * norm["scale"] + norm["bias"], atol=1e-3)
    slope = jax.jit(jax.grad(lambda p: model.apply({"params": p}, images).x.sum()))(params)
    assert not np.any(slope["dictionary_table"]) and np.any(slope["cell"]["kernel"])


def test_numbers_of_patches_as_tokens(rng):
    codes = rng.integers(0, 7, (2, 4)).astype(np.int32)
    model = PatchCodes(codes=7, places=4, width=D)
    params = random_params(model, None, {"codes": codes})
    found = apply(model, "__call__", params, None, {"codes": codes})
    np.testing.assert_allclose(found.x, params["codes_embed"]["embedding"][codes] + params["place_table"], atol=1e-6)

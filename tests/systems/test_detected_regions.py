"""Rows of regions whose boxes and features are read from files."""

import json
import os

import jax
import numpy as np
import pytest
from PIL import Image

from tests.conftest import random_params
from tests.test_zoo_run import evaluator, small
from xmodal_jax.api import load, train
from xmodal_jax.errors import UserError
from xmodal_jax.evaluators.objectives import swapped, without
from xmodal_jax.systems import recipe


@pytest.fixture
def detected(tmp_path, rng):
    """A folder of six pictures with captions, and one of their regions, as bottom-up-attention.pytorch writes them."""
    (tmp_path / "regions").mkdir()
    rows = []
    for number in range(6):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(tmp_path / f"{number}.png")
        count = int(rng.integers(1, 5))
        corner = rng.random((count, 2)) * 16
        boxes = np.concatenate([corner, corner + 9], 1).astype(np.float32)
        found = {
            "x": rng.normal(size=(count, 7)).astype(np.float32),
            "norm_bb": boxes / 32,
            "obj_id": rng.integers(0, 9, count),
        }
        np.savez(tmp_path / "regions" / f"{number}.npz", **found)
        rows.append({"image": f"{number}.png", "captions": ["a square", "noise"], "split": "train" if number < 4 else "val"})
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def test_regions_of_a_detector_take_the_place_of_ones_own(detected):
    """In the batch, in the model, whose pixels matter no more, and where they are missing."""
    arguments = f"uniter,debug,image_size=32,data=captions,path={detected},regions={detected / 'regions'}"
    parts = recipe.make(small(arguments))
    batch = parts.batches[0]
    example = parts.train[0]
    with np.load(detected / "regions" / (example["id"].rpartition("/")[2].removesuffix(".png") + ".npz")) as file:
        own = parts.maker(example, 0)
        count = len(file["x"])
        np.testing.assert_allclose(own["region_features"][:count], file["x"])
        np.testing.assert_allclose(own["boxes"][:count], file["norm_bb"], rtol=1e-6)
        assert not own["region_features"][count:].any() and own["regions_there"].tolist()[: count + 1] == [True] * count + [
            False
        ]
        assert own["region_class"][:count].tolist() == file["obj_id"].tolist()
    assert parts.model.image.feature_width == 7 and len(parts.maker.classes) == 1601 and "image/grid" not in parts.towers
    params = jax.eval_shape(lambda: parts.model.init(jax.random.PRNGKey(0), parts.example_batch(1)))["params"]
    losses, _ = jax.eval_shape(evaluator(parts, batch), params)
    assert set(losses) == set(parts.objectives)
    wrong, none = swapped(batch, "image"), without(batch, "image")
    assert (
        np.array_equal(wrong["region_features"], np.roll(batch["region_features"], 1, 0)) and not none["region_features"].any()
    )
    with pytest.raises(UserError, match="given by their paths"):
        parts.maker.beside(batch["image"][0], batch["image"][0])
    os.remove(detected / "regions" / "1.npz")
    with pytest.raises(UserError, match="lacks the regions of 1 pictures, the first of them 1.png"):
        recipe.make(small(arguments))
    with pytest.raises(UserError, match="are of the pictures as they are"):
        config = small(arguments)
        config.examples.zoom = 1.5
        recipe.make(config)


def test_broken_regions_of_one_picture_are_told_and_left_out(detected, caplog):
    """The picture is there without a region, masks and losses with it; too many of them end the run."""
    arguments = f"uniter,debug,image_size=32,data=captions,path={detected},regions={detected / 'regions'}"
    config = small(arguments)
    config.data.max_bad_fraction = 0.5
    (detected / "regions" / "0.npz").rename(detected / "regions" / "0.aside")
    (detected / "regions" / "0.npz").write_bytes(b"")  # the first of all: how wide features are is read from another
    parts = recipe.make(config)
    (detected / "regions" / "0.aside").rename(detected / "regions" / "0.npz")
    whole = parts.batches[0]
    for number in range(3):
        (detected / "regions" / f"{number}.npz").write_bytes(b"PK broken")
        row = next(i for i in range(4) if parts.train[i]["id"].endswith(f"/{number}.png"))
        if number == 2:
            with pytest.raises(
                UserError, match="3 of 4 examples have regions that cannot be read: more than max_bad_fraction=0.5"
            ):
                parts.maker(parts.train[row], 0)
            break
        own = parts.maker(parts.train[row], 0)
        assert f"the regions of {number} cannot be read" in caplog.text
        assert not own["regions_there"].any() and not own["regions_target"].any() and not own["region_features"].any()
        assert {key: value.shape for key, value in own.items()} == {key: value.shape[1:] for key, value in whole.items()}
    batch = {key: np.stack([own[key]] * 4) for key in own}
    losses, _ = jax.jit(evaluator(parts, batch))(random_params(parts.model, parts.example_batch(1)))
    assert all(np.isfinite(loss) for loss in jax.tree.leaves(losses))


@pytest.mark.slow
def test_a_run_with_regions_of_a_detector(detected, tmp_path):
    """Trained, loaded, and used without the file on what the file would say."""
    arguments = f"uniter,debug,image_size=32,data=captions,path={detected},regions={detected / 'regions'}"
    config = small(arguments)
    folder = str(tmp_path / "run")
    results = train(config, folder)
    assert np.isfinite(results["objectives/classes/loss"]) and np.isfinite(results["objectives/features/loss"])
    model = load(folder)
    picture = str(detected / "5.png")
    told = model.match(picture, "a square")
    assert 0 < told < 1 and model.match(str(detected / "4.png"), "a square") != told
    os.rename(detected / "regions", detected / "gone")
    with pytest.raises(UserError, match="reads the regions of a picture from a file"):
        load(folder).match(picture, "a square")

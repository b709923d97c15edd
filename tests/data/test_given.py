"""What is given by hand: odd arrays, tensors and dictionaries as pictures; ~ in every path."""

import os
import sys

import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags
from safetensors.numpy import save_file

from tests.data.written import lines, picture
from xmodal_jax import cli
from xmodal_jax.data.images import picture_of, rgb_of
from xmodal_jax.data.region_files import RegionFile
from xmodal_jax.data.senses.jsonl import open_inventory
from xmodal_jax.data.sources.captions import Captions
from xmodal_jax.errors import UserError
from xmodal_jax.interop.files import header
from xmodal_jax.interop.pretrained import fetch
from xmodal_jax.interop.processing import pinned
from xmodal_jax.systems import restore

GREY = np.full((2, 3, 3), 0.5)


class OnADevice:
    """What numpy asks for an array, and does not get: a tensor that has gradients or lies elsewhere."""

    def __array__(self, *args, **kwargs):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad")


@pytest.mark.parametrize("given", [GREY + 1e-5, np.where(GREY > 0, 1 + 1e-6, 0), np.zeros((2, 3, 3)) - 1e-7, GREY.astype("f2")])
def test_floats_that_rounding_left_just_outside_are_taken(given):
    np.testing.assert_array_equal(rgb_of(given), np.rint(np.clip(given, 0, 1) * 255))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (OnADevice(), "a OnADevice that gives no array .*requires grad.*give a path"),
        ({"bytes": b"", "path": None}, "is a dict of bytes, path: give a path"),
        ({}, "is a dict of nothing"),
        (GREY.transpose(2, 0, 1)[..., :2], r"is float64 \[3, 2, 2\]: give a path"),
        (GREY * 2 - 1.5, "floats must lie in 0..1"),
        (GREY + 0.52, "floats must lie in 0..1"),
    ],
)
def test_what_is_none_is_told(given, said):
    with pytest.raises(UserError, match=said):
        picture_of(given, 4)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_the_home_folder_in_paths_that_python_is_given(home):
    picture(home / "data" / "0.png", 7)
    lines(home / "data" / "captions.jsonl", [{"image": "0.png", "caption": "a"}])
    assert len(Captions(path="~/data", split_fractions=(1, 0, 0))) == 1
    assert rgb_of("~/data/0.png").max() == 7
    assert fetch("~/data") == pinned("~/data")[0] == str(home / "data")
    for opened in (RegionFile, open_inventory, restore.load, fetch):
        with pytest.raises(UserError, match=f"{home}/data/0.png"):
            opened("~/data/0.png")


def test_the_home_folder_in_settings_of_a_command(home, monkeypatch):
    config = os.path.join("configs", "caption.py")
    monkeypatch.setattr(sys, "argv", ["x", f"--config={config}:debug,data=captions,path=~/a", "--config.model.image.init=~/b"])
    config_flags.DEFINE_config_file("config")
    try:
        flags.FLAGS(sys.argv)
        cli.expand_home()
        config = flags.FLAGS.config
        assert (config.data.path, config.model.image.init) == (str(home / "a"), str(home / "b"))
    finally:
        for flag in [flag for flag in flags.FLAGS if flag.split(".")[0] == "config"]:
            delattr(flags.FLAGS, flag)


def test_a_pointer_of_git_lfs_is_told(tmp_path):
    save_file({"a": np.zeros(3)}, tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 10\n")
    with pytest.raises(UserError, match="a Git LFS pointer, whose file was not fetched"):
        header(str(tmp_path / "model.safetensors"))

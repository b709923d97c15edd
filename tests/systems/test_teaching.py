"""A model that learns from another one of another shape: trained first or given, left out of what is finished."""

import os
import shutil

import numpy as np
import pytest

from configs.zoo import get_config
from tests.test_zoo_run import small as smaller
from xmodal_jax.api import load, train
from xmodal_jax.errors import UserError
from xmodal_jax.interop.trees import leaves
from xmodal_jax.systems import recipe, starting, teaching
from xmodal_jax.systems.model import build_model
from xmodal_jax.train import loop
from xmodal_jax.train.workdir import run_config


def small(arguments="distill_vlm,debug,image_size=32"):
    config = smaller(arguments)
    for name in ("text", "image", "interaction"):
        config.model[name].width = 8
    return config


def losses(folder):
    with open(os.path.join(folder, "metrics.jsonl"), encoding="utf-8") as file:
        return [line for line in file.read().splitlines() if "train/loss" in line]


@pytest.mark.slow
def test_a_run_trains_its_teacher_first_and_is_finished_without_it(tmp_path):
    folder = str(tmp_path / "run")
    results = train(small(), folder)
    assert {"objectives/states/loss", "objectives/attention_maps/attention_maps_error"} <= results.keys()
    assert results["objectives/words/gain"] is not None and os.path.exists(os.path.join(folder, "teacher", "results.json"))
    parts = recipe.make(run_config(folder), folder)
    params, _ = starting.parameters(parts, folder)
    of = os.path.join(folder, "teacher")
    wanted, _ = starting.parameters(build_model(run_config(of), kept=starting.kept_by(of)), of)
    assert leaves(params["teacher"]).keys() == leaves(wanted).keys()
    for path, leaf in leaves(params["teacher"]).items():
        np.testing.assert_array_equal(leaf, leaves(wanted)[path], err_msg=path)
    before = smaller("oscar,debug,image_size=32").model
    assert before.interaction.width == 16 and parts.model.interaction.width == 8

    model = load(folder)
    assert not {"teacher", "states_head"} & set(model.params)
    picture = parts.held_out[0]
    told = model.fill([picture], "this is a ___ dog")
    model.save_pretrained(str(tmp_path / "model"))
    assert load(str(tmp_path / "model")).fill([picture], "this is a ___ dog") == told


@pytest.mark.slow
def test_it_goes_on_bit_for_bit_wherever_its_teacher_is(tmp_path):
    """Given by a folder, which is moved after the first half."""
    given = str(tmp_path / "oscar")
    train(smaller("oscar,debug,image_size=32"), given)

    def config():
        return small(f"distill_vlm,debug,image_size=32,teacher={given}")

    config_once = config()
    whole, parted = str(tmp_path / "whole"), str(tmp_path / "parted")
    assert train(config_once, whole) is not None and not os.path.exists(os.path.join(whole, "teacher"))
    assert loop.train(recipe.make(config_once, parted), parted, lambda step: step == 2) is None
    shutil.move(given, tmp_path / "elsewhere")
    assert train(config_once, parted) is not None
    assert [line.partition("examples_per_s")[0] for line in losses(parted)] == [
        line.partition("examples_per_s")[0] for line in losses(whole)
    ]


def test_what_is_no_teacher_is_refused(tmp_path, monkeypatch):
    config = small()
    parts = recipe.make(config)
    assert teaching.folder_of(config, None) is None and teaching.folder_of(config, "run") == os.path.join("run", "teacher")
    monkeypatch.setattr(teaching, "run_config", lambda folder: small().teacher.run)
    monkeypatch.setattr(starting, "kept_by", lambda folder: None)
    monkeypatch.setattr(teaching, "build_model", lambda config, kept: parts)
    monkeypatch.setattr(starting, "parameters", lambda built, folder: ({"text": {"a": np.zeros(3)}}, 4))

    class State:
        params = {"teacher": {"text": {"a": np.zeros(2)}}}

    with pytest.raises(UserError, match=r"is no teacher of these examples, 1 arrays have another shape.*not there \(text/a"):
        teaching.started(State, "run")
    config = get_config("oscar,debug,image_size=32")
    config.objectives.attention_maps = {"weight": 1.0}
    with pytest.raises(UserError, match="objectives.attention_maps needs a teacher, a trained run"):
        recipe.make(config)

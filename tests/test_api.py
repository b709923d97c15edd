"""A run of seconds, then everything that its folder offers through the Python door."""

import os

import jax
import numpy as np
import pytest

from tests.runs import pretrain_config
from xmodal_jax import api, evaluators
from xmodal_jax.data.sources.scenes import Scenes
from xmodal_jax.errors import UserError
from xmodal_jax.systems import recipe, restore
from xmodal_jax.systems.restore import newest
from xmodal_jax.train.workdir import run_config, write_config

small = pretrain_config


@pytest.fixture(scope="module")
def picture():
    return Scenes(split="val", lang="en", size=50)[0]["image"]


def test_generate(model, picture):
    caption, answer = model.caption(picture), model.answer(picture, "what color is the car?")
    assert isinstance(caption, str) and isinstance(answer, str)
    assert model.caption(picture) == caption, "greedy: the same again"
    assert isinstance(model.caption(None, lang="ko", length=8), str)


def test_fill(model, picture):
    word, score = model.fill(picture, "a child is holding a ___ in the park")
    assert isinstance(word, str) and np.isfinite(score) and score <= 0
    with pytest.raises(UserError, match="no blank"):
        model.fill(picture, "a child")


def test_pick_sense(model, picture):
    senses = model.pick_sense(picture, "a child is holding a bat", "bat")
    probabilities = [probability for _, probability in senses]
    assert len(senses) >= 2 and {sense.id for sense, _ in senses} == {s.id for s in model.inventories["en"].senses("bat")}
    np.testing.assert_allclose(sum(probabilities), 1, rtol=1e-6)
    assert probabilities == sorted(probabilities, reverse=True)
    assert len(model.pick_sense(picture, "아이가 배를 들고 있다", "배", lang="ko")) >= 2
    with pytest.raises(UserError, match="does not stand in the text"):
        model.pick_sense(picture, "a child", "bat")


def test_associate(model, picture):
    text = "a child is holding a bat"
    pieces, weights = model.associate(picture, text)
    assert b"".join(pieces).decode() == text and weights.shape == (len(pieces), 16)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-4)


def test_the_averaged_parameters_of_the_newest_checkpoint_give_the_results_of_the_run(run, caplog):
    folder, results = run
    parts = recipe.make(run_config(folder), folder)
    params, step = restore.parameters(parts, folder)
    judge = evaluators.make(parts)
    again, _ = judge(params)
    other = jax.jit(lambda params: jax.tree.map(lambda value: value / 2, params))(params)
    with jax.log_compiles():
        judge(other)
    assert not [record for record in caplog.records if "Compiling" in record.getMessage()], "nothing for the next evaluation"
    assert step == 8 and again.keys() == results.keys()
    np.testing.assert_allclose([again[name] for name in results], list(results.values()), rtol=1e-5)


def test_an_earlier_checkpoint_and_the_test_split(run):
    folder, results = run
    parts = recipe.make(run_config(folder), folder, "test")
    params, step = restore.parameters(parts, folder, step=6)
    assert step == 6 and parts.held_out.split == "test"
    tested, _ = evaluators.make(parts)(params)
    assert tested.keys() == results.keys() and tested != results
    assert np.isfinite(list(tested.values())).all()


def test_a_folder_without_a_run_or_a_checkpoint_is_named(run, tmp_path):
    with pytest.raises(UserError, match="holds no run: there is no config.json"):
        api.load(str(tmp_path))
    with pytest.raises(UserError, match="holds no run"):
        api.load(str(tmp_path / "missing"))
    write_config(run_config(run[0]), str(tmp_path))
    with pytest.raises(UserError, match="holds no checkpoint yet"):
        api.load(str(tmp_path))
    with pytest.raises(UserError, match="no checkpoint of step 5 in .*those of steps 8, 6"):
        api.load(run[0], step=5)


def test_the_latest_run(tmp_path):
    """That which was started last, whatever it is called; a folder of that name is itself."""
    for number, name in enumerate(("b", "a", "c")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        os.utime(tmp_path / name / "config.json", (number, number if name != "c" else 0))
    (tmp_path / "d").mkdir()
    assert newest(str(tmp_path / "latest")) == str(tmp_path / "a") and newest(str(tmp_path / "b")) == str(tmp_path / "b")
    (tmp_path / "latest").mkdir()
    assert newest(str(tmp_path / "latest")) == str(tmp_path / "latest")
    with pytest.raises(UserError, match="no run in .*none yet"):
        newest(str(tmp_path / "none" / "latest"))

"""Numbers that cannot be meant are refused before anything is built, by their names; those of every config are right."""

import pytest

from xmodal_jax.config import config_files, load_config
from xmodal_jax.errors import UserError
from xmodal_jax.systems import numbers, recipe

WRONG = {
    "total_steps": 0, "batch_size": -4, "log_every": 0, "accumulate": 0, "checkpoint_every": 0, "keep_checkpoints": 0,
    "eval_every": -1, "seed": -1, "ema": 1.0, "optimizer.learning_rate": -1e-3, "optimizer.b1": 2.0, "optimizer.clip": -1.0,
    "optimizer.warmup": -5.0, "optimizer.weight_decay": float("inf"), "optimizer.layer_decay": 0.0, "optimizer.final": 2.0,
    "loader.workers": -1, "loader.patience": -3, "data.seed": -1, "evaluators.retrieval.count": -5,
    "objectives.captioning.weight": float("nan"), "objectives.kl.weight": -1.0, "model.latent_size": 0,
    "model.decoder.width": 0, "examples.phrases": -1, "model.decoder.heads": -2, "model.image.dropout": 1.0,
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_number_that_cannot_be_meant(name):
    config = load_config("configs/caption.py", "debug")
    config.update_from_flattened_dict({name: WRONG[name]})
    with pytest.raises(UserError, match=rf"config\.{name}=.*must be"):
        recipe.make(config)


@pytest.mark.parametrize("name", sorted(config_files()))
@pytest.mark.parametrize("scale", ["debug", "tiny", "large"])
def test_the_numbers_of_the_configs_are_right(name, scale):
    arguments = {
        "debug": "debug",
        "configs/pretrain.py": f"size={scale}",
        "configs/zoo.py": "scale=paper",
        "configs/compress.py": "",
    }
    config = load_config(name, arguments.get(scale if scale == "debug" else name, f"scale={scale}"))
    numbers.check(config)
    assert dict(numbers.numbers(config))["total_steps"] == config.total_steps


def test_the_way_of_fitting_pictures_is_known_before_they_are_drawn():
    config = load_config("configs/caption.py", "debug")
    config.examples.mode = "squish"
    with pytest.raises(UserError, match="examples.mode: mode must be one of"):
        recipe.make(config)

"""A teacher of another shape: a trained model that another one learns from (objectives `attention_maps`, `states`, `words`).

    config.teacher = {"init": folder of the teacher's run, or "", "run": its config}
Without a folder it is trained first, as a run of its own in WORKDIR/teacher. Its parameters lie among the student's, frozen and
without moments: what becomes of the teacher's run changes nothing of it. A finished model is used without them.
"""

import dataclasses
import os

import jax
import jax.numpy as jnp
from absl import logging
from ml_collections import ConfigDict

from xmodal_jax.errors import UserError
from xmodal_jax.interop.trees import leaves
from xmodal_jax.systems import kept, starting
from xmodal_jax.systems.model import build_model
from xmodal_jax.train.workdir import run_config

NAME = "teacher"  # of its parameters, of the folder in which it is trained
FROZEN = (f"^{NAME}/",)
BESIDE = (NAME, "states_head")  # of the parameters, what a finished model goes without


def is_taught(config):
    return bool(config.get(NAME))


def folder_of(config, workdir):
    """Of the teacher's run; None where there is neither one nor a folder for it."""
    return config.teacher.init or (os.path.join(workdir, NAME) if workdir else None)


def kept_by(config, workdir):
    """The folder of what the teacher's run keeps, whose words are its student's too; None before it is trained."""
    folder = folder_of(config, workdir)
    if config.teacher.init:
        return starting.kept_by(folder)
    return kept.kept_of(folder) if folder else None


def started(state, folder):
    """A fresh state with the parameters of the teacher's run. UserError where their shapes are others."""
    built = build_model(run_config(folder), kept=starting.kept_by(folder))
    given, own = leaves(starting.parameters(built, folder)[0]), leaves(state.params[NAME])
    there, here = ({(path, leaf.shape) for path, leaf in tree.items()} for tree in (given, own))
    if wrong := sorted({path for path, _ in there ^ here}):
        raise UserError(
            f"config.teacher: the run {folder} is no teacher of these examples, {len(wrong)} arrays have another shape or are "
            f"not there ({wrong[0]}). Both need the same examples.length, tokenizer and kind of pictures."
        )
    logging.info("the teacher: %d arrays from %s", len(given), folder)
    taken = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jax.device_put(given["/".join(part.key for part in path)], leaf.sharding), state.params[NAME]
    )
    params = state.params | {NAME: taken}
    return state.replace(params=params, ema=None if state.ema is None else jax.tree.map(jnp.copy, params))


def alone(built, params):
    """A finished model and its parameters, without its teacher."""
    if not is_taught(built.config):
        return built, params
    predicts = tuple(head for head in built.model.predicts if head != "states")
    config = ConfigDict({name: value for name, value in built.config.items() if name != NAME})
    built = dataclasses.replace(built, config=config, model=built.model.clone(teacher=None, predicts=predicts))
    return built, {name: value for name, value in params.items() if name not in BESIDE}

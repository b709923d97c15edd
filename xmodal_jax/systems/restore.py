"""Reading a run back: its config, its parts, its parameters."""

import os

import jax

from xmodal_jax.data.senses import FrozenLMScorer
from xmodal_jax.errors import UserError
from xmodal_jax.systems import recipe
from xmodal_jax.train import mesh as layout
from xmodal_jax.train.checkpoints import Checkpoints
from xmodal_jax.train.program import state_maker
from xmodal_jax.train.step import averaged
from xmodal_jax.train.workdir import run_config


def restore(config, workdir, step=None, split="val"):
    """-> (predictor of its system, recipe, step number) of a checkpoint in `workdir`."""
    parts = recipe.make(config, split, frozen_scorer)
    mesh = layout.make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        _, shapes = state_maker(parts, mesh)
        folder = os.path.join(workdir, "checkpoints")
        checkpoints = Checkpoints(folder) if os.path.isdir(folder) else None
        restored = checkpoints.restore(shapes, step) if checkpoints else None
    if restored is None:
        raise UserError(f"{workdir} holds no checkpoint yet: train first, or give the folder of a run that has saved one.")
    state, meta = restored
    return parts.predictor(averaged(state)), parts, meta["next_step"]


def frozen_scorer(workdir):
    """A sense scorer from the text encoder of a trained run, frozen (claim 6): mean-pooled hidden states, cosine."""
    predictor, _, _ = restore(run_config(workdir), workdir)
    return FrozenLMScorer(predictor.text_vectors)

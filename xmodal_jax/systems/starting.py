"""The parameters of trained models: as they are used, and as another run starts from them."""

import os

import jax
import jax.numpy as jnp
from absl import logging

from xmodal_jax.errors import UserError
from xmodal_jax.interop.trees import leaves, nest
from xmodal_jax.systems import kept, whole
from xmodal_jax.systems.model import build_model
from xmodal_jax.train import checkpoints, checksums
from xmodal_jax.train import mesh as layout
from xmodal_jax.train.step import init_params
from xmodal_jax.train.workdir import run_config


def parameters(built, workdir, step=None):
    """(parameters, step number) of a run's checkpoint: the averaged ones where it keeps some, adapters taken in, shared and
    pruned as the run has decided.

    They lie over the devices here, by the run's mesh where it fits them.
    """
    config = built.config
    try:
        mesh = layout.make_mesh(config.mesh)
    except UserError:  # trained on more devices, or on fewer
        mesh = layout.make_mesh({"fsdp": -1})
    with jax.set_mesh(mesh):
        shapes = jax.eval_shape(lambda: init_params(built.model, built.example_batch(1), jax.random.PRNGKey(0), built.extended))
        places = layout.shardings(shapes, mesh)
        shapes = jax.tree.map(lambda s, place: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place), shapes, places)
        part = "ema" if config.ema else "params"
        found = checkpoints.read(os.path.join(workdir, "checkpoints"), {part: shapes}, step)
    if found is None:
        raise UserError(f"{workdir} holds no checkpoint yet: train first, or give the folder of a run that has saved one.")
    state, meta = found
    own = kept.kept_of(workdir)
    if own and meta.get("kept") not in (None, checksums.digest(own)):
        raise UserError(
            f"{own} is not what it was when the checkpoint of step {meta['next_step']} was saved: the model would read other "
            "words. Put it back as it was."
        )
    return built.used(state[part]), meta["next_step"]


def kept_by(place):
    """The folder of what a trained model keeps beside its arrays: of a run, or of a whole model, which is that folder."""
    if whole.is_checkpoint(place):
        return place
    found = kept.kept_of(place)
    if found is None:
        raise UserError(f"config.init={place!r} is neither a run that keeps its model nor a whole model (`save_pretrained`).")
    return found


def started(state, place):
    """A fresh state with the parameters of a trained model wherever their paths and shapes are the same.

    Raises UserError where a path has another shape, or where nothing is the same.
    """
    if whole.is_checkpoint(place):
        _, params, _ = whole.read(place)
    else:
        params, _ = parameters(build_model(run_config(place), kept=kept_by(place)), place)
    given, own = leaves(params), leaves(state.params)
    taken = [path for path in own if path in given]
    shapes = {path: (given[path].shape, own[path].shape) for path in taken}
    wrong = [f"{path}: {there} there, {here} here" for path, (there, here) in shapes.items() if there != here]
    if wrong or not taken:
        reason = "; ".join(wrong[:5]) or "no array has the same path"
        raise UserError(f"config.init={place!r} does not fit this model: {reason}.")
    new, left = sorted(set(own) - set(given)), sorted(set(given) - set(own))
    logging.info("from %s: %d arrays; new: %s; left over: %s", place, len(taken), named(new), named(left))
    made = nest(own | {path: jax.device_put(given[path], own[path].sharding) for path in taken})
    return state.replace(params=made, ema=None if state.ema is None else jax.tree.map(jnp.copy, made))


def named(paths, most=4):
    """A few paths, for people."""
    return "none" if not paths else ", ".join(paths[:most]) + (f" and {len(paths) - most} more" if len(paths) > most else "")

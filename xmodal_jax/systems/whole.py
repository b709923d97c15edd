"""A whole model as one folder: config.json, model.safetensors, README.md, and what a run keeps (tokeniser, answers, ...)."""

import json
import os

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import xmodal_jax
from xmodal_jax.compress import int8
from xmodal_jax.config import choose, to_json
from xmodal_jax.errors import UserError
from xmodal_jax.interop.files import tensors_of
from xmodal_jax.interop.pretrained import fetch
from xmodal_jax.interop.processing import read_json
from xmodal_jax.interop.trees import leaves, nest
from xmodal_jax.systems import kept
from xmodal_jax.systems.card import model_card
from xmodal_jax.systems.export import new_folder, processor_of
from xmodal_jax.systems.model import build_model, shapes_of

WEIGHTS = {"float32": False, "int8": True}  # whether matrices are stored in eight bits
TYPE = "xmodal_jax"  # model_type of config.json
PARTS = ("model", "examples", "objectives", "precision", "seed")  # of a run's config: what its model follows from


def is_checkpoint(folder):
    """Whether a folder holds a model, of whatever library, and not a run."""
    return "model_type" in read_json(folder, "config.json")


def is_own(folder):
    """Whether it holds a whole model of this library."""
    return read_json(folder, "config.json").get("model_type") == TYPE


def write(built, params, step, folder, place, weights="float32"):
    """Write a model with its parameters (adapters taken in) into a new folder.

    place: where it comes from, a run's folder. weights: how matrices are stored, of WEIGHTS.
    """
    with new_folder(folder) as part:
        fill(built, params, step, part, place, weights)


def fill(built, params, step, folder, place, weights):
    """The same into a folder that there is."""
    from safetensors.numpy import save_file

    kept.write(built, folder)
    config = json.loads(to_json(built.config))
    config = without_places({name: config[name] for name in PARTS})
    about = {"model_type": TYPE, "system": built.config.model.name, "version": xmodal_jax.__version__, "step": step}
    about["weights"] = weights
    stored = int8.quantised(params) if choose(WEIGHTS, weights, "weights") else params
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump({**about, "config": config}, file, indent=2, sort_keys=True)
    if "image" in built.towers:
        processor_of(built).to_folder(folder)
    save_file({path: np.asarray(array) for path, array in leaves(stored).items()}, os.path.join(folder, "model.safetensors"))
    results = read_json(place, "results.json") if step == built.config.get("total_steps") else {}  # they are of the run's end
    with open(os.path.join(folder, "README.md"), "w", encoding="utf-8") as file:
        file.write(model_card(built, built.predictor(None), params, step, results))


def without_places(value):
    """A config whose paths are names alone: where a model came from on one machine is nobody else's matter."""
    if isinstance(value, dict):
        return {name: without_places(inner) for name, inner in value.items()}
    is_place = isinstance(value, str) and os.sep in value and (os.path.isabs(value) or os.path.exists(value))
    return os.path.basename(os.path.normpath(value)) if is_place else value


def read(name_or_folder):
    """-> (Built, parameters, step) of a folder that `write` wrote, or of its name on the hub."""
    folder = fetch(name_or_folder)
    about = read_json(folder, "config.json")
    if about.get("model_type") != TYPE:
        raise UserError(
            f"{name_or_folder} is no whole model of xmodal_jax (model_type {about.get('model_type')!r}). Single encoders and "
            "decoders of the public formats are read by xmodal_jax.interop.pretrained.load_pretrained."
        )
    found = tensors_of(folder)
    try:
        built, step = build_model(ConfigDict(about["config"]), kept=folder), int(about["step"])
        params = int8.restored(nest({path: jnp.asarray(tensor.read()) for path, tensor in found.items()}))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{name_or_folder}: its config.json and model.safetensors make no model ({type(error).__name__}: {error}); fetch "
            "them again."
        ) from error
    if built.materialised is None:
        check(name_or_folder, params, shapes_of(built.model, built.maker))
    return built, params, step


def check(place, params, shapes):
    """Raise a UserError where arrays are missing, left over or of another shape than the model's."""
    ours, theirs = ({path: array.shape for path, array in leaves(tree).items()} for tree in (shapes, params))
    if different := sorted(path for path in ours.keys() | theirs.keys() if ours.get(path) != theirs.get(path)):
        told = ", ".join(f"{path} ({theirs.get(path)} for {ours.get(path)})" for path in different[:5])
        raise UserError(f"{place}: {len(different)} arrays do not fit the config: {told}.")

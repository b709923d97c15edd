"""Public checkpoints as modules and parameters of ours, and back.

module, params, settings = load_pretrained("google/vit-base-patch16-224")
save_pretrained("folder", module, params, settings)      # a folder that transformers loads in PyTorch
module, params, settings = from_config(transformers.ViTConfig(), heads=("pooler",))
settings = settings_of(ViT(width=96, grid=(8, 8)))       # of a module that was not made of a config
"""

import copy
import dataclasses
import json
import os
import re
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging

from xmodal_jax.config import choose, fields_of
from xmodal_jax.errors import UserError
from xmodal_jax.files import adding, at_home
from xmodal_jax.interop import (
    bart,
    beit,
    bert,
    blip,
    clip,
    cnn,
    deberta,
    efficientnet,
    flava,
    gpt2,
    recurrent,
    region_pairs,
    siglip,
    swin,
    t5,
    vilt,
    vit,
)
from xmodal_jax.interop.assemble import Reader
from xmodal_jax.interop.files import tensors_of
from xmodal_jax.interop.interpolate import resize_positions
from xmodal_jax.interop.names import check, known_names
from xmodal_jax.interop.processing import pinned, read_json
from xmodal_jax.interop.trees import get, leaves, moved, nest

FAMILIES = {
    "align": efficientnet.ALIGN_FAMILY,
    "bart": bart.FAMILY,
    "beit": beit.FAMILY,
    "bert": bert.BERT_FAMILY,
    "blip": blip.FAMILY,
    "clip": clip.FAMILY,
    "clip_text_model": clip.TEXT_FAMILY,
    "clip_vision_model": clip.VISION_FAMILY,
    "deberta-v2": deberta.FAMILY,
    "efficientnet": efficientnet.FAMILY,
    "flava": flava.FAMILY,
    "gpt2": gpt2.FAMILY,
    "gru": recurrent.FAMILY,
    "lstm": recurrent.FAMILY,
    "lxmert": region_pairs.LXMERT_FAMILY,
    "mt5": t5.FAMILY,
    "resnet": cnn.RESNET_FAMILY,
    "roberta": bert.ROBERTA_FAMILY,
    "siglip": siglip.FAMILY,
    "siglip_text_model": siglip.TEXT_FAMILY,
    "siglip_vision_model": siglip.VISION_FAMILY,
    "swin": swin.FAMILY,
    "t5": t5.FAMILY,
    "vgg": cnn.VGG_FAMILY,
    "vilt": vilt.FAMILY,
    "visual_bert": region_pairs.VISUALBERT_FAMILY,
    "vit": vit.FAMILY,
}  # by transformers' model_type
OWN_CONFIGS = {"gru": recurrent.RecurrentConfig, "lstm": recurrent.RecurrentConfig, "vgg": cnn.VGGConfig}  # it has none
GROUPS = {"pooler": "pooler", "masked_lm": "masked_lm", "next_sentence": "next_sentence", "labels": "classifier"}  # by field
SETTINGS_FILE = "settings.json"
COUNTS = re.compile("num_|layers?$|n_head")  # of settings that something is made of for each
MOST_OF_A_KIND, MOST_OF_ANY = 1_000_000, 1 << 31


@dataclasses.dataclass(frozen=True)
class Settings:
    """What belongs to a checkpoint beside its weights.

    Attributes: config of transformers; folder it was read from; groups of heads that it has; prefixed: whether the base model's
    names carry their prefix; left_out: names of a head of another task, which is not read.
    """

    config: Any
    folder: str = ""
    groups: tuple = ()
    prefixed: bool = False
    left_out: tuple = ()


class Pretrained(NamedTuple):
    """A linen module, its parameters, and the settings of the checkpoint."""

    module: Any
    params: Any
    settings: Settings


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose config and names have been read and found to fit, and whose arrays have not been read yet.

    Attributes: module, settings: as `load_pretrained` returns them; shapes: tree of its parameters' ShapeDtypeStructs; entries
    to read; found: {name: files.Tensor}; grids: {path of a position table: (rows, columns) to interpolate it to}.
    """

    module: Any
    settings: Settings
    shapes: Any
    entries: list
    found: dict
    grids: dict

    def read(self, dtype="float32", sharding=None):
        """{path: array of ours}, each array read by itself and laid out as `sharding` (path -> sharding, or None) says."""
        reader, params = Reader(self.found, np.dtype(dtype)), {}
        for entry in self.entries:
            if entry.ours in self.grids:
                array = self.found[entry.theirs[0]].read()  # [1, N, D] or [N, D]
                array = resize_positions(array.reshape(1, -1, array.shape[-1]), self.grids[entry.ours]).astype(dtype)
            else:
                array = reader.read(entry, get(self.shapes, entry.ours).shape)
            params[entry.ours] = jax.device_put(array, sharding(entry.ours) if sharding else None, may_alias=True)
        return params

    def parts(self, places):
        """The same, of which only the parts in `places`, {path: path in a larger model}, are read, and under those paths."""
        paths = {path: new for path in leaves(self.shapes) if (new := moved(path, places))}
        return dataclasses.replace(
            self,
            shapes=nest({new: get(self.shapes, path) for path, new in paths.items()}),
            entries=[dataclasses.replace(e, ours=paths[e.ours]) for e in self.entries if e.ours in paths],
            grids={paths[path]: grid for path, grid in self.grids.items() if path in paths},
        )


def open_checkpoint(name_or_folder, image_size=None, heads=None, new=(), changes=None, **settings):
    """Everything of a checkpoint but its arrays.

    Args:
      image_size, settings: as for `load_pretrained`. heads: groups to take of those that it has (None: all).
      new: patterns of parameters that it need not have, and that are then not read; changes: {name: value} of its config.
    """
    folder = fetch(name_or_folder)
    config = read_config(folder)
    for name, value in (changes or {}).items():
        setattr(config, name, value)
    family = choose(FAMILIES, config.model_type, "model_type of a checkpoint")
    if image_size is not None:
        if not family.positions:
            raise UserError(f"image_size={image_size}: a {config.model_type} checkpoint has no image positions to interpolate.")
        pictures = next((part for part in ("vision_config", "image_config") if hasattr(config, part)), None)
        (getattr(config, pictures) if pictures else config).image_size = image_size
    try:
        return fitted(folder, config, family, image_size, heads, new, settings)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder}/config.json: its values make no {config.model_type} ({type(error).__name__}: {str(error)[:300]})."
        ) from error


def fitted(folder, config, family, image_size, heads, new, settings):
    """The `Checkpoint` of a config and of the names and shapes in a folder."""
    entries = family.entries(config)
    found, others, prefixed = known_names(tensors_of(folder), family, entries, config)
    groups = {entry.group for entry in entries if entry.group and any(name in found for name in entry.names())}
    taken = groups if heads is None else groups & set(heads)
    for entry in entries:
        if entry.group in groups - taken:
            found = {name: tensor for name, tensor in found.items() if name not in entry.names()}
    entries = [entry for entry in entries if not entry.group or entry.group in taken]
    module = family.module(config, taken, **settings)
    shapes = parameter_shapes(module, *jax.eval_shape(lambda: tuple(family.example(config))))  # nothing is allocated
    entries = [entry for entry in entries if not is_new(entry, found, new)]
    grids = family.positions(config) if image_size is not None else {}
    check(folder, entries, shapes, found, grids, new)
    if others:
        parts = sorted({name.rsplit(".", 1)[0] for name in others})
        logging.warning("%s: left out, a head of another task (%d arrays): %s", folder, len(others), ", ".join(parts))
    return Checkpoint(module, Settings(config, folder, tuple(sorted(taken)), prefixed, others), shapes, entries, found, grids)


def is_new(entry, found, patterns):
    """Whether an array of ours is one that the checkpoint may lack, and lacks."""
    return any(re.search(pattern, entry.ours) for pattern in patterns) and not any(name in found for name in entry.names())


def load_pretrained(name_or_folder, dtype="float32", image_size=None, sharding=None, heads=None, **settings):
    """Read a checkpoint of the public format: config.json and safetensors, from a folder or by its name on the hub.

    Args:
      dtype: of the parameters. image_size: pixels, or (rows, columns): image positions are interpolated to it, bicubic, as
        transformers does. sharding: tree of ShapeDtypeStructs -> tree of shardings (`train.mesh.shardings` of a mesh).
      heads: names of heads to take of those that it has, () for the encoder alone; None: all. A head of another task (question
        answering, ViLT's, masked patches ...) is left out; the log and `settings.left_out` name it.
      settings: of the module: remat, dropout, dtype as `compute` ...
    Returns:
      Pretrained(module, params, settings); the parameters lie where `sharding` says, each array read by itself.
    Raises:
      UserError: an unknown model_type; a pickle; missing, left over or misshapen arrays, all of them listed.
    """
    checkpoint = open_checkpoint(name_or_folder, image_size, heads, **settings)
    places = leaves(sharding(checkpoint.shapes)) if sharding else {}
    params = checkpoint.read(dtype, places.get)
    return Pretrained(checkpoint.module, nest(params), checkpoint.settings)


def from_config(config, heads=(), key=None, **settings):
    """A new model from a config of transformers, with random parameters: to be trained here and saved for PyTorch.

    Args:
      heads: groups that it shall have ("pooler", "classifier", "masked_lm", ...); key: of the random numbers, 0 where None.
    Raises:
      UserError: an unknown model_type, or a head that it does not have.
    """
    family = choose(FAMILIES, config.model_type, "model_type of a config")
    for head in heads:
        choose(
            {entry.group: entry for entry in family.entries(config) if entry.group},
            head,
            f"head of a {config.model_type} model",
        )
    module = family.module(config, set(heads), **settings)
    key = jax.random.PRNGKey(0) if key is None else key
    params = jax.jit(lambda: module.init(key, *family.example(config))["params"])()
    return Pretrained(module, params, new_settings(family, config, heads))


def new_settings(family, config, heads):
    """Settings of a model that no checkpoint was read for."""
    return Settings(config, groups=tuple(sorted(heads)), prefixed=bool(set(heads) & set(family.heads)))


def settings_of(module):
    """Settings of a module that was not made of a config: with the config of transformers that means the same.

    Raises UserError where there is none, and where it has settings that no such config can say.
    """
    kinds = {family.kind: family for family in FAMILIES.values() if family.config}
    if type(module) not in kinds:
        known = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise UserError(f"A {type(module).__name__} has no counterpart in PyTorch. These have one: {known}.")
    config = kinds[type(module)].config(module)
    family = FAMILIES[config.model_type]
    heads = {group for field, group in GROUPS.items() if getattr(module, field, None)}
    ours, theirs = architecture(module), architecture(family.module(config, heads))
    if different := [f"{name}={ours[name]!r}" for name in ours if ours[name] != theirs[name]]:
        raise UserError(f"PyTorch's {config.model_type} has no counterpart to {', '.join(different)}.")
    return new_settings(family, config, heads)


def save_settings(folder, settings):
    """Write the settings of a model alone, config.json and settings.json: enough to build its module."""
    os.makedirs(folder, exist_ok=True)
    settings.config.save_pretrained(folder)
    with open(os.path.join(folder, SETTINGS_FILE), "w", encoding="utf-8") as file:
        json.dump({"groups": settings.groups, "prefixed": settings.prefixed}, file)


def read_settings(folder):
    """Read them."""
    about = read_json(folder, SETTINGS_FILE)
    if not isinstance(about.get("groups"), list) or "prefixed" not in about:
        raise UserError(f"{folder}/{SETTINGS_FILE} is missing or broken: it belongs to the run; restore it.")
    return Settings(read_config(folder), folder, tuple(about["groups"]), bool(about["prefixed"]))


def module_of(settings, **more):
    """The module that settings describe; more: settings of the module that they do not say (dropout, remat, dtype)."""
    family = choose(FAMILIES, settings.config.model_type, "model_type")
    return family.module(settings.config, set(settings.groups), **more)


def architecture(module):
    """{field: value} of what a module computes, without how it is trained and on what."""
    out = {field.name: getattr(module, field.name) for field in fields_of(type(module))}
    if "mlp_ratio" in out:
        out["mlp_ratio"] = round(module.width * module.mlp_ratio) / module.width
    if style := out.pop("style", None):
        out |= {f"style.{field.name}": getattr(style, field.name) for field in dataclasses.fields(style)}
    return {name: value for name, value in out.items() if name not in ("dropout", "remat", "dtype", "style.kernel")}


def save_pretrained(folder, module, params, settings):
    """Write config.json and model.safetensors that transformers loads in PyTorch; what was left out in reading is left out."""
    from safetensors.numpy import save_file

    family = choose(FAMILIES, settings.config.model_type, "model_type of a checkpoint")
    flat, tensors = leaves(params), {}
    prefix = f"{family.prefix}." if settings.prefixed else ""
    for entry in family.entries(settings.config):
        if entry.group and entry.group not in settings.groups:
            continue
        for name, view in entry.parts(np.asarray(flat.pop(entry.ours))):
            if name is not None:
                name = name if entry.group in family.heads else prefix + name
                tensors[name] = np.asarray(entry.layout.write(view), order="C")
    if flat:
        raise UserError(f"These parameters have no place in a {settings.config.model_type} checkpoint: {', '.join(flat)}.")
    config = copy.deepcopy(settings.config)
    config.dtype = str(next(iter(tensors.values())).dtype)  # transformers casts to it
    with adding(folder) as part:
        config.save_pretrained(part)
        save_file(tensors, os.path.join(part, "model.safetensors"), metadata={"format": "pt"})


def fetch(name_or_folder):
    """A folder as it is; of NAME or NAME@REVISION on the hub its snapshot in the cache, downloaded where it lacks."""
    name_or_folder = at_home(name_or_folder)
    if os.path.isdir(name_or_folder):
        return name_or_folder
    if os.path.exists(name_or_folder):
        raise UserError(f"{name_or_folder} is a file: give the folder that it lies in, which holds the config too.")
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.jsonl", "*.safetensors", "*.txt", "*.model"]
    name, revision = pinned(name_or_folder)
    try:
        return snapshot_download(name, allow_patterns=patterns, **revision)
    except Exception as error:  # the hub's many kinds: not found, not allowed, offline
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(
            f"{name_or_folder!r} is no folder here, and the hub does not give it ({reason}). Check the name; without a network "
            "give a folder."
        ) from error


def read_config(folder):
    """The config of transformers with all its defaults, or one of `OWN_CONFIGS`."""
    values = read_json(folder, "config.json")
    plausible(values, os.path.join(folder, "config.json"))
    if not isinstance(values.get("model_type", ""), str):
        raise UserError(f"{folder}/config.json: model_type={values['model_type']!r:.60} is no name.")
    if values.get("model_type") in OWN_CONFIGS:
        return OWN_CONFIGS[values["model_type"]].from_dict(values)
    from transformers import AutoConfig  # here: a second to import, and PyTorch with it where that is installed

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        there = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        reason = next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)[:200]
        reason = reason if "config.json" in there else f"there is none; the folder has {', '.join(there[:10]) or 'nothing'}"
        raise UserError(f"{folder} has no config.json that transformers understands: {reason}.") from error


def plausible(values, where):
    """Raise a UserError for a number of layers, classes or the like that would fill the memory before anything is compared."""
    for name, value in values.items():
        if isinstance(value, dict):
            plausible(value, f"{where}, {name}")
        elif isinstance(value, int) and abs(value) > (MOST_OF_A_KIND if COUNTS.search(name) else MOST_OF_ANY):
            raise UserError(f"{where}: {name}={value:.4g} is no size of a model; fetch the file again.")


def parameter_shapes(module, *example):
    """Tree of ShapeDtypeStructs of a module's parameters."""
    return jax.eval_shape(lambda *given: module.init(jax.random.PRNGKey(0), *given), *example)["params"]

"""Encoders and decoders inside a larger model: named in its config, new or from a checkpoint, trained or frozen.

config.model.image = dict(name="vit", init="google/vit-base-patch16-224", freeze=("patch_embed",))
"""

import dataclasses
import os
import re
from typing import Any

import jax
from absl import logging
from ml_collections import ConfigDict

from xmodal_jax.config import build, choose, defaults
from xmodal_jax.errors import UserError
from xmodal_jax.interop.pretrained import fetch, module_of, open_checkpoint, read_config, read_settings
from xmodal_jax.interop.processing import FILE, MODEL_TYPES, OUTER_FILE, ImageProcessor
from xmodal_jax.interop.processing import defaults as usual
from xmodal_jax.interop.trees import leaves, nest
from xmodal_jax.models.backbones.bart import BARTDecoder
from xmodal_jax.models.backbones.beit import BEiT
from xmodal_jax.models.backbones.bert import BERT
from xmodal_jax.models.backbones.clip import CLIP, TextTower, VisionTower
from xmodal_jax.models.backbones.convit import ConvViT
from xmodal_jax.models.backbones.deberta import DeBERTa
from xmodal_jax.models.backbones.efficientnet import EfficientNet
from xmodal_jax.models.backbones.gpt2 import GPT2
from xmodal_jax.models.backbones.recurrent import Recurrent
from xmodal_jax.models.backbones.resnet import ResNet
from xmodal_jax.models.backbones.siglip import SigLIP, SiglipVision
from xmodal_jax.models.backbones.swin import Swin
from xmodal_jax.models.backbones.t5 import T5Decoder, T5Encoder
from xmodal_jax.models.backbones.vgg import VGG
from xmodal_jax.models.backbones.vit import LinearPatches, ViT

IMAGE_ENCODERS = {
    "beit": BEiT, "clip": VisionTower, "convit": ConvViT, "efficientnet": EfficientNet, "linear_patches": LinearPatches,
    "resnet": ResNet, "siglip": SiglipVision, "swin": Swin, "vgg": VGG, "vit": ViT,
}  # fmt: skip
TEXT_ENCODERS = {
    "bert": BERT, "clip": TextTower, "roberta": BERT, "deberta_v3": DeBERTa, "lstm": Recurrent, "gru": Recurrent,
    "t5": T5Encoder,
}  # fmt: skip
DECODERS = {"bart": BARTDecoder, "gpt2": GPT2, "t5": T5Decoder}
PARTS = {VisionTower: "vision", TextTower: "text", SiglipVision: "vision"}  # of a whole CLIP or SigLIP


@dataclasses.dataclass(frozen=True)
class Tower:
    """module; freeze: patterns of its parameters that stay as they are. One that starts from a checkpoint: its settings, and
    `checkpoint`, a function that opens it, its paths those of the whole model."""

    module: Any
    freeze: tuple = ()
    settings: Any = None
    checkpoint: Any = None


def section(table, name, init, settings, where):
    """A tower's section of a config: the settings given and the module's own, or the checkpoint that they follow from."""
    kind = choose(table, name, where)
    if init:
        return ConfigDict({"name": name, "init": init, "freeze": ()})
    own = defaults(kind, **settings).to_dict()
    # What follows from the rest of the config.
    derived = "style grid vocabulary positions end cross labels codes places given".split()
    return ConfigDict({"name": name, "init": "", "freeze": ()} | {key: own[key] for key in own if key not in derived})


def inputs_of(init, size=0, otherwise=0, whole=False):
    """What the image encoder of a checkpoint sees, of its folder or name, by the image processor beside it, else by the usual
    one of its kind: `ImageProcessor.as_square`.

    size: pixels in place of its own; otherwise: pixels where no processor says them (0: the model's own); whole: a CLIP, which
    must be there. {} of another that is not there: the model that is made of the config says so.
    """
    try:
        folder = fetch(init)
    except UserError:
        if whole:
            raise
        return {}
    config = read_config(folder)
    if whole and config.model_type != "clip":
        raise UserError(f"{init} holds a {config.model_type}, not a whole CLIP.")
    own = getattr(getattr(config, "vision_config", config), "image_size", None)
    own = own if isinstance(own, int) else 0  # what it has positions for goes before what its processor makes
    if any(os.path.exists(os.path.join(folder, name)) for name in (FILE, OUTER_FILE)):
        return ImageProcessor.from_folder(folder).as_square(size or own)
    kind = re.sub("_?vision_model$", "", config.model_type)
    logging.info("%s has no %s: its pixels are taken to be the usual ones of a %s", init, FILE, kind)
    return usual(kind if kind in MODEL_TYPES else "vit").as_square(size or otherwise or own)


def tower(settings, table, field, dtype, kept=None, fixed=None, changes=None, image_size=None, beside=None):
    """Build one tower.

    Args:
      settings: {"name", "init": folder or name of a checkpoint ("" for none), "freeze": patterns, fields of the module}; of a
        checkpoint only the fields that do not follow from its config (dropout, remat) may be given.
      field: of the model, as in config.model.FIELD. kept: folder of a run's own copy of the checkpoint's settings, in FIELD/:
        the checkpoint itself is opened only where its arrays are asked for.
      fixed: fields of a new module that follow from the rest of the config; changes: of a checkpoint's config.
      beside: {path in a whole CLIP: path in the model} of what else of the checkpoint is taken.
    """
    where, settings = f"config.model.{field}", {name: value for name, value in dict(settings).items() if value is not None}
    kind = choose(table, settings.pop("name"), f"{where}.name")
    init, freeze = settings.pop("init", ""), tuple(settings.pop("freeze", ()))
    if isinstance(freeze, str):
        raise UserError(f"{where}.freeze={freeze!r} must be a tuple, as in ('patch_embed',).")
    if not init:
        known = {field.name for field in dataclasses.fields(kind)}
        own = {"grid": (image_size // settings.get("patch", kind.patch),) * 2} if "grid" in known else {}
        return Tower(build(kind, {**own, **settings, **(fixed or {}), "dtype": dtype}, where.removeprefix("config.")), freeze)
    free = {key: settings.pop(key) for key in ("dropout", "remat") if key in settings}
    if settings:
        raise UserError(f"{where}: {', '.join(settings)} cannot be chosen: they follow from the checkpoint {init}.")

    def opened():
        size = image_size if kind in (ViT, BEiT, VisionTower, SiglipVision) else None
        whole = open_checkpoint(init, size, (), (r"(^|/)cross/|norm_cross/",), changes, **free, dtype=dtype)
        is_clip = isinstance(whole.module, CLIP)
        if beside and not is_clip:
            raise UserError(f"{where}: {init} holds a {type(whole.module).__name__}, not a whole CLIP.")
        is_part = isinstance(whole.module, CLIP | SigLIP) and kind in PARTS
        checkpoint = tower_of_clip(whole, kind, field, beside or {}) if is_part else whole.parts({"": field})
        if not isinstance(checkpoint.module, kind):
            raise UserError(f"{where}: {init} holds a {type(checkpoint.module).__name__}, not a {kind.__name__}.")
        logging.info("%s: %d arrays from %s", where, len(checkpoint.entries), init)
        return checkpoint

    if kept:
        own = read_settings(os.path.join(kept, field))
        return Tower(module_of(own, **free, dtype=dtype), freeze, own, opened)
    checkpoint = opened()
    return Tower(checkpoint.module, freeze, checkpoint.settings, lambda: checkpoint)


def tower_of_clip(whole, kind, field, beside):
    """The checkpoint of a tower within that of a whole CLIP or SigLIP, its paths those of a model that calls it `field`."""
    part, theirs = PARTS[kind], whole.settings.config
    own = getattr(theirs, f"{part}_config")
    if isinstance(whole.module, CLIP):
        own.projection_dim = theirs.projection_dim  # the part's own means nothing there
    settings = dataclasses.replace(whole.settings, config=own)
    return dataclasses.replace(whole.parts({part: field} | beside), module=getattr(whole.module, part), settings=settings)


def frozen(towers):
    """Patterns over the whole model's paths of what its towers freeze."""
    return tuple(f"^{name}/.*(?:{pattern})" for name, tower in towers.items() for pattern in tower.freeze)


def graft(params, towers):
    """Parameters with those of the towers' checkpoints in place of the new ones, laid out as those are."""
    flat = leaves(params)
    places = {path: leaf.sharding for path, leaf in flat.items()}
    for tower in towers.values():
        if tower.checkpoint is not None:
            flat |= tower.checkpoint().read("float32", places.get)
    return nest(flat)


def grafted(state, towers):
    """A fresh state that starts from the towers' checkpoints, its moving average too."""
    if all(tower.checkpoint is None for tower in towers.values()):
        return state
    params = graft(state.params, towers)
    return state.replace(params=params, ema=None if state.ema is None else jax.tree.map(jax.numpy.copy, params))


def image_tokens(model, maker):
    """Tokens that the image encoder gives; nothing is computed."""
    image = maker.example_batch(1)["image"]

    def encode():
        return model.init_with_output(jax.random.PRNGKey(0), image, method="encode_image")[0].x

    return jax.eval_shape(encode).shape[1]

"""From a config to a model without its parameters: what training and use have in common."""

import dataclasses
import os
from typing import Any

import jax
import numpy as np
from absl import logging

from xmodal_jax.compress import materialise
from xmodal_jax.compress.pair import pair_of
from xmodal_jax.config import build
from xmodal_jax.data import images
from xmodal_jax.errors import UserError
from xmodal_jax.models import lora
from xmodal_jax.models.lora import LoraConfig
from xmodal_jax.systems import system_of
from xmodal_jax.systems.base import System
from xmodal_jax.systems.compression import CompressConfig, Compression
from xmodal_jax.systems.towers import inputs_of
from xmodal_jax.train.by_path import scale_branches

PRECISIONS = {
    **dict.fromkeys(("bfloat16", "bf16", "mixed_bfloat16", "bf16-mixed", "bfloat16-mixed"), "bfloat16"),
    **dict.fromkeys(("float32", "fp32", "f32"), "float32"),
}  # what the field calls them


@dataclasses.dataclass
class Built:
    """A model of a config, without its parameters."""

    config: Any
    system: System
    maker: Any  # (example, position) -> arrays
    model: Any
    towers: dict  # {field of the model: Tower}
    compression: Compression | None = None
    materialised: materialise.Materialised | None = None

    def example_batch(self, rows):
        """A batch of zeros with the shapes and types of `rows` examples, without reading any data."""
        return self.maker.example_batch(rows)

    def tokens_per_example(self):
        """Vectors that a row is processed as, padding included."""
        return self.system.tokens(self.model, self.maker)

    def predictor(self, params, **others):
        """What the model does with these parameters, a `decoding.predictor.Predictor`; others: its `title`, `store`."""
        trained = {name: own.to_dict() for name, own in self.config.objectives.items() if own.get("weight", 1.0)}
        aligned = bool({"contrastive", "contrast"} & trained.keys())
        return self.system.predictor(self.model, params, self.maker, aligned=aligned, objectives=trained, **others)

    def extended(self, key, params):
        """Fresh parameters as the run starts from them, with what is trained beside the model's own: adapters, a structure."""
        params = scale_branches(params, self.config.get("residual_init", 1.0))
        params = lora.add_adapters(key, params, build(LoraConfig, self.config.get("lora", {}), "lora"))
        return self.compression.extended(key, params) if self.compression else params

    def used(self, params):
        """Parameters as the model computes with them once they are trained."""
        return self.compression.used(params) if self.compression else lora.merge(params)


def examples_of(config):
    """How a config's examples are made."""
    examples = build(system_of(config).examples, config.examples, "examples")
    try:
        images.check_mode(getattr(examples, "mode", "resize"))
    except ValueError as error:
        raise UserError(f"config.examples.mode: {error}.") from None
    return examples


def build_model(config, source=None, kept=None, open_scorer=None):
    """-> Built. source: of the training examples, None for use alone; kept: folder of what a run has kept (`systems.kept`)."""
    system = system_of(config)
    maker = system.maker(config, examples_of(config), source, kept, open_scorer)
    model, towers = system.model(config, maker, parse_precision(config.precision)["compute"], kept)
    if not kept:
        tell_pixels(config, model)
    made = materialised_of(model, maker, kept)
    if made is None:
        return Built(config, system, maker, model, towers, compression_of(config, model, maker))
    if config.get("compress"):
        raise UserError("config.compress: the model that this run starts from was compressed already.")
    return Built(config, system, maker, made.compressed(model), towers, materialised=made)


def tell_pixels(config, model):
    """Warn where an image encoder starts from a checkpoint, and is shown other pixels than that was trained on."""
    image = config.model.get("image") or {}
    if not image.get("init") or not hasattr(model, "mean"):
        return
    wanted = inputs_of(image["init"], config.examples.image_size)
    given = {"mean": model.mean, "std": model.std, "mode": config.examples.get("mode", "resize")}
    for name, value in given.items():
        same = value == wanted[name] if name == "mode" else np.allclose(value, wanted[name], atol=1e-3)
        if not same:
            place = f"config.{'examples' if name == 'mode' else 'model'}.{name}"
            logging.warning("%s=%s, but %s was trained with %s", place, value, image["init"], wanted[name])


def shapes_of(model, maker):
    """Tree of ShapeDtypeStructs of a model's parameters."""
    return jax.eval_shape(lambda: model.init(jax.random.PRNGKey(0), maker.example_batch(1))["params"])


def compression_of(config, model, maker):
    """How the config compresses the model, or None."""
    if not config.get("compress"):
        return None
    settings = build(CompressConfig, config.compress, "compress")
    pair = pair_of(shapes_of(model, maker), settings.blocks, settings.text, settings.vision)
    if settings.share and not pair.across:
        logging.info("%s and %s differ in size: no weights are shared between them.", pair.text.path, pair.vision.path)
    return Compression(settings, pair)


def materialised_of(model, maker, kept):
    """What was made of a model that has been compressed, or None."""
    file = kept and os.path.join(kept, materialise.FILE)
    if not file or not os.path.exists(file):
        return None
    structure, about = materialise.load(file)
    return materialise.Materialised(pair_of(shapes_of(model, maker), **about), structure)


def parse_precision(text):
    """ "params=float32,compute=bfloat16,output=float32", or what is computed in alone ("bf16", "mixed_bfloat16") -> dictionary;
    parameters and outputs stay float32."""
    whole = {"params": "float32", "compute": "float32", "output": "float32"}
    parts = [part.partition("=") for part in text.replace(" ", "").split(",")]
    given = {"compute": text.strip()} if len(parts) == 1 and not parts[0][1] else {name: value for name, _, value in parts}
    given = {name: PRECISIONS.get(value.lower()) for name, value in given.items()}
    if set(given) - set(whole) or None in given.values():
        raise UserError(
            f"config.precision={text!r}: write bfloat16 or float32 (bf16, mixed_bfloat16, fp32 are the same), or "
            "params=float32,compute=float32|bfloat16,output=float32."
        )
    if {given.get("params", "float32"), given.get("output", "float32")} != {"float32"}:
        raise UserError(f"config.precision={text!r}: parameters, softmax and losses are kept in float32.")
    return whole | given

"""Systems 3 and 5: models composed of an image encoder, a text encoder, and a way in which they meet."""

import functools
import os

import numpy as np

from xmodal_jax.config import build, choose
from xmodal_jax.data import patch_codes, region_files
from xmodal_jax.data.alone import Pictures, Texts
from xmodal_jax.data.answering import frequent_answers
from xmodal_jax.data.images import picture_of
from xmodal_jax.data.pair_examples import PairExamples
from xmodal_jax.data.pairs import PairMaker
from xmodal_jax.decoding.pairs import PairPredictor
from xmodal_jax.errors import UserError
from xmodal_jax.models.backbones.clip import TextTower
from xmodal_jax.models.composed import Composed
from xmodal_jax.models.heads import HEADS
from xmodal_jax.models.images.cells import Cells
from xmodal_jax.models.images.codes import PatchCodes
from xmodal_jax.models.images.dictionary import Dictionary
from xmodal_jax.models.images.regions import Regions
from xmodal_jax.models.interactions import INTERACTIONS
from xmodal_jax.objectives import OBJECTIVES
from xmodal_jax.systems import captioner
from xmodal_jax.systems.base import System
from xmodal_jax.systems.texts import read_list, text_tower, write_list
from xmodal_jax.systems.towers import DECODERS, IMAGE_ENCODERS, image_tokens, tower
from xmodal_jax.train.gradient import active

CLASSES = "classes.json"  # names of objects, of models of regions
ATTRIBUTES = "attributes.json"  # that objects have, of models that tell them
ANSWERS = "answers.json"  # that can be given, of models that are asked
FEATURES = "features.json"  # width of features that are read from files
CENTROIDS = "patches.npy"  # of models whose patches have numbers

ON_GRIDS = {"regions": Regions, "cells": Cells, "dictionary": Dictionary}  # image encoders that read the grid of another
DRAWN = {"codes": PatchCodes}  # that read numbers of patches
BESIDE = {  # of a whole CLIP, what belongs to neither tower: its path there and here
    "image": {"image_projection": "to_shared_image"},
    "text": {"text_projection": "to_shared_text", "log_scale": "log_scale"},
}


def make_maker(config, examples, source=None, kept=None, open_scorer=None):
    (found, width), classes, attributes = regions_found(examples, source, kept), (), ()
    if examples.regions and (kept or source is not None):
        detected = tuple(map(str, range(region_files.CLASSES))) if found is not None and found.has_classes else None
        classes = read_list(kept, CLASSES) if kept else detected or getattr(source, "object_names", ())
        asked = [name for name in ("classes", "detector") if name in active(config.objectives)]
        if asked and not classes:
            without = " ".join(f"--config.objectives.{name}.weight=0" for name in asked)
            raise UserError(
                f"config.objectives.{asked[0]} needs pictures whose objects are named: the built-in scenes have them, and "
                f"lists with boxes (docs/data.md); or go without: {without}."
            )
        if "attributes" in active(config.objectives):
            detected = tuple(map(str, range(region_files.ATTRIBUTES))) if found is not None and found.has_attributes else None
            attributes = read_list(kept, ATTRIBUTES) if kept else detected or getattr(source, "attribute_names", ())
            if not attributes:
                raise UserError(
                    "config.objectives.attributes needs objects whose attributes are told: the built-in scenes have them, and "
                    "regions of LXMERT and VL-T5; or go without: --config.objectives.attributes.weight=0."
                )
    answers = ()
    if examples.asked and source is not None and not hasattr(source, "questions"):
        raise UserError("config.examples.asked needs pictures with questions: the built-in scenes have them (docs/data.md).")
    if examples.asked and kept:
        answers = read_list(kept, ANSWERS)
    elif examples.asked and source is not None:
        answers, _ = frequent_answers(source, examples.answers)
    learned = centroids(config, examples, source, kept)
    alone = {}
    if source is not None:
        alone["lines"] = Texts(examples.texts) if examples.texts else ()
        alone["pictures"] = Pictures(examples.pictures) if examples.pictures else ()
    told = {"classes": classes, "attributes": attributes, "answers": answers}
    kind = functools.partial(PairMaker, **told, centroids=learned, found=found, width=width, **alone)
    return captioner.make_maker(config, examples, source, kept, open_scorer, kind, alone.get("lines", ()))


def regions_found(examples, source, kept):
    """(`region_files.RegionFile` or None, width of its features or 0). UserError where it lacks pictures of the source.

    A finished model is used without the file too, on pictures whose regions it does not need to look up.
    """
    if not examples.features:
        return None, 0
    if kept and not os.path.exists(examples.features):
        return None, read_list(kept, FEATURES)[0]
    found = region_files.RegionFile(examples.features)
    missing = found.missing(source.names()) if hasattr(source, "names") else ()
    if missing:
        raise UserError(
            f"config.examples.features={examples.features!r} lacks the regions of {len(missing)} pictures, the first of them "
            f"{', '.join(missing[:3])}: it knows {', '.join(list(found.names)[:3])}, ..."
        )
    return found, found.width


def centroids(config, examples, source, kept):
    """Of patches, kept with a run or learned from pictures spread over the source; None where none are asked for."""
    if not examples.codes or (source is None and not kept):
        return None
    if kept:
        return np.load(os.path.join(kept, CENTROIDS), allow_pickle=False)
    some = np.linspace(0, len(source) - 1, min(patch_codes.PICTURES, len(source))).astype(int)
    pictures = [picture_of(source[int(i)], examples.image_size) for i in some]
    return patch_codes.learn(pictures, examples.code_patch, examples.codes, config.seed)


def keep(maker, folder):
    captioner.keep(maker, folder)
    if maker.config.regions:
        write_list(folder, CLASSES, list(maker.classes))
    if maker.attributes:
        write_list(folder, ATTRIBUTES, list(maker.attributes))
    if maker.config.features:
        write_list(folder, FEATURES, [maker.width])
    if maker.config.asked:
        write_list(folder, ANSWERS, list(maker.answers))
    if maker.centroids is not None:
        np.save(os.path.join(folder, CENTROIDS), maker.centroids, allow_pickle=False)


def make_model(config, maker, dtype, kept=None):
    settings = {name: value for name, value in config.model.items() if name != "name"}
    settings["interaction"] = interaction_of(settings.get("interaction"), dtype)
    parts, init = {name: dict(settings.pop(name)) for name in ("image", "text")}, settings.pop("init", "")
    beside = BESIDE if init else {}
    for name, part in parts.items():
        if init and (part["name"] != "clip" or part.get("init", init) != init):
            raise UserError(f"config.model.init={init!r} is a whole CLIP: config.model.{name} must be its tower, 'clip'.")
    size, words = maker.config.image_size, longest(maker)
    if parts["image"]["name"] in ON_GRIDS:
        if maker.width and parts["image"].pop("grid", None):
            raise UserError("config.examples.features are given: config.model.image.grid has nothing to pool them from.")
        towers, image = grid_tower(parts["image"], dtype, kept, size, maker.width)
        settings["classes"] = len(maker.classes) if isinstance(image, Regions) else 0
    elif parts["image"]["name"] in DRAWN:
        own = {name: value for name, value in parts["image"].items() if name != "name"}
        places = maker.example_batch(1)["codes"].shape[1]
        image = build(PatchCodes, {**own, "codes": maker.config.codes, "places": places, "dtype": dtype}, "model.image")
        towers = {}
    else:
        image = tower(parts["image"], IMAGE_ENCODERS, "image", dtype, kept, image_size=size, beside=beside.get("image"))
        towers, image = {"image": image}, image.module
    text = text_tower(parts["text"], maker, dtype, words, kept, beside.get("text"))
    if init:
        settings["shared_width"] = towers["image"].settings.config.projection_dim
    objectives = active(config.objectives)
    if ("next_words" in objectives or maker.config.causal) and sees_ahead(text.module):
        told = "objectives.next_words" if "next_words" in objectives else "examples.causal"
        raise UserError(
            f"{told} would be told what to write by the words of a {type(text.module).__name__}, which see those behind them: "
            "give config.model.text 0 layers, or take 'clip'."
        )
    asked = {head for name in objectives for head in heads_of(name)} - ({"states"} if not config.get("teacher") else set())
    settings |= {
        "predicts": tuple(head for head in HEADS if head in asked),
        "vocabulary": maker.vocabulary,
        "attributes": len(maker.attributes),
        "answers": len(maker.answers),
        "codes": maker.config.codes,
    }
    if config.objectives.get("naming", {}).get("weight", 0.0):
        settings["names"] = maker.vocabulary
    settings["again"] = bool(config.objectives.get("contrastive", {}).get("again", False))
    settings["biased"] = config.objectives.get("contrastive", {}).get("loss") == "sigmoid"
    settings["attended"] = bool(config.objectives.get("attended", {}).get("weight", 0.0))
    if not config.objectives.get("referring", {}).get("weight", 0.0):
        settings["locator"] = 0
    modules = {"image": image, "text": text.module}
    if decoder := settings.pop("decoder", None):
        fixed = {"vocabulary": maker.vocabulary, "positions": words, "cross": True}
        towers["decoder"] = tower(decoder, DECODERS, "decoder", dtype, kept, fixed, {"add_cross_attention": True})
        modules["decoder"] = towers["decoder"].module
    if config.get("teacher"):
        modules["teacher"], _ = make_model(config.teacher.run, maker, dtype)
    return build(Composed, {**settings, **modules, "dtype": dtype}, "model"), towers | {"text": text}


def grid_tower(section, dtype, kept, image_size, width=0):
    """Of a section {"name": one of `ON_GRIDS`, "grid": that of an image encoder, ...}: ({its path: the grid's `Tower`}, the
    module). width: of features that are given; there is no grid then."""
    settings = dict(section)
    kind = ON_GRIDS[settings.pop("name")]
    if width:
        return {}, build(kind, {**settings, "grid": None, "given": width, "dtype": dtype}, "model.image")
    grid = tower(settings.pop("grid"), IMAGE_ENCODERS, "image/grid", dtype, kept, image_size=image_size)
    module = build(kind, {**settings, "grid": grid.module, "dtype": dtype}, "model.image")
    return {"image/grid": grid}, module


def interaction_of(section, dtype):
    """The module that config.model.interaction names, or None: a dual encoder, which older configs call "dual"."""
    if section in (None, "", "dual"):
        return None
    if isinstance(section, str):
        section = {"name": section}
    settings = dict(section)
    kind = choose(INTERACTIONS, settings.pop("name"), "config.model.interaction.name")
    return build(kind, {**settings, "dtype": dtype}, "model.interaction")


def sees_ahead(text):
    """Whether a word's vector depends on the words behind it."""
    return bool(text.layers) and not isinstance(text, TextTower) and getattr(text, "bidirectional", True)


def heads_of(name):
    """The heads of a model that an objective asks for."""
    return OBJECTIVES[name].heads if name in OBJECTIVES else ()


def tokens(model, maker):
    """Image tokens or regions, and words, padding included."""
    if isinstance(model.image, Regions):
        places = maker.config.regions + model.image.whole
    else:
        places = model.image.places if isinstance(model.image, PatchCodes) else image_tokens(model, maker)
    return places + longest(maker)


def longest(maker):
    """Ids of a text, marks and padding included."""
    return maker.example_batch(1)["caption"].shape[1]


SYSTEM = System("Pictures and texts", PairExamples, make_maker, keep, make_model, tokens, PairPredictor)

"""Reading a trained model back for use: neither its data nor its optimiser is touched."""

import dataclasses
import os
import re

import jax
import numpy as np
from absl import logging

from xmodal_jax.config import find_config, load_config
from xmodal_jax.data.senses import FrozenLMScorer
from xmodal_jax.errors import UserError
from xmodal_jax.files import at_home
from xmodal_jax.interop.pretrained import fetch, load_pretrained
from xmodal_jax.interop.processing import encode, load_tokenizer, read_json
from xmodal_jax.models.backbones.bert import BERT
from xmodal_jax.models.backbones.deberta import DeBERTa
from xmodal_jax.models.vectors import masked_mean
from xmodal_jax.systems import kept, recipe, teaching, whole
from xmodal_jax.systems.model import build_model
from xmodal_jax.systems.starting import parameters
from xmodal_jax.systems.towers import graft
from xmodal_jax.train.workdir import run_config


def load(place, step=None):
    """A run's folder (the last of the path may be `latest`: the newest run beside it), or a whole model (a folder that
    `save_pretrained` wrote, a whole CLIP, or its name on the hub) -> its predictor."""
    place = newest(at_home(place))
    named = re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", place)
    on_hub = named and not os.path.isdir(place) and not os.path.isdir(os.path.dirname(place))
    if not (on_hub or whole.is_checkpoint(place)):
        return open_run(place, step)[0]
    if step is not None:
        raise UserError(f"step={step}: {place} is a whole model, which has one state; steps are those of a run's folder.")
    folder = fetch(place)
    if read_json(folder, "config.json").get("model_type") == "clip":
        return of_clip(folder, place)
    built, params, found = whole.read(place)
    return predictor(built, params, found, place)


def of_clip(folder, place):
    """The predictor of a whole CLIP as it is."""
    if "," in folder:
        raise UserError(f"{folder}: a folder whose name has a comma cannot be an argument of a config: rename it.")
    config = load_config(find_config("configs/search.py"), f"init={folder}")
    built = build_model(config)
    params = built.model.init(jax.random.PRNGKey(0), built.example_batch(1))["params"]
    return predictor(built, graft(params, built.towers), 0, place)


def open_run(workdir, step=None):
    """-> (predictor, Built, step number) of a run's newest checkpoint, or the one that is named."""
    workdir = newest(workdir)
    config = run_config(workdir)
    own = kept.kept_of(workdir)
    built = build_model(config, kept=own) if own else completed(config, workdir)
    params, found = parameters(built, workdir, step)
    built, params = teaching.alone(built, params)
    return predictor(built, params, found, workdir), built, found


def newest(place):
    """The folder of the run that was started last, for a path that ends in `latest` where there is no such folder."""
    parent, name = os.path.split(os.path.normpath(place))
    if name != "latest" or os.path.exists(place):
        return place
    runs = [os.path.join(parent, one) for one in (os.listdir(parent or ".") if os.path.isdir(parent or ".") else ())]
    runs = [run for run in runs if os.path.exists(os.path.join(run, "config.json"))]
    if not runs:
        raise UserError(f"{place}: there is no run in {parent or '.'} yet. Train one: python -m xmodal_jax.main --config=...")
    return max(runs, key=lambda run: os.path.getmtime(os.path.join(run, "config.json")))


def predictor(built, params, step, place):
    """The predictor of a model, with what it is and how it is stored."""
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    title = f"{built.system.title}, {count:,} parameters, step {step} of {place}"
    made = built.materialised

    def store(folder, now, weights):
        whole.write(built, now if made is None else params, step, folder, place, weights)

    if made is None:
        return built.predictor(params, title=title, store=store)
    # Shared vectors are gathered here, once, rather than whenever the program runs: more memory, less time.
    reader = dataclasses.replace(built, model=built.model.pruned)
    return reader.predictor(jax.jit(made.gathered)(params), title=title, store=store)


def completed(config, workdir):
    """Built, of a run from before runs kept their model: from its data, this once."""
    logging.info("%s has not kept what its model needs: it is made of its data now, and kept there.", workdir)
    built = recipe.make(config, workdir, open_scorer=frozen_scorer)
    try:
        built.keep(workdir)
    except OSError as error:
        logging.warning("it could not be kept (%s): the data will be needed again.", error)
    return built


def frozen_scorer(place):
    """A sense scorer from a frozen text encoder (claim 6), mean-pooled hidden states, cosine: of a trained run, or of a folder
    of BERT, RoBERTa or DeBERTa, or its name on the hub."""
    place = at_home(place)
    if os.path.isdir(place) and (whole.is_own(place) or not whole.is_checkpoint(place)):
        return FrozenLMScorer(load(place).text_vectors)
    module, params, settings = load_pretrained(place)
    if not isinstance(module, BERT | DeBERTa):
        raise UserError(
            f"config.scorer={place!r} holds a {type(module).__name__}: a BERT, RoBERTa or DeBERTa is needed, or a run."
        )
    tokenizer = load_tokenizer(settings.folder)
    length = min(64, module.positions)

    @jax.jit
    def pooled(ids, mask):
        x = module.apply({"params": params}, ids, mask).x
        return masked_mean(x, mask)

    def vectors(texts):
        parts = [encode(tokenizer, texts[start : start + 32], length) for start in range(0, len(texts), 32)]
        rows = [np.pad(part[name], ((0, 32 - len(part[name])), (0, 0))) for part in parts for name in ("ids", "mask")]
        found = [np.asarray(pooled(*pair)) for pair in zip(rows[::2], rows[1::2], strict=True)]
        return np.concatenate(found)[: len(texts)]

    return FrozenLMScorer(vectors)

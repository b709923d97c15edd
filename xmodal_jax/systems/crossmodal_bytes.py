"""System 1: the crossmodal byte language model."""

import os

from absl import logging

from xmodal_jax.config import build
from xmodal_jax.data import senses
from xmodal_jax.data.byte_examples import ByteExamples
from xmodal_jax.data.examples import ExampleMaker
from xmodal_jax.data.third import SharedEntityTexts
from xmodal_jax.decoding.byte_predictor import BytePredictor
from xmodal_jax.errors import UserError
from xmodal_jax.models.crossmodal_bytes import CrossmodalBytes
from xmodal_jax.systems.base import System
from xmodal_jax.systems.texts import read_list, write_list
from xmodal_jax.systems.towers import IMAGE_ENCODERS, tower

LANGS = "langs.json"  # of its captions
SOME = 500  # examples whose captions tell what all texts have in common


def make_maker(config, examples, source=None, kept=None, open_scorer=None):
    if kept:
        inventories = senses.kept_inventories(kept, all_of_them=source is not None)
    else:
        inventories = open_inventories(config.get("inventory", ""), source)
    if source is None:
        langs = read_list(kept, LANGS) if kept and os.path.exists(os.path.join(kept, LANGS)) else ()
        return ExampleMaker(examples, config.seed, inventories, langs=langs)
    if examples.second in ("audio", "series") and source[0].get(examples.second) is None:
        raise UserError(
            f"config.examples.second={examples.second!r}: this data has no {examples.second}. The built-in scenes have audio; "
            'a list of captions may name a .csv or .npy of numbers for each picture, {"image": ..., "series": "1.csv", ...}.'
        )
    others = SharedEntityTexts(source, inventories) if examples.third_from == "all" else None
    scorer = open_scorer(config.scorer) if config.get("scorer") else None
    if scorer is not None:
        scorer.centre([text for i in range(0, len(source), -(-len(source) // SOME)) for text in source.captions(i)[0]])
    langs = getattr(source, "langs", None) or (source.lang,)
    return ExampleMaker(examples, config.seed, inventories, scorer, others, langs)


def keep(maker, folder):
    for inventory in maker.inventories.values():
        senses.keep_inventory(inventory, folder)
    write_list(folder, LANGS, sorted(maker.langs))


def make_model(config, maker, dtype, kept=None):
    settings = {name: value for name, value in config.model.items() if name != "name"}
    image, size = settings.pop("image", None), maker.config.image_size
    towers = {} if image is None else {"image": tower(image, IMAGE_ENCODERS, "image", dtype, kept, image_size=size)}
    modules = {name: part.module for name, part in towers.items()}
    return build(CrossmodalBytes, {**settings, **modules, "dtype": dtype}, "model"), towers


def tokens(model, maker):
    """Text, target, and groups of second-modality bytes, padding included."""
    spec = maker.config
    return spec.text_length // model.text_window + spec.target_length + model.groups(spec.second_length)


def open_inventories(spec, source):
    """{language: Inventory}. `spec` maps languages to inventories (`en=wordnet;ko=FILE`); else the source's own.

    A source without its own: WordNet for English where it is installed, else the words that its captions repeat.
    """
    if spec:
        pairs = [part.partition("=") for part in str(spec).split(";")]
        if not all(equals for _, equals, _ in pairs):
            raise UserError(f"config.inventory={spec!r}: write LANGUAGE=INVENTORY, several joined by ';' (en=wordnet;ko=FILE).")
        return {lang: senses.open_inventory(place, lang) for lang, _, place in pairs}
    if hasattr(source, "inventory"):
        return {lang: source.inventory(lang) for lang in source.langs}
    try:
        if source.lang == "en":
            inventory = senses.WordNet()
            logging.info("entities and senses: the installed WordNet (config.inventory chooses another)")
            return {"en": inventory}
    except UserError:
        pass
    logging.info("entities: words that the captions repeat; no senses (config.inventory names a dictionary, e.g. en=wordnet)")
    return {source.lang: senses.corpus_inventory(source, source.lang)}


SYSTEM = System("Crossmodal byte language model", ByteExamples, make_maker, keep, make_model, tokens, BytePredictor)

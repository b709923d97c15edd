"""From a config to the parts of a run: source, examples, batches, model, objectives, optimiser, evaluators."""

import dataclasses
from typing import Any

import numpy as np
from absl import logging

from xmodal_jax import objectives
from xmodal_jax.config import build, choose, unknown
from xmodal_jax.data import senses
from xmodal_jax.data.examples import NAMES, ByteExamples, ExampleMaker
from xmodal_jax.data.loader import Batches, LoaderConfig
from xmodal_jax.data.sources import SOURCES, required_settings, source_settings
from xmodal_jax.data.third import SharedEntityTexts
from xmodal_jax.errors import UserError
from xmodal_jax.models import MODELS
from xmodal_jax.models.lora import LoraConfig
from xmodal_jax.train.optimizers import OptimizerConfig, make_optimizer

KEYS = (
    "seed total_steps batch_size accumulate log_every eval_every checkpoint_every keep_checkpoints precision ema mesh "
    "data examples inventory scorer loader model lora objectives optimizer evaluators"
).split()


@dataclasses.dataclass
class Recipe:
    """The parts of a run, made once from its config."""

    config: Any
    train: Any  # source
    held_out: Any  # source of the evaluation split
    maker: ExampleMaker
    batches: Batches
    loader: LoaderConfig
    model: Any
    objectives: dict
    optimizer: Any
    schedule: Any
    inventories: dict
    adapters: LoraConfig

    def example_batch(self, rows):
        """A batch of zeros with the shapes and types of `rows` examples, without reading any data."""
        spec = self.maker.config
        text, target = (rows, spec.text_length), (rows, spec.target_length)
        shapes = {"text": text, "segments": text, "inputs": target, "target": target, "task": (rows,)}
        shapes |= {"caption": (rows, spec.caption_length), "names": (rows, NAMES), "second_length": (rows,)}
        batch = {name: np.zeros(shape, np.int32) for name, shape in shapes.items()}
        return batch | {"second": np.zeros((rows, spec.second_length), np.uint8)}

    def tokens_per_example(self):
        """Vectors that a row is processed as: text, target, and groups of second-modality bytes, padding included."""
        spec = self.maker.config
        return spec.text_length // self.model.text_window + spec.target_length + self.model.groups(spec.second_length)


def make(config, split="val"):
    """Build every part; each mistake in the config is a UserError that names the key. `split`: held-out split."""
    for name in config:
        if name not in KEYS:
            raise UserError(unknown(f"config key {name!r}", name, KEYS))
    for name in ("total_steps", "batch_size", "log_every", "accumulate"):
        if config[name] < 1:
            raise UserError(f"config.{name}={config[name]}: must be at least 1.")
    if config.batch_size % config.accumulate:
        raise UserError(f"config.batch_size={config.batch_size} must be a multiple of config.accumulate={config.accumulate}.")
    examples = build(ByteExamples, config.examples, "examples")
    train, held_out = (open_source(config.data, examples, part) for part in ("train", split))
    inventories = open_inventories(config.get("inventory", ""), train)
    others = SharedEntityTexts(train, inventories) if examples.third_from == "all" else None
    scorer = None
    if config.get("scorer"):
        from xmodal_jax.train.restore import frozen_scorer  # here: reading a run back makes a recipe itself

        scorer = frozen_scorer(config.scorer)
    maker = ExampleMaker(examples, config.seed, inventories, scorer, others)
    precision = parse_precision(config.precision)
    model_settings = {k: v for k, v in config.model.items() if k != "name"} | {"dtype": precision["compute"]}
    model = build(choose(MODELS, config.model.name, "config.model.name"), model_settings, "model")
    chosen = {name: settings.to_dict() for name, settings in config.objectives.items()}
    objectives.check(model, chosen)
    optimizer, schedule = make_optimizer(build(OptimizerConfig, config.optimizer, "optimizer"), config.total_steps)
    loader = build(LoaderConfig, config.loader, "loader")
    batches = Batches(train, maker, config.batch_size, config.seed, loader.shuffle)
    adapters = build(LoraConfig, config.get("lora", {}), "lora")
    return Recipe(config, train, held_out, maker, batches, loader, model, chosen, optimizer, schedule, inventories, adapters)


def open_source(data, examples, split):
    """The source that config.data names, giving what the examples need. Unknown settings are refused."""
    settings = {name: value for name, value in data.items() if name != "source"}
    kind = choose(SOURCES, data.source, "config.data.source")
    known = source_settings(data.source)
    for name in settings:
        if name not in known:
            raise UserError(unknown(f"config key data.{name}", name, known))
    for name in required_settings(data.source):
        if not settings.get(name):
            raise UserError(
                f"data={data.source} needs {name}: --config=configs/pretrain.py:data={data.source},... (see README)."
            )
    wanted = {"size": examples.image_size, "file_bytes": examples.second == "image" and examples.image_bytes == "file"}
    if "fields" in known:
        fields = ["captions"] + ["image"] * (examples.second == "image") + ["questions"] * (examples.answer_share > 0)
        wanted["fields"] = tuple(fields + ["audio", "objects"] * (examples.second == "audio"))
    settings = {name: tuple(v) if isinstance(v, (list, tuple)) else v for name, v in settings.items()}
    return kind(split=split, **{name: value for name, value in wanted.items() if name in known} | settings)


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


def parse_precision(text):
    """ "params=float32,compute=bfloat16,output=float32" -> dictionary; parameters and outputs stay float32."""
    parts = dict(part.split("=") for part in text.split(",") if "=" in part)
    if set(parts) - {"params", "compute", "output"} or parts.get("compute", "float32") not in ("float32", "bfloat16"):
        raise UserError(f"config.precision={text!r}: write params=float32,compute=float32|bfloat16,output=float32.")
    if parts.get("params", "float32") != "float32" or parts.get("output", "float32") != "float32":
        raise UserError(f"config.precision={text!r}: parameters, softmax and losses are kept in float32.")
    return {"params": "float32", "compute": "float32", "output": "float32"} | parts

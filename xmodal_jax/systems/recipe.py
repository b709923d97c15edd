"""From a config to the parts of a run: source, examples, batches, model, objectives, optimiser, evaluators."""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from xmodal_jax import objectives
from xmodal_jax.config import build, choose, defaults, unknown
from xmodal_jax.data.loader import Batches, LoaderConfig
from xmodal_jax.data.sources import SOURCES, required_settings, source_settings
from xmodal_jax.errors import UserError
from xmodal_jax.models.lora import LoraConfig
from xmodal_jax.systems import compressed, kept, numbers, starting, teaching
from xmodal_jax.systems.model import Built, build_model, examples_of
from xmodal_jax.systems.towers import frozen, grafted
from xmodal_jax.train import stages
from xmodal_jax.train.optimizers import OptimizerConfig, make_optimizer
from xmodal_jax.train.workdir import check_workdir

KEYS = (
    "seed residual_init total_steps batch_size accumulate log_every eval_every eval_at_start checkpoint_every keep_checkpoints "
    "precision ema mesh data examples inventory scorer loader model lora objectives optimizer evaluators init stages compress "
    "teacher"
).split()


def run_defaults(total_steps, batch_size, checkpoint_every, log_every=20, debug=False):
    """What configs of all systems have in common: a run's length, layout and loading; `debug`: a run of seconds."""
    return ConfigDict({
        "seed": 0, "residual_init": 1.0, "total_steps": 20 if debug else total_steps,
        "batch_size": 8 if debug else batch_size, "accumulate": 1,
        "log_every": 5 if debug else log_every, "eval_every": 0, "eval_at_start": False,
        "checkpoint_every": 10 if debug else checkpoint_every, "keep_checkpoints": 2,
        "precision": "params=float32,compute=float32,output=float32", "ema": 0.0,
        "init": "", "stages": {}, "mesh": {"data": -1, "fsdp": 1, "tensor": 1}, "loader": defaults(LoaderConfig),
        "lora": defaults(LoraConfig),
    })  # fmt: skip


@dataclasses.dataclass(kw_only=True)
class Recipe(Built):
    """The parts of a run, made once from its config."""

    train: Any  # source
    held_out: Any  # source of the evaluation split
    batches: Batches
    loader: LoaderConfig
    objectives: dict
    optimizer: Any
    schedule: Any
    frozen: tuple  # patterns of parameters that stay as they are
    stages: stages.Stages
    teacher: str | None = None  # folder of its run

    def started(self, state):
        """A fresh state with the arrays of the run that it starts from, or of the checkpoints that its towers start from."""
        init = self.config.get("init", "")
        state = starting.started(state, init) if init else grafted(state, self.towers)
        if self.teacher:
            state = teaching.started(state, self.teacher)
        return self.compression.started(state) if self.compression else state

    def open_split(self, name):
        """The source of another split, with the same settings."""
        return open_source(self.config.data, self.maker.config, name)

    def conclude(self, params, workdir):
        """What a run does with its last parameters -> (results, tables and drawings for its report)."""
        return compressed.conclude(self, params, workdir) if self.compression else ({}, (), ())

    def keep(self, workdir):
        """Write what using the model takes into the folder of the run, once."""
        kept.keep(self, workdir)

    def kept_in(self, workdir):
        """The folder of what `keep` has written, or None."""
        return kept.kept_of(workdir)


def make(config, workdir=None, split="val", open_scorer=None):
    """Build every part; each mistake in the config is a UserError that names the key.

    workdir: folder of the run: what it has kept of its model is used, not learned anew. split: held-out split. open_scorer:
    opens a run as a scorer of senses (config.scorer), `restore.frozen_scorer`.
    """
    for name in config:
        if name not in KEYS:
            raise UserError(unknown(f"config key {name!r}", name, KEYS))
    numbers.check(config)
    if config.batch_size % config.accumulate:
        raise UserError(f"config.batch_size={config.batch_size} must be a multiple of config.accumulate={config.accumulate}.")
    if workdir:
        check_workdir(config, workdir)
    examples = examples_of(config)
    train, held_out = (open_source(config.data, examples, part) for part in ("train", split))
    own = kept.kept_of(workdir) if workdir else None
    if own is None and config.get("init", ""):
        own = starting.kept_by(config.init)
    taught = teaching.is_taught(config)
    if own is None and taught:
        own = teaching.kept_by(config, workdir)
    built = build_model(config, train, own, open_scorer)
    chosen = {name: settings.to_dict() for name, settings in config.objectives.items()}
    if built.compression and built.compression.config.distill:
        chosen["distillation"] = {"weight": 0.0}  # but in the stages that it is for
    objectives.check(built.model, chosen, built.example_batch(1))
    optimizer_config = build(OptimizerConfig, config.optimizer, "optimizer")
    still = (*frozen(built.towers), *teaching.FROZEN * taught)
    optimizer_config = dataclasses.replace(optimizer_config, freeze=(*optimizer_config.freeze, *still))
    compression, total = built.compression, config.total_steps
    if compression is None:
        order = stages.from_config(config.get("stages"), chosen)
        optimizer, schedule = make_optimizer(optimizer_config, total)
    else:
        refuse_beside_compression(config)
        order = compression.stages(total)
        optimizer, schedule = make_optimizer(optimizer_config, compression.weight_steps(total))
        optimizer = compression.optimizer(optimizer)
    loader = build(LoaderConfig, config.loader, "loader")
    batches = Batches(train, built.maker, config.batch_size, config.seed, loader.shuffle)
    return Recipe(
        **vars(built), train=train, held_out=held_out, batches=batches, loader=loader, objectives=chosen, optimizer=optimizer,
        schedule=schedule, frozen=tuple(optimizer_config.freeze), stages=order,
        teacher=teaching.folder_of(config, workdir) if taught else None,
    )  # fmt: skip


def refuse_beside_compression(config):
    """Raise a UserError for what does not go together with config.compress."""
    for name in ("ema", "stages"):
        if config.get(name):
            raise UserError(f"config.{name} does not go together with config.compress: leave it out.")


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
                f"data={data.source} needs {name}: --config=configs/pretrain.py:data={data.source},... (see docs/data.md)."
            )
    wanted = examples.wanted()
    if "captions" in wanted["fields"] and not getattr(kind, "is_captioned", True):
        raise UserError(
            f"data={data.source} gives questions and no captions, from which this model learns: take a source with captions "
            "(see docs/data.md), or configs/vqa.py."
        )
    wanted = {name: value for name, value in wanted.items() if name in known}
    settings = {name: tuple(v) if isinstance(v, (list, tuple)) else v for name, v in settings.items()}
    if settings.get("mode") == wanted.get("mode", "resize") or settings.get("mode") == "resize":
        settings.pop("mode", None)  # what is listed as its default gives way to examples.mode
    return kind(split=split, **wanted | settings)

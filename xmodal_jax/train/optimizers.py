"""optax optimisers and schedules by name."""

import dataclasses

import jax
import optax
import optax.contrib

from xmodal_jax.config import choose
from xmodal_jax.errors import UserError
from xmodal_jax.models.stacks import stack_of
from xmodal_jax.train import by_path
from xmodal_jax.train.mesh import path_of


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """name and schedule: see OPTIMIZERS, SCHEDULES; clip: global norm (0: off).

    By path ("a/b/c", patterns are searched in it; one that is found nowhere is a UserError):
      freeze: patterns of parameters that stay as they are, without moments, and outside the clipped norm.
      scales: (pattern, factor of the learning rate); the first that is found counts.
      layer_decay: factor of the learning rate from one layer of a stack to the one below, and to what embeds before the first
        (Clark et al., 2020); weight decay goes with the learning rate.
    """

    name: str = "adamw"
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    warmup: float = 0.05  # share of total_steps
    final: float = 0.0  # share of learning_rate at the end
    weight_decay: float = 0.05
    b1: float = 0.9
    b2: float = 0.98
    clip: float = 1.0
    freeze: tuple = ()
    scales: tuple = ()
    layer_decay: float = 1.0


SCHEDULES = {
    "cosine": lambda peak, steps, final: optax.cosine_decay_schedule(peak, steps, alpha=final),
    "linear": lambda peak, steps, final: optax.linear_schedule(peak, peak * final, steps),
    "constant": lambda peak, steps, final: optax.constant_schedule(peak),
}

OPTIMIZERS = {
    "adamw": lambda c, lr: optax.adamw(lr, c.b1, c.b2, weight_decay=c.weight_decay, mask=decayed),
    "adam": lambda c, lr: optax.adam(lr, c.b1, c.b2),
    "lion": lambda c, lr: optax.lion(lr, c.b1, c.b2, weight_decay=c.weight_decay, mask=decayed),
    "adafactor": lambda c, lr: optax.adafactor(lr),
    "sgd": lambda c, lr: optax.sgd(lr, c.b1),
    "muon": lambda c, lr: optax.contrib.muon(
        lr,
        beta=0.95,
        weight_decay=c.weight_decay,
        weight_decay_mask=decayed,
        adam_b1=c.b1,
        adam_b2=c.b2,
        adam_weight_decay=0.0,
        muon_weight_dimension_numbers=matrices,
        consistent_rms=0.2,  # updates as large as AdamW's, so that learning rates carry over
    ),
}


def matrices(params):
    """Which parameters Muon takes as matrices (Jordan, 2024; Liu et al., 2025): kernels of the layers of stacks, [L, in, out],
    [L, in, heads, d] or [L, in, parts, heads, d], each layer and part one matrix from `in` to the rest; None for all others."""

    def dimensions(path, leaf):
        path = path_of(path)
        if not (path.endswith("kernel") and stack_of(path) and leaf.ndim > 2):
            return None
        rest = (2,) if leaf.ndim == 3 else (leaf.ndim - 2, leaf.ndim - 1)
        return optax.contrib.MuonDimensionNumbers(reduction_axis=(1,), output_axis=rest)

    return jax.tree_util.tree_map_with_path(dimensions, params)


def decayed(params):
    """Weight decay acts on weight matrices alone: not on biases, norms and tables."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key.endswith("kernel"), params)


def make_schedule(config, total_steps):
    """step -> learning rate: linear warm-up, then the named decay."""
    warmup = max(1, round(config.warmup * total_steps)) if config.warmup else 0
    decay = choose(SCHEDULES, config.schedule, "config.optimizer.schedule")
    after = decay(config.learning_rate, max(1, total_steps - warmup), config.final)
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, config.learning_rate, warmup), after], [warmup])


def make_optimizer(config, total_steps):
    """-> (optax transformation, schedule)."""
    for name, given in {"freeze": config.freeze, "scales": config.scales}.items():
        if isinstance(given, str) or (name == "scales" and any(isinstance(pair, str) or len(pair) != 2 for pair in given)):
            example = '("patch_embed",)' if name == "freeze" else '(("classifier", 10.0),)'
            raise UserError(f"config.optimizer.{name}={given!r} must be a tuple, as in {example}.")
    schedule = make_schedule(config, total_steps)
    optimizer = choose(OPTIMIZERS, config.name, "config.optimizer.name")(config, schedule)
    if config.clip:
        optimizer = optax.chain(optax.clip_by_global_norm(config.clip), optimizer)
    if config.freeze:
        parts = {"trained": optimizer, "frozen": optax.set_to_zero()}
        optimizer = optax.multi_transform(parts, lambda params: by_path.labels(params, tuple(config.freeze)))
    if config.scales or config.layer_decay != 1.0:
        optimizer = optax.chain(optimizer, by_path.scale_updates(tuple(config.scales), config.layer_decay))
    return optimizer, schedule

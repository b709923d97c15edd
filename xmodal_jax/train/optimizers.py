"""optax optimisers and schedules by name."""

import dataclasses

import jax
import optax

from xmodal_jax.config import choose


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """name and schedule: see OPTIMIZERS, SCHEDULES; warmup and decay in steps of total_steps; clip: global norm (0: off)."""

    name: str = "adamw"
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    warmup: float = 0.05  # share of total_steps
    final: float = 0.0  # share of learning_rate at the end
    weight_decay: float = 0.05
    b1: float = 0.9
    b2: float = 0.98
    clip: float = 1.0


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
}


def decayed(params):
    """Weight decay acts on weight matrices alone: not on biases, norms and tables."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


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
    schedule = make_schedule(config, total_steps)
    optimizer = choose(OPTIMIZERS, config.name, "config.optimizer.name")(config, schedule)
    if config.clip:
        optimizer = optax.chain(optax.clip_by_global_norm(config.clip), optimizer)
    return optimizer, schedule

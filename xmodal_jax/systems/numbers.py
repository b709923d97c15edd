"""What the numbers of a config may be, whichever part they are for: told before anything is built."""

import fnmatch
import math

from xmodal_jax.errors import UserError

# (what they must be, whether one is, their paths in the config: * stands for anything)
RULES = (
    ("at least 1", lambda x: x >= 1, "total_steps batch_size log_every accumulate checkpoint_every keep_checkpoints"),
    ("at least 1", lambda x: x >= 1, "model.width model.heads model.*.width model.*.heads model.*hidden model.latent_size"),
    ("at least 1", lambda x: x >= 1, "model.text_window"),
    ("at least 0", lambda x: x >= 0, "objectives.*weight objectives.*margin optimizer.learning_rate optimizer.weight_decay"),
    ("at least 0", lambda x: x >= 0, "optimizer.clip residual_init"),
    ("at least 0 and below 1", lambda x: 0 <= x < 1, "ema optimizer.b1 optimizer.b2 *dropout"),
    ("within 0..1", lambda x: 0 <= x <= 1, "optimizer.warmup optimizer.final"),
    ("above 0 and at most 1", lambda x: 0 < x <= 1, "optimizer.layer_decay"),
)


def check(config):
    """Raise a UserError that names the first number of a config that cannot be meant."""
    for path, value in numbers(config):
        if not math.isfinite(value):
            raise UserError(f"config.{path}={value}: must be a finite number.")
        if value < 0 and isinstance(value, int) and "mesh." not in path:  # -1: the rest
            raise UserError(f"config.{path}={value}: must be at least 0.")
        for told, is_right, patterns in RULES:
            if any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns.split()) and not is_right(value):
                raise UserError(f"config.{path}={value}: must be {told}.")


def numbers(section, path=""):
    """(path, value) of every number of a config."""
    for name, value in section.items():
        if hasattr(value, "items"):
            yield from numbers(value, f"{path}{name}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{path}{name}", value

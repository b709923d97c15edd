"""Train: `python -m xmodal_jax.main --config=configs/pretrain.py [--workdir=DIR] [--config.NAME=VALUE ...]`."""

import os
import time

from absl import flags
from ml_collections import config_flags

from xmodal_jax import cli, stopping
from xmodal_jax.errors import UserError

CONFIG = config_flags.DEFINE_config_file("config", None, "Config file, with arguments after a colon.", lock_config=True)
WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Folder of the run: a new one is made, an old one is gone on with. Default: a new folder under runs/.",
)

STRICT = flags.DEFINE_bool("strict", False, "Refuse to go on with a run whose training data have changed.")


def main():
    import jax  # after the flags: --help answers at once

    from xmodal_jax.api import train

    if CONFIG.value is None:
        raise UserError("Which config? For example: python -m xmodal_jax.main --config=configs/pretrain.py")
    if jax.process_count() > 1 and not WORKDIR.value:
        raise UserError("Several processes need one folder in common: give --workdir=DIR, on a disk that all of them share.")
    results = train(CONFIG.value, WORKDIR.value or os.path.join("runs", time.strftime("%Y-%m-%d-%H%M%S")), STRICT.value)
    return stopping.BROKEN_OFF if results is None else None


if __name__ == "__main__":
    cli.run(main, __doc__)

"""Train and compare all cells of a table: `python -m xmodal_jax.reproduce --table=crossmodal_bytes [--seeds=3]`.

Tables: crossmodal_bytes (ablation none / third / dictionary / both). `--config=FILE:ARGS --config.NAME=VALUE` change what all
cells start from (data=captions,path=DIR ...). Started again with the same --workdir it goes on, cell by cell.
"""

import os
import time

from absl import flags
from ml_collections import config_flags

from xmodal_jax import cli

TABLE = flags.DEFINE_string("table", "crossmodal_bytes", "Which table.")
SEEDS = flags.DEFINE_integer("seeds", 1, "Runs per cell; mean and standard deviation are reported.", lower_bound=1)
CONFIG = config_flags.DEFINE_config_file("config", "configs/pretrain.py", "Config that the cells start from.", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of all its runs. Default: a new one under runs/.")


def main():
    from xmodal_jax.config import choose
    from xmodal_jax.train import tables

    grid = choose(tables.TABLES, TABLE.value, "--table")
    workdir = WORKDIR.value or os.path.join("runs", f"{TABLE.value}-{time.strftime('%Y-%m-%d-%H%M%S')}")
    tables.run(grid, CONFIG.value, workdir, SEEDS.value)


if __name__ == "__main__":
    cli.run(main, __doc__)

"""Train and compare all cells of a table, beside the published figures.

    python -m xmodal_jax.reproduce --table=crossmodal_bytes [--seeds=3]
        ablation of the crossmodal byte model: none / third / dictionary / both
    python -m xmodal_jax.reproduce --table=caption_vae_cl [--data=captions,path=DIR] [--seeds=3] [--scale=tiny|small|paper]
        Transformer-VAE-CL captioning: tables 1-4, latents, controls
    python -m xmodal_jax.reproduce --table=vqa_ume [--data=easy_vqa,path=DIR] [--seeds=3] [--scale=tiny|small|paper]
        UME: all fusions of LSTM and VGG, three text by two image transformers, controls without picture or question
    python -m xmodal_jax.reproduce --table=share_prune [--data=captions,path=DIR] [--seeds=3]
        sharing and pruning a dual encoder: the hypernetwork, its parts, baselines, the full model and a small one
    python -m xmodal_jax.reproduce --table=zoo [--data=captions,path=DIR] [--scale=tiny|base]
        the survey's models: every objective with the right picture, another one's, and none; with --sizes no training, but
        what each is made of, its parameters and FLOPs

`--config=FILE:ARGS --config.NAME=VALUE` change what all cells start from; `--cells` takes some of them. Started again with the
same --workdir it goes on, cell by cell.
"""

import os
import time

from absl import flags, logging
from ml_collections import config_flags

from xmodal_jax import cli
from xmodal_jax.errors import UserError

TABLE = flags.DEFINE_string("table", "crossmodal_bytes", "Which table.")
SEEDS = flags.DEFINE_integer("seeds", 1, "Runs per cell; mean and standard deviation are reported.", lower_bound=1)
CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config that the cells start from. Default: the table's.", lock_config=True
)
DATA = flags.DEFINE_string("data", "", "Config arguments data=...: scenes; captions,path=DIR; coco,path=FILE,images=DIR.")
SCALE = flags.DEFINE_string("scale", "", "Config argument scale=..., of tables that have it: tiny, small, paper.")
CELLS = flags.DEFINE_list("cells", [], "Names of the cells to train, with commas. Default: all.")
SIZES = flags.DEFINE_bool("sizes", False, "Train nothing: print what the cells are made of, their parameters and FLOPs.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of all its runs. Default: a new one under runs/.")


def main():
    from xmodal_jax.config import choose, find_config, flat, load_config
    from xmodal_jax.tables import TABLES, runner, sizes

    grid = choose(TABLES, TABLE.value, "--table")
    arguments = [f"data={DATA.value}"] * bool(DATA.value) + [f"scale={SCALE.value}"] * bool(SCALE.value)
    if CONFIG.value is not None and arguments:
        raise UserError("Give --data and --scale as arguments of --config: --config=FILE:data=...,scale=...")
    workdir = WORKDIR.value or os.path.join("runs", f"{TABLE.value}-{time.strftime('%Y-%m-%d-%H%M%S')}")
    if CONFIG.value is not None:
        config, overrides = CONFIG.value, config_flags.get_override_values(flags.FLAGS["config"])
        path, _, given = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    else:
        path, given, overrides = find_config(grid.config), "", {}
        config = load_config(path, ",".join(arguments))
    logging.info("table %s of %s in %s", TABLE.value, path, workdir)

    def make(more, file=None):
        """The config with further arguments and the overrides of what it has; that of another file is as its start made it."""
        if file:
            return load_config(find_config(file), more)
        made = load_config(path, ",".join(filter(None, [given, *arguments, more])))
        known = flat(made.to_dict())
        made.update_from_flattened_dict({key: value for key, value in overrides.items() if key in known})
        return made

    if SIZES.value:
        cells = {name: changes for name, changes in grid.cells(config).items() if not CELLS.value or name in CELLS.value}
        configs = {name: runner.config_of(changes, config, make, workdir, 0) for name, changes in cells.items()}
        print(sizes.markdown(configs, grid.of_models))
        return
    runner.run(grid, config, workdir, SEEDS.value, CELLS.value, make)


if __name__ == "__main__":
    cli.run(main, __doc__)

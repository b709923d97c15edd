"""What a config's training step needs on TPUs that are not here: compiled by the real TPU compiler, on any machine.

    python -m xmodal_jax.plan --config=configs/pretrain.py:size=base --topology=v5e:16x16 --config.batch_size=1024
    python -m xmodal_jax.plan --config=... --topology=v5e:16x16,v5p:8x8x8,v6e:16x16 --mesh=fsdp=64,data=4 --price=1.2
    python -m xmodal_jax.plan --config=... --topology=v5e:16x16 --search --plot=plan.png --json=plan.json

Stopped by Ctrl-C or SIGTERM it prints what it has so far. Needs the extra `tpu` (pip install 'xmodal_jax[tpu]'), no TPU.
"""

import json
import os

from absl import flags, logging
from ml_collections import config_flags

from xmodal_jax import cli, stopping
from xmodal_jax.errors import UserError

CONFIG = config_flags.DEFINE_config_file("config", None, "Config file, with arguments after a colon.", lock_config=True)
TOPOLOGY = flags.DEFINE_list("topology", ["v5e:16x16"], "GENERATION:SHAPE, several joined by commas (v4 v5e v5p v6e tpu7x).")
MESH = flags.DEFINE_string("mesh", "", "Mesh sizes, e.g. data=4,fsdp=64 (default: config.mesh; -1 is the rest).")
SEARCH = flags.DEFINE_bool("search", False, "Try mesh shapes x remat x batch x accumulation; print the best that fit.")
COMPILES = flags.DEFINE_integer("compiles", 6, "How many candidates a search compiles.", lower_bound=1)
PRICE = flags.DEFINE_float("price", 0.0, "Dollars per chip and hour, for the cost of the whole run.", lower_bound=0)
JSON = flags.DEFINE_string("json", None, "File for all figures.")
PLOT = flags.DEFINE_string("plot", None, "PNG file for a search's peak memory against its rate.")


def main():
    if CONFIG.value is None:
        raise UserError("Which config? For example: --config=configs/pretrain.py:size=base --topology=v5e:16x16")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no TPU to ask,
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # nor one to quarrel about with other plans

    import jax

    from xmodal_jax.measure import planning, searching

    jax.config.update("jax_platforms", "cpu")
    config = CONFIG.value
    if MESH.value:
        sizes = dict(part.partition("=")[::2] for part in MESH.value.split(","))
        if not all(value.lstrip("-").isdigit() for value in sizes.values()):
            raise UserError(f"--mesh={MESH.value!r}: write sizes as data=4,fsdp=64.")
        with config.unlocked():
            config.mesh = {axis: int(value) for axis, value in sizes.items()}
    plans = []  # as they come: what ends the work early does not lose them

    def work():
        for name in TOPOLOGY.value:
            search = SEARCH.value
            found = searching.search(config, name, COMPILES.value) if search else planning.of_stages(config, name)
            for plan in found:
                plans.append(plan)

    signal = None
    try:
        signal = stopping.until_stopped(work)
    finally:
        if plans:
            report(plans[:], config)
    if signal:
        logging.warning("Stopped: %s.", "the table holds what was compiled so far" if plans else "nothing was compiled yet")
        planning.clear()
        stopping.end_by(signal)


def report(plans, config):
    """Print the table of plans, of a search the best first, and write the files that were asked for."""
    from xmodal_jax.measure import figures, planning, searching

    if SEARCH.value:
        names = [plan.topology for plan in plans]
        plans = sorted(searching.ranked(plans), key=lambda plan: names.index(plan.topology))
    print(figures.console(planning.tables(plans, config, PRICE.value)), flush=True)
    if JSON.value:
        with open(JSON.value, "w", encoding="utf-8") as file:
            json.dump([plan.as_json() for plan in plans], file, indent=2)
    if PLOT.value:
        planning.plot(plans, PLOT.value)


if __name__ == "__main__":
    cli.run(main, __doc__)

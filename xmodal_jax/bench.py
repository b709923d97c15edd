"""Benchmark a config: `python -m xmodal_jax.bench --config=configs/pretrain.py[:ARGS] [--steps=30] [--trace=DIR]`.

Measures on what is here: step time, examples/s, tokens/s, TFLOP/s, MFU, compile time, memory, the loader alone, and the
speed that steps keep with loading. `--devices=8` instead simulates devices on the host and tabulates what each holds and what
they send each other, for every mesh. `--fusion` instead tabulates what every fusion method costs, whatever the config, and
writes a page with curves too. Prints tables and writes them as JSON and Markdown.
"""

import json
import os
import time

import jax
from absl import flags
from ml_collections import config_flags

from xmodal_jax import cli
from xmodal_jax.errors import UserError

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file, with arguments after a colon. Default: configs/pretrain.py.", lock_config=True
)
STEPS = flags.DEFINE_integer(
    "steps", 30, "Counted steps on a held batch, and as many with loading; --fusion: runs at most.", lower_bound=1
)
WARMUP = flags.DEFINE_integer("warmup", 5, "Steps before any is counted.", lower_bound=1)
DEVICES = flags.DEFINE_integer("devices", None, "Simulate this many devices; memory and communication only.", lower_bound=1)
AXES = flags.DEFINE_list("axes", ["data", "fsdp", "tensor"], "Mesh axes to spread simulated devices over, one at a time.")
FUSION = flags.DEFINE_bool("fusion", False, "Measure the fusion methods against tokens and width; no config is looked at.")
TRACE = flags.DEFINE_string("trace", None, "Folder for a profiler trace of three steps; names their costliest operations.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the results. Default: a new one under runs/.")
JSON = flags.DEFINE_string("json", None, "File of all figures. Default: bench.json in the workdir.")
MARKDOWN = flags.DEFINE_string("markdown", None, "File of the tables. Default: bench.md in the workdir.")


def main():
    from xmodal_jax.measure import benchmark, fusion_cost, scaling  # after the flags: --help answers at once

    folder = WORKDIR.value or os.path.join("runs", f"bench-{time.strftime('%Y-%m-%d-%H%M%S')}")
    if FUSION.value:
        if DEVICES.value or TRACE.value:
            raise UserError("--fusion measures programs of its own on one device: leave out --devices and --trace.")
        jax.config.update("jax_enable_compilation_cache", False)  # else it may be another version's program

        def keep(found):
            report("Cost of the fusion methods", found, fusion_cost.tables(found), folder)
            fusion_cost.page(found, os.path.join(folder, "report.html"))

        keep(fusion_cost.measure(steps=STEPS.value, keep=keep))
    elif DEVICES.value:
        if TRACE.value:
            raise UserError("--trace needs real steps: leave out --devices.")
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", DEVICES.value)  # no device was asked for yet
        found = scaling.scale(CONFIG.value, DEVICES.value, AXES.value)
        report("Scaling over simulated devices", found, scaling.tables(found), folder)
    else:
        jax.config.update("jax_enable_compilation_cache", False)  # else the compile time is that of a file's reading

        def keep(found):
            report("Benchmark", found, benchmark.tables(found), folder)

        keep(benchmark.measure(CONFIG.value, STEPS.value, WARMUP.value, TRACE.value, keep))


def report(title, found, sections, folder):
    """Print the tables of what was found and write it as JSON and Markdown (of several processes the first alone)."""
    from xmodal_jax.config import to_json
    from xmodal_jax.files import replace_text
    from xmodal_jax.measure import figures

    if jax.process_index():
        return
    if not FUSION.value:
        found = {"config": json.loads(to_json(CONFIG.value)), **found}
    texts = {JSON.value or os.path.join(folder, "bench.json"): json.dumps(found, indent=2) + "\n"}
    texts[MARKDOWN.value or os.path.join(folder, "bench.md")] = figures.markdown(title, sections)
    print(figures.console(sections))
    for path, text in texts.items():
        replace_text(path, text)
        print(path, flush=True)


if __name__ == "__main__":
    cli.run(main, __doc__, config="configs/pretrain.py")

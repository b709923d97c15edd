"""Benchmark a config: `python -m xmodal_jax.bench --config=configs/pretrain.py[:ARGS] [--steps=30] [--trace=DIR]`.

Measures on what is here: step time, examples/s, tokens/s, TFLOP/s, MFU, compile time, memory and its pages, the loader alone,
and the speed that steps keep with loading. In its place:

--devices=8 simulates devices on the host and tabulates what each holds and what they send each other, for every mesh;
--fusion tabulates what every fusion method costs, whatever the config, and writes a page with curves too;
--beside=pytorch times training steps, forward passes and a beam search beside the same networks in eager PyTorch (--rounds,
  --cases; needs the extra `beside`);
--compressed tabulates size, time and memory of a compressed model beside the full one, with random weights, of a config such as
  configs/compress.py:keep=0.6,method=magnitude.

Prints tables and writes them as JSON and Markdown.
"""

import json
import os
import time

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
BESIDE = flags.DEFINE_enum("beside", None, ["pytorch"], "Time networks beside the same ones in another library.")
COMPRESSED = flags.DEFINE_bool("compressed", False, "Compare the model that configs/compress.py leaves with the full one.")
CASES = flags.DEFINE_list("cases", [], "--beside: only these, such as train-vit-b,beam-gpt2. Default: all.")
ROUNDS = flags.DEFINE_integer("rounds", 5, "--beside: turns of each side.", lower_bound=1)
TRACE = flags.DEFINE_string("trace", None, "Folder for a profiler trace of three steps; names their costliest operations.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the results. Default: a new one under runs/.")
JSON = flags.DEFINE_string("json", None, "File of all figures. Default: bench.json in the workdir.")
MARKDOWN = flags.DEFINE_string("markdown", None, "File of the tables. Default: bench.md in the workdir.")


def main():
    folder = WORKDIR.value or os.path.join("runs", f"bench-{time.strftime('%Y-%m-%d-%H%M%S')}")
    chosen = [flag.name for flag in (DEVICES, FUSION, BESIDE, COMPRESSED) if flag.value]
    for flag, way in ((AXES, DEVICES), (CASES, BESIDE), (ROUNDS, BESIDE)):
        if flag.present and not way.value:
            raise UserError(f"--{flag.name} has no effect without --{way.name}.")
    if len(chosen) + bool(TRACE.value) > 1:
        asked = ", ".join(f"--{name}" for name in [*chosen, *["trace"] * bool(TRACE.value)])
        raise UserError(f"{asked}: each is a benchmark of its own, and a trace is of the config's own steps. Give one of them.")
    ways = {"devices": devices, "fusion": fusion, "beside": beside, "compressed": compressed}
    ways[chosen[0]](folder) if chosen else step(folder)


def step(folder):
    """The config's training step on what is here."""
    import jax  # after the flags: --help answers at once

    from xmodal_jax.measure import benchmark

    jax.config.update("jax_enable_compilation_cache", False)  # else the compile time is that of a file's reading

    def keep(found):
        report("Benchmark", found, benchmark.tables(found), folder)

    keep(benchmark.measure(CONFIG.value, STEPS.value, WARMUP.value, TRACE.value, keep))


def devices(folder):
    """Simulated ones."""
    import jax

    from xmodal_jax.measure import scaling

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", DEVICES.value)  # no device was asked for yet
    found = scaling.scale(CONFIG.value, DEVICES.value, AXES.value)
    report("Scaling over simulated devices", found, scaling.tables(found), folder)


def fusion(folder):
    """What every fusion method costs."""
    import jax

    from xmodal_jax.measure import fusion_cost

    jax.config.update("jax_enable_compilation_cache", False)  # else it may be another version's program

    def keep(found):
        report("Cost of the fusion methods", found, fusion_cost.tables(found), folder)
        fusion_cost.page(found, os.path.join(folder, "report.html"))

    keep(fusion_cost.measure(steps=STEPS.value, keep=keep))


def beside(folder):
    """The same networks in another library."""
    from xmodal_jax.measure.beside import compare

    def keep(found):
        report("Beside eager PyTorch", found, compare.tables(found), folder)

    compare.measure(CASES.value, ROUNDS.value, max(1, STEPS.value // ROUNDS.value), keep)


def compressed(folder):
    """A compressed model and the full one."""
    from xmodal_jax.measure import compressed

    found, tables = compressed.measure(CONFIG.value)
    report("Full and compressed", found, tables, folder)


def report(title, found, sections, folder):
    """Print the tables of what was found and write it as JSON and Markdown (of several processes the first alone)."""
    import jax

    from xmodal_jax.config import to_json
    from xmodal_jax.files import replace_text
    from xmodal_jax.measure import figures

    if jax.process_index():
        return
    if not (FUSION.value or BESIDE.value):
        found = {"config": json.loads(to_json(CONFIG.value)), **found}
    texts = {JSON.value or os.path.join(folder, "bench.json"): json.dumps(found, indent=2) + "\n"}
    texts[MARKDOWN.value or os.path.join(folder, "bench.md")] = figures.markdown(title, sections)
    print(figures.console(sections))
    for path, text in texts.items():
        replace_text(path, text)
        print(path, flush=True)


if __name__ == "__main__":
    cli.run(main, __doc__, config="configs/pretrain.py")

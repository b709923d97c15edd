"""What a run that shares and prunes leaves behind: a smaller model as a run of its own, and what it is worth.

WORKDIR/compressed is opened, evaluated, trained further and stored as every run is; of its model the pruned vectors are gone
and the shared ones stand once.
"""

import json
import math
import os
import time

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from xmodal_jax.compress import materialise
from xmodal_jax.compress.pair import count
from xmodal_jax.compress.structure import given_up
from xmodal_jax.compress.structure import kept as kept_share
from xmodal_jax.config import to_json
from xmodal_jax.draw.blocks import Table
from xmodal_jax.draw.structure import draw_size, draw_structure
from xmodal_jax.files import replace_text
from xmodal_jax.interop.processing import read_json
from xmodal_jax.models.stacks import to_read
from xmodal_jax.objectives.inputs import of_picture
from xmodal_jax.systems import kept
from xmodal_jax.systems.compression import NAME
from xmodal_jax.systems.model import build_model
from xmodal_jax.train import mesh as layout
from xmodal_jax.train import progress
from xmodal_jax.train.checkpoints import Checkpoints
from xmodal_jax.train.optimizers import OptimizerConfig, make_optimizer
from xmodal_jax.train.step import State

FOLDER = "compressed"
MODES = {"loaded": "shared vectors gathered once, when it is loaded", "running": "shared vectors gathered whenever it runs"}
LABELS = {"full": "full"} | {mode: f"compressed, {how}" for mode, how in MODES.items()}
DEFAULT = "loaded"  # as a run is opened
VERBS = {"image": "encode_image", "text": "encode_text"}
INPUTS = {"encode_image": ("image",), "encode_text": ("caption", "question")}
ROWS = (1, 8)
NOTE = (
    "Times: medians of rounds in turn. MB: parameters, temporaries and outputs on the device, as compiled. The difference: of "
    "its outputs from the masked model's."
)


def conclude(parts, params, workdir):
    """Materialise, measure, write -> (results, tables, drawings). Of several processes the first one measures."""
    several = jax.process_count() > 1
    params = multihost_utils.process_allgather(params, tiled=True) if several else jax.device_get(params)
    compression, folder = parts.compression, os.path.join(workdir, FOLDER)
    structure = params[NAME]["decision"]
    made = materialise.Materialised(compression.pair, structure)
    with here():
        before = jax.device_get(compression.plain(params))
        compact = jax.device_get(made.compact(before))
        state = state_of(parts, compact)
    if not jax.process_index():
        describe(parts, made, folder, kept.kept_of(workdir))
    save(state, folder)
    if jax.process_index():
        return {}, (), ()
    with here():
        small = build_model(run_config_of(parts), kept=kept.kept_of(folder))
        results, table = compare(parts, small, before, jax.device_get(compression.used(params)), compact)
    shares = {"kept": kept_share(structure, compression.pair)} | given_up(structure, compression.pair)
    results |= {name: float(share) for name, share in shares.items()} | accuracy_before(parts)
    metrics = progress.read_metrics(workdir)
    drawings = [draw_structure(compression.pair, structure), draw_size(metrics, compression.config.keep)]
    logging.info("the compressed model is the run %s", folder)
    return {f"compress/{name}": value for name, value in results.items()}, (table,), [one for one in drawings if one]


def run_config_of(parts):
    """The config of the run that the compressed model is: without what compressed it."""
    config = json.loads(to_json(parts.config)) | {"init": ""}
    return ConfigDict({name: value for name, value in config.items() if name not in ("compress", "lora")})


def here():
    """The context of programs of this process alone, on one device."""
    return jax.set_mesh(layout.make_mesh({}, jax.local_devices()[:1]))


def describe(parts, made, folder, own):
    """All that a run's folder holds of the compressed model but its parameters. own: what the run itself keeps of its model."""
    config = run_config_of(parts)
    built = build_model(config, kept=own)
    built.materialised = made
    os.makedirs(folder, exist_ok=True)
    replace_text(os.path.join(folder, "config.json"), to_json(config) + "\n")
    kept.keep(built, folder)


def state_of(parts, compact):
    """The state of a finished run with these parameters, of numpy arrays."""
    config = parts.config
    optimizer, _ = make_optimizer(OptimizerConfig(**config.optimizer.to_dict()), config.total_steps)
    key, step = jax.random.PRNGKey(config.seed), np.int32(config.total_steps)
    return jax.device_get(State(step, compact, optimizer.init(compact), None, key, np.int32(-1)))


def save(state, folder):
    """Write it as a checkpoint: all processes together, as Orbax wants it."""
    checkpoints, step = Checkpoints(os.path.join(folder, "checkpoints"), asynchronous=False), int(state.step)
    if step not in checkpoints.steps():
        checkpoints.save(step, state, {"next_step": step, "seconds": 0.0})
    checkpoints.close()


def compare(parts, small, before, masked, compact):
    """Sizes, times and outputs of the full model and the compressed one in both modes -> (results, Table)."""
    batch = batch_of(parts)
    models = {
        "full": (parts.model, to_read(before)),
        "loaded": (small.model.pruned, jax.device_get(small.materialised.gathered(compact))),
        "running": (small.model, compact),
    }
    wanted = jax.jit(parts.model.apply)({"params": masked}, batch)
    differences = {}
    for mode in MODES:
        model, params = models[mode]
        found = jax.jit(model.apply)({"params": params}, batch)
        differences[mode] = max(jax.tree.leaves(jax.tree.map(difference, wanted, found)))
    results = {
        "parameters": count(compact), "parameters_before": count(before),
        "file_ratio": megabytes(compact) / megabytes(before), "masked_difference": max(differences.values()),
    }  # fmt: skip
    cells = {mode: [] for mode in models}
    for name, verb in VERBS.items():
        for rows in ROWS:
            programs = {mode: program(model, params, verb, batch, rows) for mode, (model, params) in models.items()}
            if None in programs.values():
                continue
            times = timed({mode: call for mode, (call, _) in programs.items()})
            for mode, (_, peak) in programs.items():
                cells[mode] += [1e3 * times[mode], peak / 1e6]
                if mode != "full":
                    place = f"{name}/{mode}" + (f"/{rows}" if rows > 1 else "")
                    results[f"latency_ratio/{place}"] = times[mode] / times["full"]
                    results[f"memory_ratio/{place}"] = peak / programs["full"][1]
            if rows == 1:
                results[f"latency_ratio/{name}"] = results[f"latency_ratio/{name}/{DEFAULT}"]
    columns = [f"{rows} {name}{'s' * (rows > 1)}, {what}" for name in VERBS for rows in ROWS for what in ("ms", "MB")]
    stored = {"full": before, "loaded": compact, "running": compact}
    lines = [
        [LABELS[mode], count(stored[mode]), megabytes(stored[mode]), *cells[mode], differences.get(mode)] for mode in models
    ]
    headers = ["model", "parameters", "file, MB", *columns[: len(cells["full"])], "largest difference"]
    return results, Table("Full and compressed", headers, lines, NOTE)


def batch_of(parts):
    """A batch of the first held-out examples."""
    rows = [parts.maker(parts.held_out[i % len(parts.held_out)], i) for i in range(max(ROWS))]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def program(model, params, verb, batch, rows):
    """(function of nothing that encodes so many pictures or texts, bytes on the device at its peak), or None where the
    examples have no such thing."""
    part = {key: value[:rows] for key, value in batch.items()}
    key = next((key for key in INPUTS[verb] if key in part), None)
    if key is None:
        return None
    inputs = jax.device_put(of_picture(part) if key == "image" else (part[key], part[f"{key}_length"]))
    params = jax.device_put(params)
    lowered = jax.jit(lambda params, inputs: model.apply({"params": params}, *inputs, method=verb)).lower(params, inputs)
    encode = lowered.compile()
    memory = encode.memory_analysis()
    peak = sum(getattr(memory, f"{what}_size_in_bytes") for what in ("argument", "temp", "output"))
    return lambda: jax.block_until_ready(encode(params, inputs)), peak


def timed(programs, rounds=7, least=0.02):
    """{mode: seconds of a call}, the median of rounds in turn, each of so many calls that it takes `least` seconds or more."""
    found, calls = {mode: [] for mode in programs}, {}
    for mode, call in programs.items():
        call()
        calls[mode] = math.ceil(least / spent(call, 3))
    for _ in range(rounds):
        for mode, call in programs.items():
            found[mode].append(spent(call, calls[mode]))
    return {mode: float(np.median(times)) for mode, times in found.items()}


def spent(call, calls):
    """Seconds of one of so many calls."""
    begin = time.monotonic()
    for _ in range(calls):
        call()
    return (time.monotonic() - begin) / calls


def difference(a, b):
    return float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max()) if np.size(a) else 0.0


def megabytes(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)) / 1e6


def accuracy_before(parts):
    """{"before/NAME": figure} of the run that this one started from, of what both have measured."""
    found = read_json(parts.config.init, "results.json") if parts.config.get("init", "") else {}
    return {f"before/{name}": value for name, value in found.items() if name.startswith(tuple(parts.config.evaluators))}

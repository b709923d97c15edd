"""What a training step holds on each device and sends between them, over simulated devices: memory and bytes, not time.

For 1, 2, 4, ... devices and one mesh axis at a time the step is compiled. Strong: the global batch stays. Weak: the batch of a
device stays, and with all devices is that of the config. Times of simulated devices say nothing, so none is told.
"""

import dataclasses
import itertools
import math
import re

import jax
from absl import logging
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from xmodal_jax.config import unknown
from xmodal_jax.draw.blocks import Table
from xmodal_jax.errors import UserError
from xmodal_jax.measure import hlo
from xmodal_jax.measure.figures import size
from xmodal_jax.systems import recipe
from xmodal_jax.train import mesh as layout
from xmodal_jax.train import program

TOLERANCE = 0.05  # of state bytes, against what the axes say
# Machine code that nobody runs need not be good: a quarter of the compile time. Collectives stay as they are, temporaries
# within 0.01 %.
FAST = {"xla_backend_optimization_level": 0}
if jax.__version_info__ < (0, 11):  # XLA refuses options that it does not know
    FAST["xla_cpu_use_fusion_emitters"] = False


def scale(config, most, axes=layout.AXES):
    """Compile the step of a config on meshes of up to `most` of the devices here.

    -> {"most_devices", "parameters", "gradient_bytes", "rows": [row]}; a row tells bytes per device (see
    `measure_one` and `weigh`), or `refused`: why the model or batch does not divide so.

    Raises:
      UserError: for a config that cannot run, or a batch smaller than the devices.
    """
    check_sizes(config, most, axes, len(jax.devices()))
    parts, rows, done = recipe.make(config), [], {}
    counts = [2**power for power in range(most.bit_length()) if 2**power < most] + [most]
    for scaling, axis, count in itertools.product(("strong", "weak"), axes, counts):
        batch = config.batch_size if scaling == "strong" else config.batch_size // most * count
        key = (axis if count > 1 else "", count, batch)  # one device is the same mesh whatever its axis
        try:
            if key not in done:
                done[key] = measure_one(parts, axis, count, batch)
            found, leaves = done[key]
            found = found | weigh(leaves, axis, count)
            found["flags"] = judge(found)
        except UserError as error:
            logging.info("%s over %d: refused: %s", axis, count, error)
            found = {"refused": str(error), "flags": []}
        rows.append({"scaling": scaling, "axis": axis, "devices": count, "batch_size": batch, **found})
    shapes = jax.eval_shape(lambda: parts.model.init(jax.random.PRNGKey(0), parts.example_batch(1))["params"])
    leaves = jax.tree.leaves(shapes)
    return {
        "most_devices": most,
        "parameters": sum(leaf.size for leaf in leaves),
        "gradient_bytes": sum(leaf.size * leaf.dtype.itemsize for leaf in leaves),
        "rows": rows,
    }


def check_sizes(config, most, axes, there):
    """Raise UserError for an axis that there is not, more devices than are there, a batch that they cannot share."""
    for axis in axes:
        if axis not in layout.AXES:
            raise UserError(unknown(f"mesh axis {axis!r}", axis, layout.AXES))
    if there < most:
        raise UserError(f"--devices={most}: there are {there}.")
    if config.batch_size % most:
        raise UserError(f"config.batch_size={config.batch_size} must be a multiple of --devices={most}.")


def measure_one(parts, axis, count, batch_size):
    """Compile the step for `count` devices along one mesh axis -> (bytes on one device, leaves of the state for `weigh`).

    batch_bytes: of the batch's arrays; argument_bytes and temporary_bytes: by the compiler's memory analysis; collectives: of
    `hlo.by_kind`. Raises UserError where the model or the batch does not divide.
    """
    if batch_size % parts.config.accumulate:
        raise UserError(f"A batch of {batch_size} is no multiple of config.accumulate={parts.config.accumulate}.")
    parts = dataclasses.replace(parts, config=ConfigDict(parts.config.to_dict() | {"batch_size": batch_size}))
    mesh = layout.make_mesh({axis: count}, jax.devices()[:count])
    layout.local_rows(mesh, batch_size)
    with jax.set_mesh(mesh):
        _, shapes = program.state_maker(parts, mesh)
        options = FAST if mesh.devices.flat[0].platform == "cpu" else {}
        compiled = program.lower_step(parts, mesh, shapes).compile(compiler_options=options)
    leaves = [
        (ruled(layout.path_of(path), leaf.shape), leaf.size * leaf.dtype.itemsize, shard_bytes(leaf, sharding))
        for (path, leaf), sharding in zip(
            jax.tree_util.tree_leaves_with_path(shapes), jax.tree.leaves(compiled.output_shardings[0]), strict=True
        )
    ]
    plan = compiled.memory_analysis()
    found = {
        "batch_bytes": sum(shard_bytes(leaf, leaf.sharding) for leaf in program.batch_shapes(parts, mesh).values()),
        "argument_bytes": plan.argument_size_in_bytes,
        "temporary_bytes": plan.temp_size_in_bytes,
        "collectives": hlo.by_kind(hlo.collectives(compiled.as_text())),
    }
    logging.info("%s over %d, batch %d: temporaries %s", axis, count, batch_size, size(found["temporary_bytes"]))
    return found, leaves


def weigh(leaves, axis, count):
    """Bytes of the state on one of `count` devices along `axis`, as the executable lays it out and as the rules say.

    leaves: (PartitionSpec of the rules, bytes of the whole array, bytes found on a device). split: of the arrays alone that
    the rules split along this axis.
    """
    split = [leaf for leaf in leaves if axis in leaf[0]]
    whole = sum(whole for spec, whole, _ in leaves if axis not in spec)
    expected = sum(whole for _, whole, _ in split) / count
    return {
        "state_bytes": sum(found for *_, found in leaves),
        "expected_state_bytes": round(whole + expected),
        "split_bytes": sum(found for *_, found in split),
        "expected_split_bytes": round(expected),
    }


def ruled(path, shape):
    """The PartitionSpec that the rules ask for, whether or not it fits the array's sizes."""
    spec = next((spec for pattern, spec in layout.RULES if re.search(pattern, path)), P())
    return spec if len(shape) >= len(spec) else P()


def shard_bytes(leaf, sharding):
    """Bytes of an array (or ShapeDtypeStruct) on one device."""
    return math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize


def judge(row):
    """Where the state's bytes per device are not what the axes say: a list of sentences, empty where all is well."""
    checks = {
        "the arrays that rules split": (row["split_bytes"], row["expected_split_bytes"]),
        "the state": (row["state_bytes"], row["expected_state_bytes"]),
        "the executable's arguments": (row["argument_bytes"], row["expected_state_bytes"] + row["batch_bytes"]),
    }
    return [
        f"{name}: {size(found)} a device, {size(expected)} expected"
        for name, (found, expected) in checks.items()
        if abs(found - expected) > TOLERANCE * expected
    ]


def tables(found):
    """The result of `scale` as tables to be read, one for each scaling."""
    kinds = sorted({kind for row in found["rows"] for kind in row.get("collectives", ())})
    headers = ("axis", "devices", "batch", "state", "of one", "left whole", "temporaries", "of one", *kinds, "sent", "check")
    notes = {
        "strong": "The global batch stays: along data and fsdp temporaries should fall with the devices.",
        "weak": "The batch of a device stays: along data and fsdp its temporaries should stay.",
    }
    out = []
    for scaling, note in notes.items():
        rows, one, refused = [], None, {}
        for row in (row for row in found["rows"] if row["scaling"] == scaling):
            start = (row["axis"], str(row["devices"]), str(row["batch_size"]))
            if "refused" in row:
                rows.append((*start, *["-"] * (len(headers) - 4), "refused"))
                refused.setdefault(row["refused"])
                continue
            one = row if row["devices"] == 1 else one
            cells = (
                size(row["state_bytes"]),
                share(row, one, "state_bytes"),
                size(row["state_bytes"] - row["split_bytes"]),
                size(row["temporary_bytes"]),
                share(row, one, "temporary_bytes"),
                *(size(row["collectives"].get(kind, {"bytes": 0})["bytes"]) for kind in kinds),
                size(sum(kind["sent_bytes"] for kind in row["collectives"].values())),
            )
            rows.append((*start, *cells, "; ".join(row["flags"]) or "as the axes say"))
        out.append(Table(f"{scaling.capitalize()} scaling, per device and step", headers, rows, " ".join([note, *refused])))
    gradient = f"{found['parameters']:,} parameters; their gradient is {size(found['gradient_bytes'])}."
    meaning = "Collectives: bytes of their results on one device, loops counted; sent: by one device, by ring algorithms."
    meaning += " The host's compiler chose them; those of accelerators need not follow."
    return [*out[:-1], dataclasses.replace(out[-1], note=f"{out[-1].note} {gradient} {meaning}")]


def share(row, one, name):
    """A row's bytes over those of one device."""
    return f"{row[name] / one[name]:.3f}" if one else "-"

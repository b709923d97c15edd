"""The one place that says how arrays are laid out over devices: a mesh and an ordered list of path rules."""

import re

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from xmodal_jax.errors import UserError
from xmodal_jax.models.platform import ROWS

AXES = ("data", "fsdp", "tensor")
SMALL = 2**20  # elements

# (path pattern, partition of the trailing dimensions); the first match wins, a scan's layer axis in front is not split.
RULES = (
    (r"memory/of/", P()),  # queues: every row reads all of them, 64 MiB are 65,536 vectors of 256
    (r"(^|/)lora/|compress/z$|(text|vision)/[ms]/(qk|v|ff)$", P()),  # adapters and structures are small
    (r"attention/qkv/kernel|cross(_\w+)?/(q|kv)/kernel", P("fsdp", None, "tensor", None)),  # [D, 3, H, d]
    (r"(attention|cross(_\w+)?)/out/kernel", P("tensor", "fsdp")),  # [H d, D]
    (r"(^|/)(up|gate)/kernel", P("fsdp", "tensor")),  # [D, 4 D]
    (r"(^|/)down/kernel", P("tensor", "fsdp")),  # [4 D, D]
    (r"embedding|table|relations", P(None, "fsdp")),  # [ids, D]
    (r"logits/kernel", P("fsdp", "tensor")),  # [D, V]
    (r"local/kernel|group/kernel|conv_\w+/kernel", P(None, None, "fsdp")),  # [window, D, D]
    (r"kernel", P(None, "fsdp")),
    (
        r"bias|scale|modality|register|slots|(class|mask|nothing|probe)_token|mean|variance|(^|/)(query|diagonal)$|shares|gamma|ns_coeffs|^key$",
        P(),
    ),
)


def make_mesh(sizes, devices=None):
    """Mesh over all devices (or those given) with axes data, fsdp, tensor; one size may be -1 (the rest)."""
    unknown = set(sizes) - set(AXES)
    if unknown:
        raise UserError(f"config.mesh has no axis {', '.join(sorted(unknown))}: the axes are {', '.join(AXES)}.")
    shape, count = [int(sizes.get(axis, 1)) for axis in AXES], len(devices or jax.devices())
    if shape.count(-1) > 1 or any(size < 1 and size != -1 for size in shape):
        raise UserError(f"config.mesh={dict(zip(AXES, shape, strict=True))}: sizes are at least 1; one may be -1 (the rest).")
    if -1 in shape:
        shape[shape.index(-1)] = max(1, count // -int(np.prod(shape)))
    if np.prod(shape) != count:
        raise UserError(f"config.mesh={dict(zip(AXES, shape, strict=True))} needs {np.prod(shape)} devices; there are {count}.")
    # A pod's torus may have to be split along one of its own axes: 64 ways over 16 x 16 chips.
    devices = mesh_utils.create_device_mesh(shape, devices or jax.devices(), allow_split_physical_axes=True)
    return jax.sharding.Mesh(devices, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def path_of(path):
    """A tree path as "a/b/c"."""
    return "/".join(str(getattr(part, "key", getattr(part, "name", getattr(part, "idx", part)))) for part in path)


def partition(path, shape, mesh, rules=RULES):
    """The PartitionSpec of one array by the first rule whose pattern is found in its path.

    A mesh axis that does not divide the dimension which the rule gives it takes another one that it divides; an array of
    less than SMALL elements without any such dimension stays whole along it, a larger one is a UserError.
    """
    for pattern, spec in rules if shape else ():
        if re.search(pattern, path):
            if len(shape) < len(spec):
                return P()
            layers = len(shape) - len(spec)
            return P(*[None] * layers, *fitting(path, shape[layers:], spec, mesh))
    if not shape:
        return P()
    raise UserError(f"No sharding rule matches the parameter {path} of shape {tuple(shape)}: add one to train/mesh.py.")


def fitting(path, shape, spec, mesh):
    """`spec` with every axis on a dimension that it divides."""
    placed = [axis if axis and size % mesh.shape[axis] == 0 else None for size, axis in zip(shape, spec, strict=True)]
    for axis in spec:
        if axis is None or axis in placed:
            continue
        free = [i for i, other in enumerate(shape) if placed[i] is None and other % mesh.shape[axis] == 0]
        if free:
            placed[max(free, key=lambda i: shape[i])] = axis
        elif np.prod(shape) >= SMALL:
            raise UserError(
                f"{path} of shape {tuple(shape)} cannot be split {mesh.shape[axis]} ways over {axis} (nor can another of its "
                "dimensions): choose a mesh or a width that divides it."
            )
    return placed


def shardings(tree, mesh, rules=RULES):
    """NamedShardings for a tree of arrays or shapes. Optimiser moments lie as their parameters do: their paths end alike."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: NamedSharding(mesh, partition(path_of(path), leaf.shape, mesh, rules)), tree
    )


def batch_sharding(mesh):
    """ndim -> sharding of a batch array: rows over data and fsdp."""
    return lambda ndim: NamedSharding(mesh, P(ROWS, *[None] * (ndim - 1)) if ndim else P())


def check_rows(mesh, batch_size):
    """Raise a UserError where a global batch cannot be split evenly over the mesh."""
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size % ways:
        raise UserError(f"config.batch_size={batch_size} must be a multiple of the mesh's data x fsdp = {ways}.")


def local_rows(mesh, batch_size):
    """Row numbers of a global batch that the devices of this process hold (all of them where rows are not split)."""
    check_rows(mesh, batch_size)
    places = batch_sharding(mesh)(1).addressable_devices_indices_map((batch_size,)).values()
    return sorted({row for (rows,) in places for row in range(batch_size)[rows]})

"""The one place that says how arrays are laid out over devices: a mesh and an ordered list of path rules."""

import re

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from xmodal_jax.errors import UserError
from xmodal_jax.models.platform import ROWS

AXES = ("data", "fsdp", "tensor")

# (path pattern, partition of the trailing dimensions); the first match wins, a scan's layer axis in front is not split.
RULES = (
    (r"attention/qkv/kernel|cross/(q|kv)/kernel", P("fsdp", None, "tensor", None)),  # [D, 3, H, d]
    (r"(attention|cross)/out/kernel", P("tensor", "fsdp")),  # [H d, D]
    (r"(^|/)up/kernel", P("fsdp", "tensor")),  # [D, 4 D]
    (r"(^|/)down/kernel", P("tensor", "fsdp")),  # [4 D, D]
    (r"embedding|table", P(None, "fsdp")),  # [ids, D]
    (r"logits/kernel", P("fsdp", "tensor")),  # [D, V]
    (r"local/kernel|group/kernel|conv_\w+/kernel", P(None, None, "fsdp")),  # [window, D, D]
    (r"kernel", P(None, "fsdp")),
    (r"bias|scale|modality|slots|^key$", P()),
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
    return jax.make_mesh(tuple(shape), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def path_of(path):
    """A tree path as "a/b/c"."""
    return "/".join(str(getattr(part, "key", getattr(part, "name", getattr(part, "idx", part)))) for part in path)


def partition(path, shape, mesh, rules=RULES):
    """The PartitionSpec of one array by the first rule whose pattern is found in its path."""
    if not shape:
        return P()
    for pattern, spec in rules:
        if re.search(pattern, path):
            spec = P(*[None] * (len(shape) - len(spec)), *spec) if len(shape) >= len(spec) else P()
            for size, axes in zip(shape, spec, strict=False):
                ways = int(np.prod([mesh.shape[axis] for axis in ([axes] if isinstance(axes, str) else axes or [])]))
                if size % ways:
                    raise UserError(
                        f"{path} of shape {tuple(shape)} cannot be split {ways} ways over {axes}: choose a mesh or a width "
                        "that divides it."
                    )
            return spec
    raise UserError(f"No sharding rule matches the parameter {path} of shape {tuple(shape)}: add one to train/mesh.py.")


def shardings(tree, mesh, rules=RULES):
    """NamedShardings for a tree of arrays or shapes. Optimiser moments lie as their parameters do: their paths end alike."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: NamedSharding(mesh, partition(path_of(path), leaf.shape, mesh, rules)), tree
    )


def batch_sharding(mesh):
    """ndim -> sharding of a batch array: rows over data and fsdp."""
    return lambda ndim: NamedSharding(mesh, P(ROWS, *[None] * (ndim - 1)) if ndim else P())


def local_rows(mesh, batch_size):
    """Row numbers of a global batch that the devices of this process hold (all of them where rows are not split)."""
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size % ways:
        raise UserError(f"config.batch_size={batch_size} must be a multiple of the mesh's data x fsdp = {ways}.")
    places = batch_sharding(mesh)(1).addressable_devices_indices_map((batch_size,)).values()
    return sorted({row for (rows,) in places for row in range(batch_size)[rows]})

"""What the program is being compiled for, which need not be what it is compiled on: platform and mesh."""

import math

import jax
from jax.sharding import PartitionSpec as P

ROWS = ("data", "fsdp")  # mesh axes that the rows of a batch are split over


def platform():
    """ "cpu", "gpu" or "tpu": that of the mesh in use, else JAX's default."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device is not None else jax.default_backend()


def is_one_cpu():
    """Whether the program runs on a single CPU device, where no axis is ever sharded."""
    return platform() == "cpu" and jax.sharding.get_abstract_mesh().size <= 1


def lay_out(x, sequence=False):
    """Tokens x [B, N, D] with rows split over the mesh's data and fsdp axes, and with `sequence` tokens over its tensor axis.

    Without it the compiler may find it cheaper to split the width as the weights are, and to gather whole activations. An
    axis that does not divide its dimension is left whole; without a mesh x is returned as it is.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size <= 1:
        return x

    def axes_for(size, axes):
        return axes if axes and size % math.prod(mesh.shape[axis] for axis in axes) == 0 else None

    spec = P(axes_for(x.shape[0], ROWS), axes_for(x.shape[1], ("tensor",) if sequence else ()), None)
    return jax.lax.with_sharding_constraint(x, spec)

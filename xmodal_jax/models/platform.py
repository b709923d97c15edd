"""What the program is being compiled for, which need not be what it is compiled on."""

import jax


def platform():
    """ "cpu", "gpu" or "tpu": that of the mesh in use, else JAX's default."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device is not None else jax.default_backend()


def is_one_cpu():
    """Whether the program runs on a single CPU device, where no axis is ever sharded."""
    return platform() == "cpu" and jax.sharding.get_abstract_mesh().size <= 1

"""Layers of a kind of its own, scanned as `transformer.Stack` scans its blocks."""

import flax.linen as nn

from xmodal_jax.models.platform import platform
from xmodal_jax.models.transformer import REMAT


def layered(block, layers, remat, static):
    """A block (carry, *rest) -> (carry, None) as `layers` of them, whose parameters carry a leading axis.

    remat: see `Stack`; static: numbers of the arguments that are no arrays, the module the first.
    """
    if REMAT[remat] is not None:
        block = nn.remat(block, policy=REMAT[remat], prevent_cse=False, static_argnums=static)
    return nn.scan(
        block, variable_axes={"params": 0, "attention": 0}, split_rngs={"params": True, "dropout": True},
        in_axes=nn.broadcast, length=layers, unroll=layers if platform() == "cpu" else 1,
    )  # fmt: skip

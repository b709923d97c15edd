"""What a family of public checkpoints is to us."""

import dataclasses
from collections.abc import Callable

from xmodal_jax.config import choose

# transformers' names of element-wise functions -> ours (models/transformer.ACTIVATIONS)
NAMES_OF_ACTIVATIONS = {
    "gelu": "gelu_exact", "gelu_new": "gelu", "gelu_pytorch_tanh": "gelu", "gelu_fast": "gelu", "quick_gelu": "gelu_quick",
    "relu": "relu", "silu": "silu", "swish": "silu", "tanh": "tanh",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Family:
    """One architecture of transformers and the module of ours that equals it.

    Attributes:
      module: (config of transformers, groups, **settings of the module) -> linen module.
      entries: config -> the list of `layout.Entry` for every group.
      example: config -> arguments of the module's call, for its initialisation.
      prefix: of the base model's names inside a model with a head ("vit" of "vit.encoder.layer.0...").
      heads: groups whose names stand outside the base model, without its prefix.
      ignored: patterns of names that hold nothing of their own (buffers, copies of tied weights).
      positions: config -> {path of a table of image positions [1, 1 + h w, D]: (h, w)}, which can be interpolated to another
        image size.
    """

    module: Callable
    entries: Callable
    example: Callable
    prefix: str = ""
    heads: tuple = ()
    ignored: tuple = ()
    positions: Callable | None = None


def activation(name):
    """Our name of an activation of transformers."""
    return choose(NAMES_OF_ACTIVATIONS, name, "activation of the checkpoint")


def grid_of(config):
    """(rows, columns) of patches of a config with image_size and patch_size."""
    (height, width), (p, q) = pair(config.image_size), pair(config.patch_size)
    return height // p, width // q


def pair(size):
    """An int or a pair -> (rows, columns)."""
    return (size, size) if isinstance(size, int) else tuple(size)

"""The layers of a stack as one array of each kind, [L, ...], or apart: as arrays of their own.

One array suits training and accelerators: one block is compiled, whatever the depth. Where parameters are only read on a CPU,
layers apart spare it the copy of every layer's slice at each call. Modules take both, and compute the same.
"""

import operator
import re

import jax
import jax.numpy as jnp

from xmodal_jax.models.platform import platform

NAME = "layers"  # of a stack's parameters in the tree
STACKS = (NAME, "streams", "lower", "upper")  # and of those of `interactions`, in the order in which tokens go through them


def stack_of(path):
    """(path of what holds it, its name) of the stack whose leading axis an array has: ("a/encoder", "layers") of
    "a/encoder/layers/up/kernel", with its adapters under "lora/"; None of an array of one layer, or of none."""
    found = re.match(rf"(?:lora/)?(?:(.*?)/)??({'|'.join(STACKS)})/(?!\d+/)", path)
    return found and (found.group(1) or "", found.group(2))


def to_read(params):
    """Parameters as they are read fastest on what is here: with layers apart on a CPU."""
    return apart(params) if platform() == "cpu" else params


def apart(params):
    """A tree of parameters with every stack "layers": [L, ...] as {"0": [...], "1": [...], ...}."""
    return changed(params, lambda layers: layers if is_apart(layers) else split(layers))


def together(params):
    """The inverse of `apart`: every stack with a leading axis. What has one already, or was pruned, stays as it is."""
    return changed(params, lambda layers: layers if is_pruned(layers) else stacked(layers))


def changed(tree, change):
    """A nested dictionary with `change` made to every stack in it."""
    if not isinstance(tree, dict):
        return tree
    return {name: change(value) if name == NAME else changed(value, change) for name, value in tree.items()}


def is_apart(layers):
    """Whether the parameters of a stack are {"0": of its first layer, "1": ...}."""
    return "0" in layers


def is_pruned(layers):
    """Whether they are those of a stack whose layers differ in width (`transformer.Layers`)."""
    return is_apart(layers) and "qk" in layers["0"]["attention"]


def stacked(layers):
    """A stack's parameters with a leading axis."""
    if not is_apart(layers):
        return layers
    return jax.tree.map(lambda *parts: jnp.stack(parts), *(layers[str(i)] for i in range(len(layers))))


def sown(layers, *path):
    """What the blocks of a stack sowed at a path in its last call, [L, ...]: of one scan, or of blocks that are apart."""
    if is_apart(layers):
        return jnp.stack([sown(layers[str(i)], *path) for i in range(len(layers))])
    for name in path:
        layers = layers[name]
    return layers[-1]


@jax.jit
def split(layers):
    """A stack's parameters [L, ...], layer by layer."""
    count = len(jax.tree.leaves(layers)[0])
    return {str(i): jax.tree.map(operator.itemgetter(i), layers) for i in range(count)}

"""Low-rank adaptation (Hu et al., 2022): W + alpha / r * A B with W fixed, as functions from parameter tree to parameter tree.

Adapters lie among the parameters, under "lora", in the shape of the tree that they adapt; `merge` takes them in, so that
neither modules nor objectives know of them. To train nothing else, freeze what is outside: optimizer.freeze=("^(?!lora/)",).

Letters: D inputs, F outputs (of all heads), r rank, L layers of a stack.
"""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.models.stacks import stack_of


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """patterns: which kernels are adapted, searched in their paths; rank r; alpha: factor of the product is alpha / r."""

    patterns: tuple = ()
    rank: int = 8
    alpha: float = 16.0


def add_adapters(key, params, config):
    """`params`, and for every kernel [(L,) D, *features] that a pattern finds A [(L,) D, r] normal and B [(L,) r, F] zero.

    Raises UserError where a pattern finds no kernel.
    """
    if isinstance(config.patterns, str) or config.rank < 1:
        raise UserError(f"config.lora: patterns={config.patterns!r} must be a tuple, rank={config.rank} at least 1.")
    found, adapters = set(), {}
    for path, leaf in leaves(params):
        here = [pattern for pattern in config.patterns if path[-1] == "kernel" and re.search(pattern, "/".join(path))]
        found |= set(here)
        if here:
            layers = leaf.shape[: stack_of("/".join(path)) is not None]  # a stack's kernels are one array
            width, columns = leaf.shape[len(layers)], math.prod(leaf.shape[len(layers) + 1 :])
            key, use = jax.random.split(key)
            a = jax.random.normal(use, (*layers, width, config.rank), leaf.dtype) / math.sqrt(width)
            b = jnp.zeros((*layers, config.rank, columns), leaf.dtype)
            factor = jnp.asarray(config.alpha / config.rank, leaf.dtype)
            place(adapters, path, {"a": a, "b": b, "factor": factor})
    for pattern in config.patterns:
        if pattern not in found:
            names = sorted("/".join(path) for path, _ in leaves(params) if path[-1] == "kernel")
            raise UserError(f"lora.patterns: {pattern!r} is found in no kernel's path. Kernels: {', '.join(names)}.")
    return params | {"lora": adapters} if adapters else params


def merge(params):
    """Parameters with their adapters, if there are any, taken into the kernels; the tree has no "lora" any more."""
    if "lora" not in params:
        return params

    def add(tree, adapters):
        if not isinstance(tree, dict):
            product = jnp.einsum("...dr,...rf->...df", adapters["a"], adapters["b"])
            return tree + (jax.lax.stop_gradient(adapters["factor"]) * product).reshape(tree.shape)
        return {name: add(value, adapters[name]) if name in adapters else value for name, value in tree.items()}

    return add({name: value for name, value in params.items() if name != "lora"}, params["lora"])


def leaves(tree, path=()):
    """(path, leaf) of a nested dictionary."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


def place(tree, path, value):
    """tree[path] = value, with the dictionaries on the way."""
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value

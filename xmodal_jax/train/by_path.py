"""What happens to parameters by their path: frozen, or trained at a rate of their own."""

import difflib
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax

from xmodal_jax.errors import UserError
from xmodal_jax.models.stacks import STACKS, stack_of
from xmodal_jax.train.mesh import path_of

EMBEDS = r"embed|patch|position|class_token|words|places|kinds|norm_in|_bytes/|modality"  # what stands before a stack's layers


def labels(params, patterns):
    """Tree of "frozen" where a pattern is found in the path, else "trained". UserError where one is found nowhere."""
    check(params, patterns, "optimizer.freeze")

    def label(path, _):
        return "frozen" if any(re.search(pattern, path_of(path)) for pattern in patterns) else "trained"

    return jax.tree_util.tree_map_with_path(label, params)


def without_frozen(grads, patterns):
    """Gradients with 0 where a pattern is found in the path, so that the compiler leaves out what would compute them."""
    if not patterns:
        return grads
    return jax.tree.map(lambda g, label: g if label == "trained" else jnp.zeros_like(g), grads, labels(grads, patterns))


def scale_updates(scales, layer_decay):
    """An optax transformation: every update times its factor of `scales` and of its layer. UserErrors come from its init."""

    def init(params):
        factors_of(params, scales, layer_decay)  # refuses what it cannot use before the first step
        return optax.EmptyState()

    def update(updates, state, params=None):
        factors = factors_of(updates, scales, layer_decay)
        return jax.tree.map(lambda update, factor: (update * factor).astype(update.dtype), updates, factors), state

    return optax.GradientTransformation(init, update)


def factors_of(params, scales, layer_decay):
    """Tree of factors: decay^(L - l) in layer l = 0 .. L - 1 of a stack's arrays [L, ...], as [L, 1, ...]; decay^(L + 1) of
    what embeds before it; 1 elsewhere (Clark et al., 2020; Bao et al., 2022); times the first of `scales` that is found.
    """
    check(params, [pattern for pattern, _ in scales], "optimizer.scales")
    layers = stacks(params)
    depths = {holder: sum(of_holder.values()) for holder, of_holder in layers.items()}
    if layer_decay != 1.0 and not depths:
        raise UserError(f"config.optimizer.layer_decay={layer_decay}: this model has no stack of layers that it could follow.")

    def factor(path, leaf):
        path = path_of(path)
        own = next((value for pattern, value in scales if re.search(pattern, path)), 1.0)
        if (stack := stack_of(path)) and leaf.ndim:  # an adapter's factor is a scalar
            behind = sum(layers[stack[0]].get(name, 0) for name in STACKS[STACKS.index(stack[1]) + 1 :])
            above = behind + np.arange(len(leaf), 0, -1, dtype=np.float32)  # 1 for the last layer
            return own * layer_decay ** above.reshape(-1, *[1] * (leaf.ndim - 1))
        return own * layer_decay ** (depth_behind(path, depths) + 1) if re.search(EMBEDS, path) and depths else own

    return jax.tree_util.tree_map_with_path(factor, params)


def scale_branches(params, factor):
    """Fresh parameters with the last kernel of each residual branch of a stack, `out` of attention and `down` of an MLP, times
    a factor. With 0 a layer gives back what it is given (Goyal et al., 2017; Zhang et al., 2019, "Fixup initialization")."""
    if factor == 1.0:
        return params

    def scaled(path, leaf):
        path = path_of(path)
        return leaf * factor if stack_of(path) and re.search("(out|down)/kernel$", path) else leaf

    return jax.tree_util.tree_map_with_path(scaled, params)


def stacks(params):
    """{path of what holds stacks: {name of a stack: its number of layers}}."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if (stack := stack_of(path_of(path))) and leaf.ndim:
            found.setdefault(stack[0], {})[stack[1]] = len(leaf)
    return found


def depth_behind(path, depths):
    """Layers of the stack that the embedding `path` feeds: of the same tower, the one whose name begins alike (text_bytes and
    text_tower), else the deepest; -1 where its tower has none.
    """
    path = path.removeprefix("lora/")
    known = [stack for stack in depths if path.startswith(stack.rpartition("/")[0])]

    def likeness(stack):
        return len(os.path.commonprefix([re.split("[/_]", path), re.split("[/_]", stack)])), depths[stack]

    return depths[max(known, key=likeness)] if known else -1


def check(params, patterns, name):
    """Raise a UserError for a pattern that is no regular expression, or that is found in no path."""
    paths = [path_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for pattern in patterns:
        try:
            found = any(re.search(pattern, path) for path in paths)
        except re.error as error:
            raise UserError(f"config.{name}: {pattern!r} is not a regular expression: {error}.") from None
        if not found:
            raise UserError(
                f"config.{name}: {pattern!r} is found in no parameter's path. Near: {', '.join(nearest(pattern, paths))}."
            )


def nearest(pattern, paths, count=5):
    """The paths that are most like the pattern, as a whole or in one of their parts."""

    def likeness(path):
        return max(difflib.SequenceMatcher(None, pattern, part).ratio() for part in (path, *path.split("/")))

    return sorted(paths, key=likeness, reverse=True)[:count]

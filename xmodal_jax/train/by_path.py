"""What happens to parameters by their path: frozen, or trained at a rate of their own."""

import re

import jax
import jax.numpy as jnp
import optax

from xmodal_jax.errors import UserError
from xmodal_jax.train.mesh import path_of

EMBEDS = r"embed|patch|position|class_token|words|places|kinds|norm_in|_bytes/|modality"  # what stands before a stack's layers


def labels(params, patterns):
    """Tree of "frozen" where a pattern is found in the path, else "trained". UserError where one is found nowhere."""
    check(params, patterns, "optimizer.freeze")

    def label(path, _):
        return "frozen" if any(re.search(pattern, path_of(path)) for pattern in patterns) else "trained"

    return jax.tree_util.tree_map_with_path(label, params)


def scale_updates(scales, layer_decay):
    """An optax transformation: every update times its factor of `scales` and of its layer."""

    def update(updates, state, params=None):
        factors = factors_of(updates, scales, layer_decay)
        return jax.tree.map(lambda update, factor: (update * factor).astype(update.dtype), updates, factors), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def factors_of(params, scales, layer_decay):
    """Tree of factors; of a stack's arrays [L, ...] one a layer, [L, 1, ...]."""
    check(params, [pattern for pattern, _ in scales], "optimizer.scales")
    depths = stacks(params)

    def factor(path, leaf):
        path = path_of(path)
        own = next((value for pattern, value in scales if re.search(pattern, path)), 1.0)
        stack = re.match(r"(.*?)(^|/)layers/", path)
        if stack:
            below = leaf.shape[0] - jnp.arange(leaf.shape[0])  # 1 for the last layer
            return own * layer_decay ** below.reshape(-1, *[1] * (leaf.ndim - 1)).astype(jnp.float32)
        if re.search(EMBEDS, path):
            roots = [root for root in depths if path.startswith(root)]
            if roots:
                return own * layer_decay ** (depths[max(roots, key=len)] + 1)
        return own

    return jax.tree_util.tree_map_with_path(factor, params)


def stacks(params):
    """{path of what holds stacks of layers, "" or "a/": layers of the deepest of them}."""
    out = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        found = re.match(r"(.*/)?[^/]+/layers/", path_of(path))
        if found:
            root = found.group(1) or ""
            out[root] = max(out.get(root, 0), leaf.shape[0])
    return out


def check(params, patterns, name):
    """Raise a UserError for a pattern that is found in no path."""
    paths = [path_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for pattern in patterns:
        if not any(re.search(pattern, path) for path in paths):
            raise UserError(f"config.{name}: {pattern!r} is found in no parameter's path. Parameters: {', '.join(paths)}.")

"""Weights in eight bits: W is stored as round(W / step) with a step of its own for every output, and read back as floats.

Symmetric, the largest weight of an output at 127 (Jacob et al., 2018). Norms, biases, positions and convolutions stay floats.
"""

import jax.numpy as jnp

from xmodal_jax.models.stacks import NAME, is_apart

STEP = "_int8_step"  # behind the name of a quantised array


def quantised(params):
    """Parameters with {"kernel": int8, "kernel_int8_step": float32} for every matrix, and for every table of words likewise."""
    return changed(params, "", stacked=False)


def changed(tree, path, stacked):
    made = {}
    for name, value in tree.items():
        here = f"{path}/{name}"
        if isinstance(value, dict):
            made[name] = changed(value, here, stacked or (name == NAME and not is_apart(value)))
        elif (axis := inputs_of(name, here, value, stacked)) is None:
            made[name] = value
        else:
            step = jnp.maximum(jnp.abs(value).max(axis, keepdims=True, initial=0), 1e-12) / 127
            made |= {name: jnp.round(value / step).astype(jnp.int8), f"{name}{STEP}": step.astype(jnp.float32)}
    return made


def inputs_of(name, path, value, stacked):
    """The axis of an array that a step is common to, or None for an array that is not quantised."""
    if name == "embedding":
        return -1
    matrix = name == "kernel" and "conv" not in path and value.ndim >= 2 + stacked
    return int(stacked) if matrix else None


def restored(params):
    """The inverse, as near as it comes: float32 arrays under their names."""
    made = {}
    for name, value in params.items():
        if isinstance(value, dict):
            made[name] = restored(value)
        elif f"{name}{STEP}" in params:
            made[name] = value.astype(jnp.float32) * params[f"{name}{STEP}"]
        elif not name.endswith(STEP):
            made[name] = value
    return made

"""Arithmetic of a traced function: multiply-adds of matrix products and convolutions, scans counted once per turn.

XLA's own count takes a scan's body once, so it cannot serve for models that scan over their layers.
"""

import math

import jax
from jax.extend import core
from jax.interpreters.partial_eval import dce_jaxpr


def count_flops(function, *args):
    """Floating-point operations (2 per multiply-add) of `function(*args)`, but those that its result does not depend on; args
    may be ShapeDtypeStructs."""
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    return _count(dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[0])


def _count(jaxpr):
    total = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            out_features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // out_features
        turns = equation.params.get("length", 1) if name == "scan" else 1
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(inner, core.ClosedJaxpr):
                    total += turns * _count(inner.jaxpr)
                elif isinstance(inner, core.Jaxpr):
                    total += turns * _count(inner)
    return total

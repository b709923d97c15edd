"""What objectives remember from step to step: a teacher that follows the parameters, queues, moving averages.

{"teacher": {path: array}, "of": {objective: its tree}}, or None where no objective remembers anything. A teacher holds only the
paths that the objectives declare (`Objective.momentum`), and is brought up to date before the forward pass (He et al., 2020,
"Momentum contrast"):  teacher = m teacher + (1 - m) params, and at the first step the parameters themselves.
"""

import re

import jax
import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.interop.trees import leaves, nest
from xmodal_jax.models.verbs import Verbs
from xmodal_jax.objectives import OBJECTIVES


def followers(objectives):
    """{name: settings} of the active objectives that want a teacher."""
    return {name: own for name, own in objectives.items() if own.get("weight", 1.0) and OBJECTIVES[name].momentum(own)}


def fresh(model, objectives, params, batch):
    """What is remembered at the start, of a batch of examples (its arrays' shapes alone matter)."""
    patterns = [pattern for name, own in followers(objectives).items() for pattern in OBJECTIVES[name].momentum(own)]
    if getattr(model, "teacher", None) is not None:  # taught by another model, and by no copy of itself
        patterns = []
    of = {}
    for name, own in objectives.items():
        if OBJECTIVES[name].remember and own.get("weight", 1.0):
            rows = jax.eval_shape(lambda p, b, n=name, s=own: OBJECTIVES[n].represent(Verbs(model, p), b, s), params, batch)
            of[name] = OBJECTIVES[name].remember(own, rows)
    if not patterns and not of:
        return None
    wanted = re.compile("|".join(patterns))
    teacher = {path: jnp.zeros_like(leaf) for path, leaf in leaves(params).items() if patterns and wanted.search(path)}
    return {"teacher": teacher, "of": of}


def followed(memory, params, step, objectives):
    """The memory with its teacher brought up to date."""
    if not memory or not memory["teacher"]:
        return memory
    rates = {float(own.get("momentum", 0.995)) for own in followers(objectives).values()}
    if len(rates) != 1 or not 0 <= min(rates) <= 1:
        raise UserError(f"The momentum of a run's objectives is one number in 0..1, here there are {sorted(rates)}.")
    rate = jnp.where(step == 0, 0.0, rates.pop())
    flat = leaves(params)
    return memory | {"teacher": {path: rate * old + (1 - rate) * flat[path] for path, old in memory["teacher"].items()}}


def teacher_of(memory):
    """params -> the teacher's, where it has its own, or None."""
    if not memory or not memory["teacher"]:
        return None
    return lambda params: nest(leaves(params) | memory["teacher"])


def written(params, kept):
    """The parameters with those that follow from what objectives remember, {objective: its tree}."""
    found = {}
    for name, tree in kept.items():
        if OBJECTIVES[name].writes:
            found |= OBJECTIVES[name].writes(tree)
    return nest(leaves(params) | found) if found else params

"""Names of a checkpoint's arrays: the base model's, those of its heads, those of heads of other tasks; whether all fit."""

import re

import numpy as np

from xmodal_jax.errors import UserError
from xmodal_jax.interop.trees import get, leaves

OLD_NAMES = ((r"\.gamma$", ".weight"), (r"\.beta$", ".bias"))  # of normalisations, in checkpoints that began in TensorFlow
TASKS = {"classifier": ("ForSequenceClassification", "ForImageClassification")}  # other tasks have another head of that name


def known_names(found, family, entries, config):
    """-> ({name within the base model: Tensor}, names of heads of other tasks, whether the base model's names had a prefix).

    Old spellings are undone, and what holds nothing of its own is left out. Where the base model's names have a prefix, what
    has none belongs to a head.
    """
    renamed = {}
    for name, tensor in found.items():
        if not any(re.search(pattern, name) for pattern in family.ignored):
            for old, new in OLD_NAMES:
                name = re.sub(old, new, name)
            renamed[name] = tensor
    prefix = f"{family.prefix}."
    if not family.prefix or not any(name.startswith(prefix) for name in renamed):
        return renamed, (), False
    heads = {name for entry in entries if entry.group in family.heads and is_of(config, entry.group) for name in entry.names()}
    base = {name.removeprefix(prefix): tensor for name, tensor in renamed.items() if name.startswith(prefix)}
    own = {name: tensor for name, tensor in renamed.items() if name in heads}
    others = (name for name in renamed if not name.startswith(prefix) and name not in heads)
    return base | own, tuple(sorted(others)), True


def is_of(config, group):
    """Whether a head of this name is the one of ours, by the task that the config names."""
    task = (getattr(config, "architectures", None) or [""])[0]
    return group not in TASKS or "For" not in task or task.endswith(TASKS[group])


def check(folder, entries, shapes, found, grids, new=()):
    """Raise a UserError that lists every array that is missing, left over or of the wrong shape."""
    wrong, wanted = [], {name for entry in entries for name in entry.names()}
    wrong += [f"missing: {name}" for name in sorted(wanted - set(found))]
    wrong += [f"left over: {name} {list(found[name].shape)}" for name in sorted(set(found) - wanted)]
    for entry in entries:
        if entry.ours in grids:
            continue
        shape = get(shapes, entry.ours).shape
        for name, view in entry.parts(np.broadcast_to(np.zeros((), np.int8), shape)):
            if name in found and found[name].shape != (theirs := entry.layout.write(view).shape):
                wrong.append(f"wrong shape: {name} is {list(found[name].shape)}, the config asks for {list(theirs)}")
    uncovered = set(leaves(shapes)) - {entry.ours for entry in entries}
    uncovered = {path for path in uncovered if not any(re.search(pattern, path) for pattern in new)}
    wrong += [f"no name of the checkpoint's makes our {path}" for path in sorted(uncovered)]
    if wrong:
        raise UserError(f"The checkpoint in {folder} does not fit its config:\n  " + "\n  ".join(wrong))

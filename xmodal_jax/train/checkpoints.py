"""Checkpoints: state, the number of the next step (all that the data order needs), and what wrote them. Orbax, asynchronous."""

import dataclasses
import os

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec
from orbax.checkpoint.checkpoint_managers import preservation_policy

from xmodal_jax.errors import UserError

MEMORY = "memory"  # of objectives, an item of its own


class Checkpoints:
    """`save` returns at once, `restore` takes the newest readable checkpoint, `close` waits until all is on disk."""

    def __init__(self, folder, keep=2, asynchronous=True):
        self.folder = os.path.abspath(folder)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=preservation_policy.LatestN(max(1, keep)),
            enable_async_checkpointing=asynchronous,
            create=True,
        )
        self.manager = ocp.CheckpointManager(self.folder, options=options, item_names=("state", "meta", MEMORY))

    def save(self, step, state, meta):
        """Write `state` (a pytree of arrays) and `meta` (JSON values) as the checkpoint of `step`."""
        own, items = apart(state)
        saves = {name: ocp.args.StandardSave(filled(tree)) for name, tree in items.items()}
        args = ocp.args.Composite(state=ocp.args.StandardSave(filled(own)), meta=ocp.args.JsonSave(meta), **saves)
        self.manager.save(step, args=args, force=True)

    def restore(self, target, step=None):
        """(state, meta) of `step` or of the newest readable checkpoint; None where there is none at all.

        Args:
          target: tree of ShapeDtypeStructs with shardings (any topology), which says where the arrays go.
        A checkpoint that cannot be read is set aside as `broken-STEP` with a warning, and the one before it is used.
        """
        steps = sorted(self.manager.all_steps(), reverse=True) if step is None else [step]
        if not steps:
            return None
        for number in steps:
            shapes, items = apart(target)
            reads = {name: ocp.args.StandardRestore(filled(tree)) for name, tree in items.items()}
            args = ocp.args.Composite(state=ocp.args.StandardRestore(filled(shapes)), meta=ocp.args.JsonRestore(), **reads)
            try:
                restored = self.manager.restore(number, args=args)
                jax.block_until_ready(restored.state)
                found = {name: emptied(restored[name], tree) for name, tree in items.items()}
                return together(emptied(restored.state, shapes), found, target), restored.meta
            except Exception as error:  # orbax and tensorstore raise many kinds for a damaged file
                if step is not None:
                    raise UserError(f"The checkpoint of step {step} in {self.folder} cannot be read: {brief(error)}") from error
                logging.warning("The checkpoint of step %d cannot be read (%s): trying the one before.", number, brief(error))
                self._set_aside(number)
        raise UserError(
            f"No checkpoint in {self.folder} can be read (tried {', '.join(map(str, steps))}; they are kept as broken-STEP). "
            "Was it written by another config or version? Give a new --workdir to start afresh."
        )

    def _set_aside(self, step):
        place = os.path.join(self.folder, str(step))
        if jax.process_index() == 0 and os.path.isdir(place):
            os.replace(place, os.path.join(os.path.dirname(self.folder), f"broken-{step}"))
        multihost_utils.sync_global_devices(f"step {step} set aside")
        self.manager.reload()

    def close(self):
        self.manager.wait_until_finished()
        self.manager.close()


def read(folder, target, step=None):
    """(parts of the state, meta) of `step` or of the newest readable checkpoint in a folder; None where there is none.

    Args:
      target: {field of the state: tree of ShapeDtypeStructs with shardings}: nothing else is read. Nothing is written.
    """
    steps = sorted(ocp.utils.checkpoint_steps(folder), reverse=True) if os.path.isdir(folder) else []
    stored = filled(target)
    arrays = ocp.args.PyTreeRestore(stored, ocp.checkpoint_utils.construct_restore_args(stored), partial_restore=True)
    for number in steps if step is None else [step]:
        place = os.path.join(os.path.abspath(folder), str(number))
        try:
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
                state = reader.restore(os.path.join(place, "state"), args=arrays)
            with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
                meta = reader.restore(os.path.join(place, "meta"))
            return jax.block_until_ready(emptied(state, target)), meta
        except Exception as error:  # orbax and tensorstore raise many kinds for a damaged file
            if step is not None or number == steps[-1]:
                raise UserError(
                    f"The checkpoint of step {number} in {folder} cannot be read: {brief(error)}. There are those of steps "
                    f"{', '.join(map(str, steps))}. Was it written by another config or version?"
                ) from error
            logging.warning("The checkpoint of step %d cannot be read (%s): trying the one before.", number, brief(error))
    return None


def apart(state):
    """(what every checkpoint holds, {item: tree} of what only some runs have): older checkpoints stay readable."""
    if not hasattr(state, MEMORY):
        return state, {}
    own = {field.name: getattr(state, field.name) for field in dataclasses.fields(state) if field.name != MEMORY}
    return own, {} if state.memory is None else {MEMORY: state.memory}


def together(own, items, like):
    """The inverse, in the form of `like`."""
    return like.replace(**own, **items) if hasattr(like, MEMORY) else own


def filled(tree):
    """A tree of arrays or shapes with one 0 for every array without elements, which orbax does not take."""

    def fill(leaf):
        if leaf.size:
            return leaf
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return np.zeros(1, leaf.dtype)
        place = leaf.sharding
        return jax.ShapeDtypeStruct((1,), leaf.dtype, sharding=place and NamedSharding(place.mesh, PartitionSpec()))

    return jax.tree.map(fill, tree)


def emptied(tree, target):
    """The inverse, of what was restored for a tree of shapes."""
    return jax.tree.map(lambda shape, leaf: leaf if shape.size else jnp.zeros(shape.shape, shape.dtype), target, tree)


def brief(error):
    """First line of an error, at most 200 characters."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"

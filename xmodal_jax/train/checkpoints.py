"""Checkpoints: state, the number of the next step (all that the data order needs), and what wrote them. Orbax, asynchronous.

Reading one has one of four ends. It is right; it is DAMAGED, which checksums or its form prove: a run sets it aside and goes on
from the one before; it does not MATCH, its arrays are not those of this model: nothing is touched; or something PASSING, a disk
or the memory, is in the way: after a few tries the command ends, and nothing is touched either.
"""

import dataclasses
import functools
import glob
import os
import time

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from jax.sharding import NamedSharding, PartitionSpec
from orbax.checkpoint.checkpoint_managers import preservation_policy

from xmodal_jax.errors import UserError
from xmodal_jax.train import checksums, peers
from xmodal_jax.train.checksums import Damaged
from xmodal_jax.train.mesh import path_of

MEMORY = "memory"  # of objectives, an item of its own
RIGHT, PASSING, MISMATCH, DAMAGED = range(4)  # how an attempt ended; of several processes the highest counts
PAUSES = (0, 1, 3)  # seconds before each try


class Mismatch(Exception):
    """A checkpoint's arrays are others than those asked for."""


class Checkpoints:
    """`save` returns at once, `restore` takes the newest good checkpoint, `close` waits until all is on disk."""

    def __init__(self, folder, keep=2, asynchronous=True):
        self.folder, self.asynchronous, self.saving = os.path.abspath(folder), asynchronous, None
        options = ocp.CheckpointManagerOptions(
            preservation_policy=preservation_policy.LatestN(max(1, keep)),
            async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
            create=True,
        )
        self.manager = ocp.CheckpointManager(self.folder, options=options, item_names=("state", "meta", MEMORY))

    def save(self, step, state, meta):
        """Write `state` (a pytree of arrays) and `meta` (JSON values) as the checkpoint of `step`."""
        own, items = apart(state)
        saves = {name: ocp.args.StandardSave(filled(tree)) for name, tree in items.items()}
        args = ocp.args.Composite(state=ocp.args.StandardSave(filled(own)), meta=ocp.args.JsonSave(meta), **saves)
        self.manager.wait_until_finished()
        self.saving = step
        self.manager.save(step, args=args, force=True)
        if not self.asynchronous:
            self.manager.wait_until_finished()

    def _seal(self):
        """The first process adds checksums to what all have written, before it takes its name."""
        for place in glob.glob(os.path.join(glob.escape(self.folder), f"{self.saving}.orbax-checkpoint-tmp*")):
            checksums.write(place)

    def steps(self):
        """Steps of the checkpoints there are, as the first process sees them, the newest first."""
        return peers.first_says("listing the checkpoints", lambda: steps_of(self.folder))

    def restore(self, target, step=None):
        """(state, meta) of `step` or of the newest good checkpoint; None where there is none at all.

        Args:
          target: tree of ShapeDtypeStructs with shardings (any topology), which says where the arrays go.
        Every process calls this, and all come to the same end. A checkpoint that is proved to be damaged is set aside as
        `broken-STEP` with a warning, and the one before it is used. Raises UserError where all are damaged, where one does
        not match, and where one cannot be read for another reason; then nothing was moved.
        """
        shapes, items = apart(target)
        reads = {"state": shapes, **items}
        steps = self.steps() if step is None else [step]
        for number in steps:
            end, found, message = attempt(os.path.join(self.folder, str(number)), functools.partial(stored, reads))
            if end == RIGHT:
                trees, meta = found
                own = trees.pop("state")
                return together(own, trees, target), meta
            if end != DAMAGED or step is not None:
                raise UserError(refused(number, self.folder, end, message)) from cause(found)
            name = peers.first_says(f"setting the checkpoint of step {number} aside", lambda: self._set_aside(number))  # noqa: B023
            logging.warning(
                "The checkpoint of step %d is damaged (%s): it is kept as %s, trying the one before.", number, message, name
            )
            self.manager.reload()
        if broken := peers.first_says("listing damaged checkpoints", self._broken):
            raise UserError(
                f"All checkpoints of the run in {os.path.dirname(self.folder)} are damaged; they are kept as "
                f"{', '.join(broken)}. Nothing was begun anew: give a new --workdir to start afresh, or move these folders "
                "elsewhere, and the same command starts at step 0."
            )
        return None

    def _broken(self):
        return sorted(name for name in os.listdir(os.path.dirname(self.folder)) if name.startswith("broken-"))

    def _set_aside(self, step):
        taken, name, number = self._broken(), f"broken-{step}", 1
        while name in taken:
            number += 1
            name = f"broken-{step}-{number}"
        os.replace(os.path.join(self.folder, str(step)), os.path.join(os.path.dirname(self.folder), name))
        return name

    def check(self):
        """Raise what went wrong in writing the last checkpoint, if anything did."""
        self.manager.check_for_errors()

    def close(self):
        self.manager.wait_until_finished()
        self.manager.close()


def read(folder, target, step=None):
    """(parts of the state, meta) of `step` or of the newest good checkpoint in a folder; None where there is none.

    Args:
      target: {field of the state: tree of ShapeDtypeStructs with shardings}: nothing else is read. Nothing is written.
    Raises UserError as `Checkpoints.restore`; of a damaged one the one before is taken, with a warning.
    """
    folder = os.path.abspath(folder)
    steps = steps_of(folder)
    if not steps:
        return None
    if step is not None and step not in steps:
        known = ", ".join(map(str, steps))
        raise UserError(f"There is no checkpoint of step {step} in {folder}: there are those of steps {known}.")
    for number in steps if step is None else [step]:
        end, found, message = attempt(os.path.join(folder, str(number)), functools.partial(fields, target))
        if end == RIGHT:
            return found
        if end != DAMAGED or step is not None or number == steps[-1]:
            raise UserError(refused(number, folder, end, message, steps)) from cause(found)
        logging.warning("The checkpoint of step %d is damaged (%s): trying the one before.", number, message)


def steps_of(folder):
    """Steps of the whole checkpoints in a folder, the newest first."""
    return sorted(ocp.utils.checkpoint_steps(folder), reverse=True) if os.path.isdir(folder) else []


def refused(step, folder, end, message, steps=()):
    """The paragraph for a checkpoint that cannot be used."""
    if end == MISMATCH:
        return (
            f"The checkpoint of step {step} in {folder} is not of this model: {message}. It is left as it is. Was it written "
            "by another config or version, or has the data changed from which a vocabulary was learned? Give a new "
            "--workdir to start afresh."
        )
    others = f" There are those of steps {', '.join(map(str, steps))}." if steps else ""
    if end == DAMAGED:
        return f"The checkpoint of step {step} in {folder} cannot be read, it is damaged: {message}.{others}"
    return (
        f"The checkpoint of step {step} in {folder} cannot be read now: {message}. Nothing shows that it is damaged, and it is "
        f"left as it is, as all others are: look at the disk and at the memory that is free, and start the same command "
        f"again.{others}"
    )


def cause(found):
    """The error of this process, where it had one."""
    return found if isinstance(found, Exception) else None


def attempt(place, reading):
    """(how it ended, reading(place) or this process' error, what is wrong), the same end in all processes.

    Each process verifies its share of the files, so that together they read each of them once more.
    """
    end, found, message = tried(place, reading)
    ends = peers.gathered(f"reading {place}", [end, message])
    worst = max(ends, key=lambda one: one[0])
    if worst[0] != RIGHT and len(ends) > 1:
        worst = worst[0], f"process {ends.index(worst)}: {worst[1]}"
    return worst[0], found, worst[1]


def tried(place, reading):
    """The same in one process."""
    for pause in PAUSES:
        time.sleep(pause)
        sealed = False
        try:
            sealed = checksums.verify(place, jax.process_index(), jax.process_count())
            if not sealed and os.path.isdir(place):
                logging.log_first_n(logging.WARNING, "%s carries no checksums: whether it is damaged is not known.", 1, place)
            return RIGHT, reading(place), ""
        except Damaged as error:
            return DAMAGED, error, str(error)
        except Mismatch as error:
            return MISMATCH, error, str(error)
        except Exception as error:  # orbax and tensorstore raise many kinds
            if not sealed and not is_passing(error):
                return DAMAGED, error, brief(error)
            last = error
            logging.warning("%s cannot be read: %s", place, brief(error))
    return PASSING, last, brief(last)


def is_passing(error):
    """Whether an error tells of the machine rather than of the file. Damage to files without checksums is told by the rest."""
    signs = ("RESOURCE_EXHAUSTED", "bad_alloc", "allocate", "memory", "OS error", "Input/output error", "PERMISSION_DENIED")
    return isinstance(error, OSError | MemoryError) or any(sign in str(error) for sign in signs)


def stored(targets, place):
    """({item: tree} as `targets` {item: tree of ShapeDtypeStructs}, meta) of the checkpoint in a folder."""
    found = {}
    for name, shapes in targets.items():
        item, handler = epath.Path(place) / name, ocp.StandardCheckpointHandler()
        compare(written(item, handler), filled(shapes))
        found[name] = handler.restore(item, args=ocp.args.StandardRestore(filled(shapes)))
    jax.block_until_ready(found)
    return {name: emptied(found[name], shapes) for name, shapes in targets.items()}, meta_of(place)


def fields(target, place):
    """(fields of the state as `target`, meta) of the checkpoint in a folder."""
    shapes, item = filled(target), epath.Path(place) / "state"
    there = written(item, ocp.PyTreeCheckpointHandler())
    compare({name: there[name] for name in target if name in there}, shapes)
    arrays = ocp.args.PyTreeRestore(shapes, ocp.checkpoint_utils.construct_restore_args(shapes), partial_restore=True)
    found = ocp.PyTreeCheckpointHandler().restore(item, args=arrays)
    return jax.block_until_ready(emptied(found, target)), meta_of(place)


def meta_of(place):
    return ocp.JsonCheckpointHandler().restore(epath.Path(place) / "meta", args=ocp.args.JsonRestore())


def written(item, handler):
    """Tree of what an item of a checkpoint holds: leaves with shape and dtype."""
    found = handler.metadata(item)
    return getattr(found, "tree", found)


def compare(there, here):
    """Raise Mismatch where two trees differ in their paths, shapes or types."""
    there, here = ({path_of(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)} for tree in (there, here))
    different = [f"{path} is missing in it" for path in sorted(set(here) - set(there))]
    different += [f"{path} is more than this model has" for path in sorted(set(there) - set(here))]
    for path in sorted(set(here) & set(there)):
        (old, new) = ((tuple(leaf.shape), np.dtype(leaf.dtype)) for leaf in (there[path], here[path]))
        if old != new:
            different.append(f"{path} is {old[1]} {list(old[0])} there, {new[1]} {list(new[0])} here")
    if different:
        more = f" and {len(different) - 4} more" if len(different) > 4 else ""
        raise Mismatch("; ".join(different[:4]) + more)


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

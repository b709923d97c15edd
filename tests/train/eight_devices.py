"""Run by tests in a process that simulates eight devices: trains what a test module's `small_config` makes on several of its
`MESHES`, prints one JSON line."""

import gc
import importlib
import json
import sys

import jax
import numpy as np

from xmodal_jax.systems import recipe
from xmodal_jax.train import mesh as layout
from xmodal_jax.train import program
from xmodal_jax.train.checkpoints import Checkpoints


def train(config, sizes, devices, steps):
    """-> state after so many steps, its shapes, [{metric: value} per step], bytes of matrices and their moments per device."""
    parts = recipe.make(config)
    mesh = layout.make_mesh(sizes, devices)
    with jax.set_mesh(mesh):
        make_state, shapes = program.state_maker(parts, mesh)
        step = program.lower_step(parts, mesh, shapes).compile()
        state, sharding, history = make_state(), layout.batch_sharding(mesh), []
        matrices = [
            leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state) if layout.path_of(path).endswith("kernel")
        ]
        held = sum(leaf.addressable_shards[0].data.nbytes for leaf in matrices)
        for number in range(steps):
            batch = {k: jax.device_put(v, sharding(v.ndim)) for k, v in parts.batches[number].items()}
            state, values = step(state, batch)
            history.append({name: float(value) for name, value in values.items()})
    return state, shapes, history, held


def main(arguments):
    asking = importlib.import_module(arguments["of"])
    MESHES, small_config = asking.MESHES, asking.small_config
    out, states, targets, folder, steps = {}, {}, {}, arguments["folder"], arguments["steps"]
    devices = jax.devices()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)  # as in conftest.py
    for name in arguments["meshes"]:
        sizes, count, changes = MESHES[name]
        config = small_config()
        config.update_from_flattened_dict(changes)
        state, shapes, history, held = train(config, sizes, devices[:count], steps)
        saved = Checkpoints(f"{folder}/{name}", asynchronous=False)
        saved.save(steps, state, {"next_step": steps})
        saved.close()
        out[name] = {"history": history, "bytes": held, "restored": {}}
        states[name], targets[str(changes), name] = jax.device_get(state), shapes  # tracing the state takes long
    for name, whole in states.items():
        changes, config = MESHES[name][2], small_config()
        config.update_from_flattened_dict(changes)
        for other in arguments["restore_on"]:
            sizes, count, _ = MESHES[other]
            mesh, key = layout.make_mesh(sizes, devices[:count]), (str(changes), other)
            with jax.set_mesh(mesh):
                if key not in targets:
                    _, targets[key] = program.state_maker(recipe.make(config), mesh)
                target = targets[key]
                checkpoints = Checkpoints(f"{folder}/{name}", asynchronous=False)
                restored, meta = checkpoints.restore(target)
                checkpoints.close()
            exact = jax.tree.map(lambda a, b: np.array_equal(a, np.asarray(b)), whole, restored)
            placed = jax.tree.map(lambda leaf, wanted: leaf.sharding == wanted.sharding, restored, target)
            out[name]["restored"][other] = all(jax.tree.leaves((exact, placed))) and meta["next_step"] == steps
    print(json.dumps(out))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

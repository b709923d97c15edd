"""Run by test_compress_eight.py in a process that simulates eight devices: Algorithm 1 on several meshes, one JSON line."""

import json

import jax

from tests.test_compress_run import small
from xmodal_jax.systems import recipe
from xmodal_jax.train import mesh as layout
from xmodal_jax.train import program


def losses(sizes, count, accumulate):
    """[{metric: value}] of every step, through all stages."""
    config = small()
    config.batch_size, config.accumulate = 8, accumulate
    parts = recipe.make(config)
    mesh, out = layout.make_mesh(sizes, jax.devices()[:count]), []
    with jax.set_mesh(mesh):
        make_state, shapes = program.state_maker(parts, mesh)
        step, *_ = program.compile_step(parts, mesh, shapes)
        state, sharding = make_state(), layout.batch_sharding(mesh)
        for number in range(config.total_steps):
            batch = {name: jax.device_put(value, sharding(value.ndim)) for name, value in parts.batches[number].items()}
            state, values = step(state, batch, number)
            out.append({name: float(value) for name, value in values.items()})
    return out


if __name__ == "__main__":
    cases = {"one": ({}, 1, 1), "data x fsdp": ({"data": 4, "fsdp": 2}, 8, 1), "accumulated": ({"fsdp": 8}, 8, 2)}
    print(json.dumps({name: losses(*case) for name, case in cases.items()}))

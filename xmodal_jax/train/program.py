"""The program of a run: the training step of a recipe on a mesh, lowered and compiled, and its arithmetic."""

import time

import jax
from absl import logging

from xmodal_jax.models.flops import count_flops
from xmodal_jax.train import mesh as layout
from xmodal_jax.train import progress
from xmodal_jax.train.gradient import evaluate_objectives
from xmodal_jax.train.step import init_state, make_step

# Eigen for products of training steps: 0 to 17 % faster for some models, up to 15 % slower for others (docs/results.md).
COMPILER_OPTIONS = {"cpu": {"xla_cpu_experimental_ynn_fusion_type": ""}}


def state_maker(parts, mesh):
    """-> (function that makes a fresh state laid out over `mesh`; its ShapeDtypeStructs, which carry their shardings)."""
    batch = parts.example_batch(1)  # parameters do not depend on the rows

    @jax.jit  # so that it is traced once, for the shapes and for the state
    def fresh():
        return init_state(
            parts.model, parts.optimizer, batch, parts.config.seed, parts.config.ema, parts.extended, parts.objectives
        )

    shapes = jax.eval_shape(fresh)
    shardings = layout.shardings(shapes, mesh)
    shapes = jax.tree.map(lambda s, place: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place), shapes, shardings)
    fresh = jax.jit(fresh, out_shardings=shardings)
    return lambda: parts.started(fresh()), shapes


def batch_shapes(parts, mesh):
    """ShapeDtypeStructs of a global batch, with shardings."""
    sharding = layout.batch_sharding(mesh)
    return {
        name: jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=sharding(value.ndim))
        for name, value in parts.example_batch(parts.config.batch_size).items()
    }


def lower_step(parts, mesh, shapes, stage=0):
    """Trace and lower the training step for `mesh`, whose devices need not be here. Call within `jax.set_mesh(mesh)`.

    stage: number of the stage whose step it is.
    """
    config = parts.config
    step = make_step(
        parts.model, parts.objectives, parts.optimizer, parts.schedule, config.accumulate, config.ema, parts.frozen,
        parts.stages.stages[stage],
    )  # fmt: skip
    shardings = jax.tree.map(lambda leaf: leaf.sharding, shapes)
    return jax.jit(step, donate_argnums=0, out_shardings=(shardings, None)).lower(shapes, batch_shapes(parts, mesh))


def step_flops(parts, shapes):
    """Floating-point operations of one step on a global batch: three times those of the forward pass, remat not counted."""

    def forward(params, batch):
        key = jax.random.PRNGKey(0)
        return evaluate_objectives(parts.model, parts.objectives, parts.used(params), batch, key, train=False)

    return 3 * count_flops(forward, shapes.params, parts.example_batch(parts.config.batch_size))


def compile_step(parts, mesh, shapes):
    """Compile the step of every stage ahead of time, so that it cannot recompile, and print what it is.

    -> (step(state, batch, number), its FLOPs, facts for the report: parameters, FLOPs, compile time, memory, devices; numbers
    for `progress.write_costs`).
    """
    for line in progress.parameter_table(shapes.params):
        logging.info("%s", line)
    start = time.monotonic()
    options = COMPILER_OPTIONS.get(mesh.devices.flat[0].platform)
    compiled = []
    for number, stage in enumerate(parts.stages.stages):
        begin = time.monotonic()
        compiled.append(lower_step(parts, mesh, shapes, number).compile(compiler_options=options))
        memory = progress.memory_line(compiled[-1])
        logging.info("compiled the %s step in %.1f s; %s", stage.name, time.monotonic() - begin, memory)
    seconds = time.monotonic() - start

    def step(state, batch, number=0):
        return compiled[parts.stages.at(number)](state, batch)

    flops = step_flops(parts, shapes)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes.params))
    facts = {
        "parameters": f"{parameters:,}",
        "FLOPs per example": f"{flops / parts.config.batch_size:.3g} (forward and backward)",
        "compile time": f"{seconds:.1f} s",
        "memory": memory,
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}, {jax.process_count()} process(es)",
    }
    numbers = {
        "parameters": parameters,
        "flops_per_example": flops / parts.config.batch_size,
        "memory_bytes": progress.memory_of(compiled[-1]),
    }
    return step, flops, facts, numbers

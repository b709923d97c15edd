"""The training step: a pure function (state, batch) -> (state, metrics), jitted once with explicit shardings."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from xmodal_jax.train import memory
from xmodal_jax.train.by_path import without_frozen
from xmodal_jax.train.gradient import learned
from xmodal_jax.train.stages import Stage


@flax.struct.dataclass
class State:
    """All that a run needs to go on: step [], params, optimiser state, EMA of params (or None), key, bad_step [], memory.

    memory: what objectives remember (`train.memory`), or None.
    bad_step is -1, or the first step whose loss or gradient was not finite: from there on nothing else changes.
    """

    step: Any
    params: Any
    opt_state: Any
    ema: Any
    key: Any
    bad_step: Any
    memory: Any = None


def averaged(state):
    """The parameters to use: their moving average where the run keeps one."""
    return state.ema if state.ema is not None else state.params


def init_params(model, batch, key, extend=None):
    """Fresh parameters. extend: (key, params) -> params with what is trained beside the model's own: adapters, ..."""
    params = model.init(key, batch)["params"]
    return extend(jax.random.fold_in(key, 1), params) if extend else params


def init_state(model, optimizer, batch, seed, ema, extend=None, objectives=None):
    """A fresh state; jit it with out_shardings so that no device ever holds more than its part."""
    key, init_key = jax.random.split(jax.random.PRNGKey(seed))
    params = init_params(model, batch, init_key, extend)
    copy = jax.tree.map(jnp.copy, params) if ema else None
    remembered = memory.fresh(model, objectives or {}, params, batch)
    return State(jnp.int32(0), params, optimizer.init(params), copy, key, jnp.int32(-1), remembered)


def make_step(model, objectives, optimizer, schedule, accumulate=1, ema=0.0, freeze=(), stage=Stage()):
    """-> step(state, batch) -> (state, {metric: float32 []}), of one stage. Jit with the state donated."""
    objectives, optimizer = stage.of(objectives), optax.with_extra_args_support(optimizer)

    def step(state, batch):
        key = jax.random.fold_in(state.key, state.step)
        recalled = memory.followed(state.memory, state.params, state.step, objectives)
        total, (losses, metrics), grads, kept = learned(
            model, objectives, state.params, batch, key, accumulate, state.step, stage.view,
            stage.teacher or memory.teacher_of(recalled), recalled and recalled["of"],
        )  # fmt: skip
        if stage.penalty:
            (penalty, penalties), more = jax.value_and_grad(stage.penalty, has_aux=True)(state.params)
            total, grads = total + penalty, jax.tree.map(jnp.add, grads, more)
        grads = without_frozen(grads, (*freeze, *stage.freeze))
        norm = optax.global_norm(grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params, **dict(stage.arguments))
        updates = without_frozen(updates, stage.freeze)
        params = optax.apply_updates(state.params, updates)
        params = stage.after(params, state.step) if stage.after else params
        params = memory.written(params, kept)
        average = jax.tree.map(lambda e, p: ema * e + (1 - ema) * p, state.ema, params) if state.ema is not None else None
        finite = jnp.isfinite(total) & jnp.isfinite(norm)
        bad_step = jnp.where(finite | (state.bad_step >= 0), state.bad_step, state.step)
        recalled = recalled and recalled | {"of": recalled["of"] | kept}
        new = State(state.step + 1, params, opt_state, average, state.key, bad_step, recalled)
        new = jax.tree.map(lambda old, new: jnp.where(bad_step < 0, new, old), state, new).replace(bad_step=bad_step)
        report = {"loss": total, "gradient_norm": norm, "learning_rate": schedule(state.step), "bad_step": bad_step}
        report |= {name: value.mean() for name, value in (losses | metrics).items()} | (penalties if stage.penalty else {})
        return new, report

    return step

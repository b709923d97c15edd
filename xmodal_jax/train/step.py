"""The training step: a pure function (state, batch) -> (state, metrics), jitted once with explicit shardings."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from xmodal_jax.models.verbs import Verbs
from xmodal_jax.objectives import OBJECTIVES


@flax.struct.dataclass
class State:
    """All that a run needs to go on: step [], params, optimiser state, EMA of params (or None), key, bad_step [].

    bad_step is -1, or the first step whose loss or gradient was not finite: from there on nothing else changes.
    """

    step: Any
    params: Any
    opt_state: Any
    ema: Any
    key: Any
    bad_step: Any


def init_state(model, optimizer, batch, seed, ema):
    """A fresh state; jit it with out_shardings so that no device ever holds more than its part."""
    key, init_key = jax.random.split(jax.random.PRNGKey(seed))
    params = model.init(init_key, batch)["params"]
    copy = jax.tree.map(jnp.copy, params) if ema else None
    return State(jnp.int32(0), params, optimizer.init(params), copy, key, jnp.int32(-1))


def evaluate_objectives(model, objectives, params, batch, key, train):
    """-> {objective: loss Sum}, {metric: Sum}; what the objectives compute in common is computed once."""
    verbs = Verbs(model, params, key, train)
    losses, metrics = {}, {}
    for number, (name, settings) in enumerate(objectives.items()):
        if settings.get("weight", 1.0):
            losses[name], more = OBJECTIVES[name].loss(verbs, batch, jax.random.fold_in(key, 1000 + number), settings)
            metrics |= more
    return losses, metrics


def split_batch(batch, parts):
    """[B, ...] -> [parts, B / parts, ...], every part spread over all devices."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1), batch)


def loss_and_gradient(model, objectives, params, batch, key, accumulate):
    """Gradient of sum_o weight_o * mean loss_o over the whole batch, exact for any number of microbatches.

    Means are taken over the whole batch: the weights (target bytes) of all microbatches are added up first, which costs
    nothing, since they depend on the batch alone and the compiler drops the rest of that pass.
    """
    weights = {name: settings.get("weight", 1.0) for name, settings in objectives.items()}

    def scaled(params, batch, key, totals):
        losses, metrics = evaluate_objectives(model, objectives, params, batch, key, train=True)
        totals = totals or {name: loss.weight for name, loss in losses.items()}
        total = sum(weights[name] * loss.total / jnp.maximum(totals[name], 1e-8) for name, loss in losses.items())
        return total, (losses, metrics)

    gradient = jax.value_and_grad(scaled, has_aux=True)
    if accumulate == 1:
        (total, sums), grads = gradient(params, batch, key, None)
        return total, sums, grads
    parts = split_batch(batch, accumulate)
    counts = jax.vmap(lambda part: {n: s.weight for n, s in scaled(params, part, key, None)[1][0].items()})(parts)
    totals = jax.tree.map(lambda count: count.sum(0), counts)

    def add(carry, part):
        batch, number = part
        (total, sums), grads = gradient(params, batch, jax.random.fold_in(key, number), totals)
        return jax.tree.map(jnp.add, carry, (total, sums, grads)), None

    first = jax.tree.map(lambda x: x[0], parts)
    (total, sums), grads = jax.eval_shape(gradient, params, first, key, totals)
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), (total, sums, grads))
    (total, sums, grads), _ = jax.lax.scan(add, zeros, (parts, jnp.arange(accumulate)))
    return total, sums, grads


def make_step(model, objectives, optimizer, schedule, accumulate=1, ema=0.0):
    """-> step(state, batch) -> (state, {metric: float32 []}). Jit with the state donated."""

    def step(state, batch):
        key = jax.random.fold_in(state.key, state.step)
        total, (losses, metrics), grads = loss_and_gradient(model, objectives, state.params, batch, key, accumulate)
        norm = optax.global_norm(grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        average = jax.tree.map(lambda e, p: ema * e + (1 - ema) * p, state.ema, params) if state.ema is not None else None
        finite = jnp.isfinite(total) & jnp.isfinite(norm)
        bad_step = jnp.where(finite | (state.bad_step >= 0), state.bad_step, state.step)
        new = State(state.step + 1, params, opt_state, average, state.key, bad_step)
        new = jax.tree.map(lambda old, new: jnp.where(bad_step < 0, new, old), state, new).replace(bad_step=bad_step)
        report = {"loss": total, "gradient_norm": norm, "learning_rate": schedule(state.step), "bad_step": bad_step}
        report |= {name: value.mean() for name, value in (losses | metrics).items()}
        return new, report

    return step

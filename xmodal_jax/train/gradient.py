"""The gradient of all objectives on one global batch, at once or in microbatches: the same number either way."""

import jax
import jax.numpy as jnp

from xmodal_jax.models.verbs import Verbs
from xmodal_jax.objectives import OBJECTIVES
from xmodal_jax.objectives.chosen import Chosen, taken


def evaluate_objectives(model, objectives, params, batch, key, train):
    """-> {objective: loss Sum}, {metric: Sum}; what the objectives compute in common is computed once."""
    return evaluate_with(Verbs(model, params, key, train), active(objectives), batch, key)


def active(objectives):
    """The objectives with a weight above 0."""
    return {name: settings for name, settings in objectives.items() if settings.get("weight", 1.0)}


def evaluate_with(verbs, objectives, batch, key, chosen=None):
    """chosen: {objective: the rows that it chose from the whole batch, of which this is a part}."""
    losses, metrics = {}, {}
    for number, (name, settings) in enumerate(objectives.items()):
        own = jax.random.fold_in(key, 1000 + number)
        if chosen and name in chosen:
            losses[name], more = OBJECTIVES[name].loss(verbs, batch, own, settings, chosen[name])
        else:
            losses[name], more = OBJECTIVES[name](verbs, batch, own, settings)
        metrics |= more
    return losses, metrics


def weighted_mean(objectives, losses, totals=None, step=None):
    """sum_o weight_o * total_o / weight of the whole batch. A setting `warmup` raises weight_o from 0 over so many steps."""
    totals = totals or {name: loss.weight for name, loss in losses.items()}

    def weight(settings):
        warmup = settings.get("warmup", 0) if step is not None else 0
        return settings.get("weight", 1.0) * (jnp.minimum(1.0, step / warmup) if warmup else 1.0)

    return sum(weight(objectives[name]) * loss.total / jnp.maximum(totals[name], 1e-8) for name, loss in losses.items())


def split_batch(batch, parts):
    """[B, ...] -> [parts, B / parts, ...], every part spread over all devices."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1), batch)


def join_batch(batch):
    """The inverse of `split_batch`: [parts, B / parts, ...] -> [B, ...]."""
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), batch)


def loss_and_gradient(*args, **kwargs):
    """The first three of `learned`."""
    return learned(*args, **kwargs)[:3]


def learned(model, objectives, params, batch, key, accumulate, step=None, view=None, teacher=None, memory=None):
    """Gradient of sum_o weight_o * mean loss_o over the whole batch -> (loss, ({objective: Sum}, {metric: Sum}), gradient,
    {objective: what it remembers from now on}).

    step: number of the training step, for objectives whose weight warms up. view: (params, key) -> the parameters that the
    model computes with, the same in all microbatches. teacher: params -> those of a teacher, for losses that have one. memory:
    {objective: what it remembers}.
    """
    objectives = active(objectives)

    view_key = jax.random.fold_in(key, 999)

    def verbs(params, key=key, train=True):
        seen = view(params, view_key) if view else params
        return Verbs(model, seen, key, train, teacher(params) if teacher else None, memory, step)

    if accumulate > 1:
        return accumulated(verbs, objectives, params, batch, key, accumulate, step)

    def loss(params):
        bound = verbs(params)
        losses, metrics = evaluate_with(bound, objectives, batch, key)
        return weighted_mean(objectives, losses, step=step), ((losses, metrics), bound.kept)

    (total, (sums, kept)), grads = jax.value_and_grad(loss, has_aux=True)(params)
    return total, sums, grads, kept


def accumulated(verbs_of, objectives, params, batch, key, accumulate, step=None):
    """The same in microbatches, exact for objectives of single rows and for those that compare the rows of a batch.

    verbs_of: (params, key, train) -> Verbs.

    Means are over the whole batch: the weights (target bytes) of all microbatches are added up first, which costs nothing,
    since they depend on the batch alone and the compiler drops the rest of that pass.

    Comparisons take two passes (Gao et al., 2021, "Scaling deep contrastive learning batch size under memory limited setup"):
    the first computes every row's representation and keeps nothing else; their loss and its gradient with respect to the
    representations are those of the whole batch; the second pass carries that gradient on to the parameters.
    """
    compared = {name: settings for name, settings in objectives.items() if OBJECTIVES[name].compare}
    summed = {name: settings for name, settings in objectives.items() if name not in compared}
    parts, numbers = split_batch(batch, accumulate), jnp.arange(accumulate)

    choosing = {name: settings for name, settings in summed.items() if OBJECTIVES[name].choose}

    def represent(verbs, part, objectives=compared):
        return {name: OBJECTIVES[name].represent(verbs, part, settings) for name, settings in objectives.items()}

    def first_pass(part):
        part, number = part
        return represent(verbs_of(params, jax.random.fold_in(key, number)), part, compared | choosing)

    def compare(params, representations):
        verbs, losses, metrics = verbs_of(params, None, train=False), {}, {}
        for name, settings in compared.items():
            losses[name], more = OBJECTIVES[name].compare(verbs, representations[name], settings)
            metrics |= more
        return jnp.asarray(weighted_mean(compared, losses, step=step), jnp.float32), ((losses, metrics), verbs.kept)

    representations = join_batch(jax.lax.map(first_pass, (parts, numbers)))
    chosen = {}
    for number, (name, settings) in enumerate(objectives.items()):
        if name in choosing:
            rows = OBJECTIVES[name].choose(representations.pop(name), jax.random.fold_in(key, 1000 + number), settings)
            chosen[name] = split_batch(taken(Chosen(rows), batch), accumulate)
    (total, (sums, kept)), (grads, pulls) = jax.value_and_grad(compare, (0, 1), has_aux=True)(params, representations)

    def weights(part, chosen):
        losses, _ = evaluate_with(verbs_of(params), summed, part, key, chosen)
        return {name: loss.weight for name, loss in losses.items()}

    totals = jax.tree.map(lambda count: count.sum(0), jax.vmap(weights)(parts, chosen))

    def second_pass(params, part, chosen, pull, number):
        part_key = jax.random.fold_in(key, number)
        verbs = verbs_of(params, part_key)
        rows = represent(verbs, part)  # before all else, as in the first pass: the same dropout
        losses, metrics = evaluate_with(verbs, summed, part, part_key, chosen)
        loss = jnp.asarray(weighted_mean(summed, losses, totals, step), jnp.float32)
        carried = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, pull, rows)))
        return loss + carried, (loss, losses, metrics)

    gradient = jax.value_and_grad(second_pass, has_aux=True)

    def add(carry, part):
        (_, values), grads = gradient(params, *part)
        return jax.tree.map(jnp.add, carry, (values, grads)), None

    parts = parts, chosen, split_batch(pulls, accumulate), numbers
    (_, values), _ = jax.eval_shape(gradient, params, *jax.tree.map(lambda x: x[0], parts))
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), values)
    ((loss, losses, metrics), grads), _ = jax.lax.scan(add, (zeros, grads), parts)
    return total + loss, (losses | sums[0], metrics | sums[1]), grads, kept

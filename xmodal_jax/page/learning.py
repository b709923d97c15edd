"""Corrections: a few steps of the search's own loss on photos that a user marked (US 12,386,873 B2, on-device learning).

    L = mean_{r, w} max(0, margin - s(q, r) + s(q, w)) + keep mean_i |v_i - v_i^0|^2
q: the query's vector, r and w: photos marked as right and as wrong; where one kind is missing, photos that were not marked
stand for it. v_i: photos that were not marked, whose vectors shall stay near what they were, v_i^0.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from xmodal_jax.errors import UserError

MARGIN, KEEP, STEPS, RATE = 0.2, 10.0, 20, 1e-4
REST = 32  # photos that shall stay


def corrected(model, text, right, wrong, rest, steps=STEPS, rate=RATE, keep=KEEP):
    """Parameters of a `VectorPredictor` after a few steps; model.params stay as they are.

    right, wrong, rest: lists of pictures; rest: photos that were not marked. UserError where there is nothing to compare.
    """
    right, wrong = list(right) or list(rest), list(wrong) or list(rest)
    if not (right and wrong):
        raise UserError("Mark at least one photo, and leave or mark another one: there is nothing to compare.")
    images = np.stack([model.as_example(picture) for picture in [*right, *wrong, *rest]])
    ids, length = (array[None] for array in model.maker.caption(text))
    return learn(model.model, len(right), len(wrong), steps, model.params, images, ids, length, rate, keep)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def learn(module, right, wrong, steps, params, images, ids, length, rate, keep):
    """`steps` of Adam on images uint8 [right + wrong + others, H, W, 3] and one text, ids [1, T], length [1]."""

    def vectors(params):
        return module.apply({"params": params}, images, method="encode_image").pooled

    def loss(params):
        q = module.apply({"params": params}, ids, length, method="encode_text").pooled[0]
        v = vectors(params)
        scores, others = v @ q, slice(right + wrong, None)
        ranked = jnp.maximum(0.0, MARGIN - scores[:right, None] + scores[None, right : right + wrong]).mean()
        moved = jnp.sum((v[others] - before[others]) ** 2, -1)
        return ranked + keep * moved.sum() / max(len(moved), 1)

    before, optimizer = jax.lax.stop_gradient(vectors(params)), optax.adam(rate)

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), None, length=steps)
    return params

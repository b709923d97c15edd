"""Corrections: a few steps of the search's own loss on photos that a user marked (US 12,386,873 B2, on-device learning).

    L = mean_{r, w} max(0, margin - s(q, r) + s(q, w)) + keep (mean_i |v_i - v_i^0|^2 + mean_j |u_j - u_j^0|^2)
q: the query's vector, r and w: photos marked as right and as wrong; where one kind is missing, photos that were not marked
stand for it. v_i: photos that were not marked, u_j: words of the vocabulary; their vectors shall stay near what they were.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from xmodal_jax.errors import UserError

MARGIN, KEEP, STEPS, RATE = 0.2, 10.0, 40, 1e-5
REST = 32  # photos, and words, that shall stay


def corrected(model, text, right, wrong, rest, steps=STEPS, rate=RATE, keep=KEEP):
    """Parameters of a `VectorPredictor` after a few steps; model.params stay as they are.

    right, wrong, rest: lists of pictures; rest: photos that were not marked. UserError where there is nothing to compare.
    """
    right, wrong = list(right) or list(rest), list(wrong) or list(rest)
    if not (right and wrong):
        raise UserError("Mark at least one photo, and leave or mark another one: there is nothing to compare.")
    images = np.stack([model.as_example(picture) for picture in [*right, *wrong, *rest]])
    ids, length = (np.stack(arrays) for arrays in zip(*map(model.maker.caption, [text, *words(model.maker)]), strict=True))
    return learn(model.model, len(right), len(wrong), steps, model.params, images, ids, length, rate, keep)


def words(maker):
    """REST words, always the same ones: such as tell pictures apart where the model knows them, else any."""
    known = sorted(maker.content) or range(maker.vocabulary)
    drawn = np.random.default_rng(0).permutation(known)[:REST]
    return [maker.tokenizer.decode([int(number)]) for number in drawn]


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def learn(module, right, wrong, steps, params, images, ids, length, rate, keep):
    """`steps` of Adam on images uint8 [right + wrong + others, H, W, 3] and texts, ids [1 + words, T], length [1 + words]."""

    def vectors(params):
        v = module.apply({"params": params}, images, method="encode_image").pooled
        return v, module.apply({"params": params}, ids, length, method="encode_text").pooled

    def loss(params):
        v, u = vectors(params)
        scores = v @ u[0]
        ranked = jnp.maximum(0.0, MARGIN - scores[:right, None] + scores[None, right : right + wrong]).mean()
        others = (v - before[0])[right + wrong :], (u - before[1])[1:]
        return ranked + keep * sum((moved**2).sum() / max(len(moved), 1) for moved in others)

    before, optimizer = jax.lax.stop_gradient(vectors(params)), optax.adam(rate)

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), None, length=steps)
    return params

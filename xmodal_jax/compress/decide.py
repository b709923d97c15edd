"""From logits to the structure that stays: 0 and 1, of a wanted size, and such that smaller products are really faster.

Letters: L layers, H heads, d width of a head, F hidden units.
"""

import functools

import jax
import jax.numpy as jnp

from xmodal_jax.compress.hypernetwork import BIAS
from xmodal_jax.compress.structure import PRUNED, constrained, fixed, kept

CLOSE = 0.002  # of the wanted share: nearer is near enough
REACH, HALVINGS = 12.0, 24  # of the search for a threshold


@functools.partial(jax.jit, static_argnames=("pair", "multiple", "prune", "share"))
def decided(logits, pair, p=None, multiple=0, prune=True, share=True):
    """A `constrained` structure of 0 and 1.

    Args:
      logits: a structure of them: what is at least -b is kept, and a layer's own.
      p: share of the weights that is wanted. Where that threshold misses it by more than 0.2 %, as rounding makes it, the
        nearest one that does not is taken.
      multiple: every head of a layer keeps the same number of q and k vectors, and a layer its hidden units, in multiples of
        this (0: ragged heads, any number). 8 suits CPUs, 128 the lanes of a TPU.
      prune, share: whether vectors may be pruned, and shared, at all.
    """

    def at(shift):
        raw = jax.tree.map(lambda logit: (logit + BIAS + shift >= 0).astype(jnp.float32), logits)
        made = fixed(raw, pair, prune, share)
        return rounded(made, logits, pair, multiple) if multiple and prune else made

    def distance(shift):
        return kept(at(shift), pair) / p - 1

    if p is None:
        return constrained(at(0.0), pair)

    def halve(_, state):
        low, high, best, nearest = state
        middle = (low + high) / 2
        found = distance(middle)
        best, nearest = jax.tree.map(
            lambda new, old: jnp.where(jnp.abs(found) < jnp.abs(nearest), new, old), (middle, found), (best, nearest)
        )
        return jnp.where(found < 0, middle, low), jnp.where(found < 0, high, middle), best, nearest

    asked = distance(0.0)
    start = jnp.float32(-REACH), jnp.float32(REACH), jnp.float32(0.0), asked
    best = jax.lax.fori_loop(0, HALVINGS, halve, start)[2]
    return constrained(at(jnp.where(jnp.abs(asked) <= CLOSE, 0.0, best)), pair)


def rounded(structure, logits, pair, multiple):
    """The structure with as many vectors for each head, in multiples; those that must stay stay, then the likeliest."""
    must = constrained(structure, pair)
    nothing = {name: {**kinds, "m": jax.tree.map(jnp.zeros_like, kinds["m"])} for name, kinds in structure.items()}
    forced = constrained(nothing, pair)  # shared, or used by others

    def tower(name):
        sizes, made = getattr(pair, name), {}
        for group in PRUNED:
            heads = sizes.heads if group == "qk" else 1
            split = [of[name]["m"][group].reshape(sizes.layers, heads, -1) for of in (must, forced, logits)]
            made[group] = topped(*split, multiple).reshape(sizes.layers, -1)
        return made

    return {name: {**structure[name], "m": tower(name)} for name in structure}


def topped(keep, forced, logits, multiple):
    """keep, forced, logits [L, H, n] -> [L, H, n] of 0 and 1, the same number in all heads of a layer, a multiple or all."""
    size = keep.shape[-1]
    wanted = jnp.round(keep.sum(-1).mean(-1) / multiple) * multiple
    least = jnp.ceil(forced.sum(-1).max(-1) / multiple) * multiple
    number = jnp.minimum(jnp.maximum(wanted, least), size)[:, None, None]
    order = jnp.argsort(jnp.argsort(-jnp.where(forced > 0, jnp.inf, logits), axis=-1), axis=-1)
    return (order < number).astype(keep.dtype)

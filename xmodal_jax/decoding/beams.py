"""Beam search, word by word: the semantics of `_beam_search` in transformers 5, the order of the n best included.

Letters: B examples, K beams, R = B K rows, S = P + T room for prompt and new words, V vocabulary, L layers.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xmodal_jax.decoding.logits import constrain, largest

NEVER = -1e9  # score of what is not there


class Beams(NamedTuple):
    """Texts that are being written, and those that have ended, the best first.

    Attributes:
      new: words written, int32 []; ids int32 [B, K, S]; scores float32 [B, K], sums of log p.
      parents: int32 [B, K], the beam whose row of the cache each goes on from. open: bool [B], whether the result can change.
      best, best_scores, ended: int32 [B, K, S], float32 and bool [B, K]: texts that have ended, where there are so many.
    """

    new: Any
    ids: Any
    scores: Any
    parents: Any
    open: Any
    best: Any
    best_scores: Any
    ended: Any


def start(ids):
    """Before the first new word; ids [B, K, S] with the prompt."""
    shape = ids.shape[:2]
    scores = jnp.full(shape, NEVER).at[:, 0].set(0)  # the beams are all alike: only one of them may go on
    nothing = ids, jnp.full(shape, NEVER), jnp.zeros(shape, bool)
    return Beams(jnp.int32(0), ids, scores, jnp.zeros(shape, jnp.int32), jnp.ones(len(ids), bool), *nothing)


def advance(now, logits, given, settings):
    """One more word: the K best continuations of an example's beams by any word; logits [R, V], `given` words of prompt."""
    count, beams = given + now.new, settings.beams
    logp = constrain(jax.nn.log_softmax(logits), now.ids.reshape(len(logits), -1), count, now.new, settings)
    totals = (now.scores.reshape(-1, 1) + logp).reshape(len(now.ids), -1)  # [B, K V]
    # twice as many as beams: at most one continuation of each beam is an end mark, so that K remain to go on with
    totals, places = largest(totals, 2 * beams)  # [B, 2 K]
    parents, words = jnp.divmod(places, logits.shape[1])
    ids = pick(now.ids, parents).at[..., count].set(words)  # [B, 2 K, S]
    ends = (words == settings.end) | (now.new + 1 == settings.length)

    scores, chosen = largest(jnp.where(ends, NEVER, totals), beams)
    divisors = np.arange(1, settings.length + 1, dtype=np.float64) ** settings.length_penalty
    divisor = jnp.asarray(divisors, jnp.float32)[now.new]
    # an end mark behind the first K does not count, nor one of a beam that does not exist, nor any once the example is done
    counts = ends & (jnp.arange(2 * beams) < beams) & (totals > NEVER / 2) & now.open[:, None]
    best_scores = jnp.concatenate([now.best_scores, jnp.where(counts, totals / divisor, NEVER)], axis=1)
    best_scores, kept = largest(best_scores, beams)
    best = pick(jnp.concatenate([now.best, ids], axis=1), kept)
    ended = pick(jnp.concatenate([now.ended, counts], axis=1), kept)

    improvable = ~ended.all(-1)
    if not settings.early_stopping:
        improvable |= scores[:, 0] / divisor > best_scores[:, -1]
    open_ = now.open & improvable
    return Beams(now.new + 1, pick(ids, chosen), scores, pick(parents, chosen), open_, best, best_scores, ended)


def pick(values, places):
    """values [B, M, ...] at places [B, N] -> [B, N, ...]."""
    return jax.vmap(lambda row, at: row[at])(values, places)


def reorder(cache, parents):
    """Rows of the cache [L, R, ...] for parents [B, K]; taken within each example, so that none leaves its device."""
    split = cache.reshape(cache.shape[0], *parents.shape, *cache.shape[2:])  # [L, B, K, ...]
    taken = jax.vmap(lambda rows, at: jnp.take(rows, at, axis=1, mode="clip"), (1, 0), 1)(split, parents)
    return taken.reshape(cache.shape)

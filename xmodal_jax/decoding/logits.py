"""What may be written next: pure functions on logits, each as the processor of that name in transformers' `generate`.

Letters: R rows, V vocabulary, S room for a text, whose first `count` ids (int32, traced) are written, the prompt included.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from xmodal_jax.models.platform import ROWS


def constrain(logits, ids, count, new, settings):
    """What holds for every kind of search: logits or log-probabilities [R, V], of texts ids [R, S] with `new` new words."""
    if settings.repetition_penalty != 1:
        logits = penalise_repetition(logits, ids, count, settings.repetition_penalty)
    if settings.no_repeat_ngram:
        logits = forbid_repeated_ngrams(logits, ids, count, settings.no_repeat_ngram)
    if settings.minimum:
        logits = forbid_early_end(logits, new, settings.minimum, settings.end)
    if settings.suppress:
        logits = suppress(logits, settings.suppress)
    return logits


def narrow(logits, settings):
    """The distribution to be sampled from: temperature, then the `top_k` likeliest, then the nucleus of those; [R, V]."""
    if settings.temperature != 1:
        logits = logits / settings.temperature
    if settings.top_k:
        logits = keep_likeliest(logits, settings.top_k)
    if settings.top_p < 1:
        logits = keep_nucleus(logits, settings.top_p)
    return logits


def penalise_repetition(logits, ids, count, penalty):
    """Words that were written: positive logits divided by `penalty`, negative ones multiplied (Keskar et al., 2019)."""
    written = mark(ids, jnp.arange(ids.shape[1]) < count, logits.shape[1])
    return jnp.where(written, jnp.where(logits < 0, logits * penalty, logits / penalty), logits)


def forbid_repeated_ngrams(logits, ids, count, n):
    """-inf for every word that would complete n words that the text has already (Paulus et al., 2018)."""
    starts = ids.shape[1] - n + 1
    if starts < 1:
        return logits
    last = jax.lax.dynamic_slice_in_dim(ids, count - n + 1, n - 1, axis=1)  # [R, n - 1], any where the text is shorter
    again = jnp.broadcast_to(jnp.arange(starts) + n <= count, (len(ids), starts))
    for offset in range(n - 1):
        again &= ids[:, offset : offset + starts] == last[:, offset, None]
    return jnp.where(mark(ids[:, n - 1 :], again, logits.shape[1]), -jnp.inf, logits)


def forbid_early_end(logits, new, minimum, end):
    """-inf for the end mark before `minimum` new words."""
    return jnp.where((jnp.arange(logits.shape[1]) == end) & (new < minimum), -jnp.inf, logits)


def suppress(logits, never):
    """-inf for the ids `never`."""
    return jnp.where(np.isin(np.arange(logits.shape[1]), never), -jnp.inf, logits)


def keep_likeliest(logits, k):
    """-inf for all but the k largest."""
    smallest = largest(logits, min(k, logits.shape[1]))[0][:, -1:]
    return jnp.where(logits < smallest, -jnp.inf, logits)


def keep_nucleus(logits, p):
    """-inf outside of the fewest words whose probabilities sum to p (Holtzman et al., 2020).

    A word stays where those above it sum to less than p. The smallest such probability is found by bisection over the bits of
    a float32, which are ordered as the numbers are: exact, and on CPU a tenth of the time of sorting the vocabulary.
    """
    probabilities = jax.nn.softmax(logits)

    def halve(_, bounds):  # at the lower one the mass above is p or more, at the upper one less
        lower, upper = bounds
        middle = (lower + upper) // 2
        threshold = jax.lax.bitcast_convert_type(middle, jnp.float32)
        less = jnp.sum(jnp.where(probabilities > threshold, probabilities, 0), axis=-1, keepdims=True) < p
        return jnp.where(less, lower, middle), jnp.where(less, middle, upper)

    one = jax.lax.bitcast_convert_type(jnp.ones((len(logits), 1), jnp.float32), jnp.int32)
    _, upper = jax.lax.fori_loop(0, 30, halve, (jnp.zeros_like(one), one))  # the bits of 1 are less than 2 ** 30
    return jnp.where(probabilities < jax.lax.bitcast_convert_type(upper, jnp.float32), -jnp.inf, logits)


def mark(ids, where, vocabulary):
    """bool [R, V]: the words ids [R, N] for which `where`, broadcastable to [R, N], holds."""
    ids = jnp.where(where, ids, vocabulary)
    return jax.vmap(lambda row: jnp.zeros(vocabulary, bool).at[row].set(True, mode="drop"))(ids)


def largest(values, k):
    """`jax.lax.top_k` of values [B, N], by each device of a mesh for its own rows: not every compiler would split them."""
    mesh = jax.sharding.get_abstract_mesh()
    axes = tuple(axis for axis in ROWS if axis in mesh.axis_names)
    if mesh.size <= 1 or len(values) % math.prod(mesh.shape[axis] for axis in axes):
        return jax.lax.top_k(values, k)
    rows = PartitionSpec(axes)
    return jax.shard_map(lambda part: tuple(jax.lax.top_k(part, k)), in_specs=rows, out_specs=(rows, rows))(values)

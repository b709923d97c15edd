"""Generation by any decoder with a key-value cache: greedy, beam search or sampling, as transformers' `generate`, in pure JAX.

Letters: B examples, K texts of each (beams or samples), R = B K rows, those of one example side by side, P prompt, T most new
words, V vocabulary, L layers.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from xmodal_jax.decoding import beams
from xmodal_jax.decoding.logits import constrain, narrow
from xmodal_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Generation:
    """How to write; hashable, thus a static argument of `jax.jit`.

    Attributes:
      length: most new words, the end mark included; minimum: fewest new words before the end mark.
      beams: 1 is greedy; returned: the n best of the beams, or with `sample` so many independent samples.
      length_penalty: a beam's score is its sum of log p / (its length ** length_penalty).
      early_stopping: an example is done as soon as `beams` texts have ended; else when the best that has not, at its present
        length, scores no more than the worst of those.
      sample: draw each word, after temperature, top_k (0: all) and top_p (1: all).
      repetition_penalty, no_repeat_ngram: see `decoding.logits`; the prompt counts as written.
      suppress: ids that are never written.
      end: mark; pad: what stands after it.
    """

    length: int = 32
    minimum: int = 0
    beams: int = 1
    returned: int = 1
    length_penalty: float = 1.0
    early_stopping: bool = False
    sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    suppress: tuple[int, ...] = ()
    end: int = 50256
    pad: int = 50256

    def __post_init__(self):
        rules = {
            "length": (self.length >= 1, "at least 1"),
            "minimum": (0 <= self.minimum <= self.length, f"between 0 and length={self.length}"),
            "beams": (self.beams >= 1 and (self.beams == 1 or not self.sample), "at least 1, and 1 where sample=True"),
            "returned": (1 <= self.returned <= (self.returned if self.sample else self.beams), f"1 to beams={self.beams}"),
            "length_penalty": (math.isfinite(self.length_penalty), "finite"),
            "early_stopping": (self.early_stopping in (False, True), "False or True"),
            "temperature": (0 < self.temperature < math.inf, "above 0"),
            "top_k": (self.top_k >= 0, "0 (all words) or more"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "repetition_penalty": (0 < self.repetition_penalty < math.inf, "above 0"),
            "no_repeat_ngram": (self.no_repeat_ngram >= 0, "0 (none) or more"),
            "suppress": (self.end not in self.suppress and min(self.suppress, default=0) >= 0, f"ids, not end={self.end}"),
            "end": (self.end >= 0, "an id"),
            "pad": (self.pad >= 0, "an id"),
        }
        for name, (holds, valid) in rules.items():
            if not holds:
                raise UserError(f"Generation {name}={getattr(self, name)!r}: must be {valid}.")
        for name, neutral in {"temperature": 1, "top_k": 0, "top_p": 1}.items():
            if getattr(self, name) != neutral and not self.sample:
                raise UserError(f"Generation {name}={getattr(self, name)!r} has no effect without sample=True.")


class Generated(NamedTuple):
    """ids int32 [B, returned, T], pad after the end mark; lengths int32 [B, returned], the end mark included.

    scores float32 [B, returned]: of a beam search largest first, as in `Generation.length_penalty`, from log-probabilities
    after the repetition penalty; else the sum of log p by the model itself, before penalties, temperature and the like.
    """

    ids: Any
    lengths: Any
    scores: Any


class Writing(NamedTuple):
    """Texts that are written one by one: words written, int32 []; ids int32 [B, K, P + T]; scores, open [B, K] (no end yet)."""

    new: Any
    ids: Any
    scores: Any
    open: Any


def generate(step, cache, prompt, settings, key=None, numbers=None):
    """Texts that go on from a prompt. To be called under `jax.jit`, where it compiles once for its shapes and settings.

    Args:
      step: (ids int32 [R, N], cache, index) -> (logits float32 [R, N, V], cache): the decoder, parameters and context closed
        over, of words at positions index, index + 1, ...; called with B rows for the prompt, with R afterwards.
      cache: tree of arrays [L, B, ...] with room for P + T words. prompt: int32 [B, P].
      key: of the samples. numbers: uint32 [B] of the examples (None: their places). A sample's words are a function of the
        key, its example's number, its own place among that one's samples, and the logits.
    Returns:
      Generated.
    """
    if settings.sample and key is None:
        raise UserError("Generation sample=True needs a key: generate(..., key=jax.random.key(0)).")
    given, copies, search = prompt.shape[1], max(settings.beams, settings.returned), settings.beams > 1
    numbers = jnp.arange(len(prompt)) if numbers is None else numbers
    logits, cache = step(prompt, cache, 0)
    logits = jnp.repeat(logits[:, -1], copies, axis=0)  # [R, V]
    cache = jax.tree.map(lambda c: jnp.repeat(c, copies, axis=1), cache)

    def advance(now, logits):
        if search:
            return beams.advance(now, logits, given, settings)
        return write(now, logits, given, settings, key, numbers)

    def go_on(carry):
        now, cache = carry
        if search:
            cache = jax.tree.map(lambda c: beams.reorder(c, now.parents), cache)
        at = given + now.new - 1
        logits, cache = step(now.ids[..., at].reshape(-1, 1), cache, at)
        return advance(now, logits[:, 0]), cache

    ids = jnp.full((len(prompt), copies, given + settings.length), settings.pad, jnp.int32)
    ids = ids.at[..., :given].set(prompt[:, None])
    alone = Writing(jnp.int32(0), ids, jnp.zeros(ids.shape[:2]), jnp.ones(ids.shape[:2], bool))
    now = advance(beams.start(ids) if search else alone, logits)
    now, _ = jax.lax.while_loop(lambda carry: (carry[0].new < settings.length) & carry[0].open.any(), go_on, (now, cache))

    ids, scores = (now.best, now.best_scores) if search else (now.ids, now.scores)
    ids = ids[:, : settings.returned, given:]
    ends = ids == settings.end
    lengths = jnp.where(ends.any(-1), ends.argmax(-1) + 1, settings.length).astype(jnp.int32)
    return Generated(ids, lengths, scores[:, : settings.returned])


def write(now, logits, given, settings, key, numbers):
    """One more word for each row on its own, the likeliest or a random one; logits [R, V]."""
    count, shape = given + now.new, now.scores.shape
    allowed = constrain(logits, now.ids.reshape(len(logits), -1), count, now.new, settings)
    if settings.sample:
        words = draw(jax.random.fold_in(key, now.new), numbers, narrow(allowed, settings))
    else:
        words = allowed.argmax(-1)
    logp = jnp.take_along_axis(jax.nn.log_softmax(logits), words[:, None], axis=1).reshape(shape)
    words = jnp.where(now.open, words.reshape(shape), settings.pad).astype(jnp.int32)
    scores = now.scores + jnp.where(now.open, logp, 0)
    return Writing(now.new + 1, now.ids.at[..., count].set(words), scores, now.open & (words != settings.end))


def draw(key, numbers, logits):
    """One word a row: numbers [B] of the examples, logits [R, V] -> [R]; a row's draw does not depend on the others."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.repeat(numbers, len(logits) // len(numbers)))
    keys = jax.vmap(jax.random.fold_in)(keys, jnp.arange(len(logits)) % (len(logits) // len(numbers)))
    return jax.vmap(jax.random.categorical)(keys, logits)

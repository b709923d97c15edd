"""Filters of logits against those of transformers, and samples against the distribution that they leave."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.decoding import toy
from xmodal_jax.decoding import logits as filters
from xmodal_jax.decoding.generation import Generation, generate

ROWS, WORDS, ROOM = 5, 40, 12


@pytest.fixture(scope="module")
def processors():
    pytest.importorskip("torch")
    return pytest.importorskip("transformers.generation.logits_process")


@pytest.fixture(scope="module")
def given():
    """Logits [R, V] of both signs, and ids [R, S] of few kinds, so that they repeat."""
    rng = np.random.default_rng(11)
    logits = (3 * rng.normal(size=(ROWS, WORDS))).astype(np.float32)
    return logits, rng.integers(0, 6, (ROWS, ROOM)).astype(np.int32)


def theirs(processor, ids, logits):
    import torch

    return processor(torch.tensor(np.asarray(ids)).long(), torch.tensor(np.asarray(logits))).numpy()


@pytest.mark.parametrize("count", [1, 2, 7, ROOM])
def test_repetition(processors, given, count):
    logits, ids = given
    for penalty in (1.3, 0.7):
        wanted = theirs(processors.RepetitionPenaltyLogitsProcessor(penalty), ids[:, :count], logits)
        np.testing.assert_allclose(filters.penalise_repetition(logits, ids, count, penalty), wanted, rtol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 4, ROOM, ROOM + 1])
def test_ngrams(processors, given, n):
    logits, ids = given
    forbid = jax.jit(filters.forbid_repeated_ngrams, static_argnums=3)
    banned = 0
    for count in range(1, ROOM + 1):
        wanted = theirs(processors.NoRepeatNGramLogitsProcessor(n), ids[:, :count], logits)
        np.testing.assert_array_equal(forbid(logits, ids, count, n), wanted)
        banned += np.isinf(wanted).sum()
    assert banned or n > 3


def test_minimum(processors, given):
    logits, ids = given
    for new in range(6):
        wanted = theirs(processors.MinNewTokensLengthLogitsProcessor(3, 4, 7), ids[:, : 3 + new], logits)
        np.testing.assert_array_equal(filters.forbid_early_end(logits, new, 4, 7), wanted)


@pytest.mark.parametrize("k", [1, 3, WORDS, WORDS + 9])
def test_top_k(processors, given, k):
    logits, ids = given
    np.testing.assert_array_equal(filters.keep_likeliest(logits, k), theirs(processors.TopKLogitsWarper(k), ids, logits))


@pytest.mark.parametrize("p", [1e-6, 0.2, 0.5, 0.9, 0.999, 1 - 1e-7])
def test_top_p(processors, given, p):
    logits, ids = given
    for scale in (0.1, 1, 4):
        wanted = theirs(processors.TopPLogitsWarper(p), ids, scale * logits)
        found = np.asarray(filters.keep_nucleus(scale * logits, p))
        if p < 0.9999:
            np.testing.assert_array_equal(found, wanted)
        else:  # what is left out is less than the rounding of either sum
            assert np.exp(logits * scale - np.log(np.exp(logits * scale).sum(-1, keepdims=True)))[np.isinf(found)].sum() < 1e-5


def test_together(processors, given):
    logits, ids = given
    settings = Generation(
        length=9, minimum=5, sample=True, temperature=0.7, top_k=12, top_p=0.8, repetition_penalty=1.2, no_repeat_ngram=2, end=3
    )
    found = filters.narrow(filters.constrain(logits, ids, 7, 4, settings), settings)
    wanted = logits
    for processor in (
        processors.RepetitionPenaltyLogitsProcessor(1.2),
        processors.NoRepeatNGramLogitsProcessor(2),
        processors.MinNewTokensLengthLogitsProcessor(3, 5, 3),
        processors.TemperatureLogitsWarper(0.7),
        processors.TopKLogitsWarper(12),
        processors.TopPLogitsWarper(0.8),
    ):
        wanted = theirs(processor, ids[:, :7], wanted)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert 0 < np.isfinite(wanted).sum(-1).min() < 12


def write(table, prompt, key=0, **settings):
    settings = Generation(end=0, pad=0, **settings)

    def run(table, prompt, key):
        return generate(toy.step_of(table), toy.cache(len(prompt), len(table)), prompt, settings, key)

    return jax.jit(run)(table, prompt, jax.random.key(key))


def test_frequencies_are_those_of_the_narrowed_distribution():
    rng, draws = np.random.default_rng(12), 4000
    table, prompt = toy.make(rng, 8, 3), rng.integers(1, 8, (2, 1)).astype(np.int32)
    narrow = {"temperature": 1.4, "top_k": 7, "top_p": 0.95}
    found = write(table, prompt, length=2, minimum=1, sample=True, returned=draws, **narrow)
    settings = Generation(length=2, minimum=1, sample=True, end=0, pad=0, **narrow)
    for row, (first,) in enumerate(prompt):
        one, two = np.asarray(found.ids[row]).T

        def wanted(*text):
            logits = jnp.asarray(toy.log_probabilities(table, text)[None], jnp.float32)
            return jax.nn.softmax(filters.narrow(filters.constrain(logits, None, 0, len(text) - 1, settings), settings))[0]

        assert (one != 0).all()  # the end mark, too early
        check(one, wanted(first))
        common = np.bincount(one).argmax()
        check(two[one == common], wanted(first, common))


def check(words, probabilities):
    """Counts within 4.5 standard deviations of what is expected; nothing that has no probability."""
    probabilities = np.asarray(probabilities, np.float64)
    counts = np.bincount(words, minlength=len(probabilities))
    deviation = np.sqrt(len(words) * probabilities * (1 - probabilities))
    assert (np.abs(counts - len(words) * probabilities) <= 4.5 * deviation).all()
    assert (probabilities == 0).any() and (counts > 0).sum() > 2


def test_samples_are_a_function_of_the_key():
    rng = np.random.default_rng(13)
    table, prompt = toy.make(rng, 9, 8), rng.integers(1, 9, (3, 1)).astype(np.int32)
    one, same, other = (write(table, prompt, key, length=7, sample=True, returned=3) for key in (5, 5, 6))
    np.testing.assert_array_equal(one.ids, same.ids)
    assert (np.asarray(one.ids) != np.asarray(other.ids)).any()
    texts = {tuple(text) for row in np.asarray(one.ids) for text in row}
    assert len(texts) > 3  # samples of a row differ


def test_no_choice_is_greedy():
    rng = np.random.default_rng(14)
    table, prompt = toy.make(rng, 9, 8), rng.integers(1, 9, (4, 2)).astype(np.int32)
    greedy = write(table, prompt, length=6, repetition_penalty=1.2)
    for narrow in ({"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}):
        found = write(table, prompt, length=6, repetition_penalty=1.2, sample=True, returned=2, **narrow)
        for sample in range(2):
            np.testing.assert_array_equal(found.ids[:, sample], greedy.ids[:, 0])
            np.testing.assert_allclose(found.scores[:, sample], greedy.scores[:, 0], rtol=1e-6)

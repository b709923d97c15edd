"""Generation with a toy decoder: beams against all possible texts, when it stops, what it compiles, what it refuses."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.decoding import toy
from xmodal_jax.decoding.generation import Generation, generate
from xmodal_jax.errors import UserError

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def run(table, prompt, settings, key=None, watch=lambda: None):
    longest = len(table)
    return jax.jit(lambda t, p: generate(toy.step_of(t, watch), toy.cache(len(p), longest), p, settings, key))(table, prompt)


def all_texts(table, first, length, end, length_penalty):
    """Every text that `end` or `length` ends: [(score, words)], the best first."""
    words, vocabulary, out = [()], table.shape[1], []
    totals = {(): 0.0}
    for _ in range(length):
        words = [(*text, word) for text in words for word in range(vocabulary) if not (text and text[-1] == end)]
        for text in words:
            totals[text] = totals[text[:-1]] + toy.log_probabilities(table, (first, *text[:-1]))[text[-1]]
        out += [(totals[t] / len(t) ** length_penalty, t) for t in words if t[-1] == end or len(t) == length]
    return sorted(out, reverse=True)


@pytest.mark.parametrize("length_penalty, early_stopping", [(1.0, False), (-1.0, False), (0.0, True)])
def test_beams_that_hold_every_text_find_the_best_ones(length_penalty, early_stopping):
    rng = np.random.default_rng(3)
    table, prompt = toy.make(rng, 4, 4), rng.integers(0, 3, (5, 1)).astype(np.int32)
    settings = Generation(
        length=3, beams=16, returned=4, length_penalty=length_penalty, early_stopping=early_stopping, end=3, pad=3
    )
    found = run(table, prompt, settings)
    for row, (first,) in enumerate(prompt):
        wanted = all_texts(table, first, 3, 3, length_penalty)[:4]
        for rank, (score, text) in enumerate(wanted):
            assert found.ids[row, rank].tolist() == [*text, *[3] * (3 - len(text))]
            assert found.lengths[row, rank] == len(text)
            np.testing.assert_allclose(found.scores[row, rank], score, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"beams": 2}, {"sample": True, "returned": 2}])
def test_it_ends_with_the_last_row(settings):
    table, calls = np.zeros((12, 9, 9), np.float32), []
    for place in range(12):  # word w is followed by w + 1, and 8 is the end mark
        table[place, np.arange(8), np.arange(1, 9)] = 100.0 * (place + 1)
    prompt = np.array([[5], [3], [7]], np.int32)
    found = run(table, prompt, Generation(length=10, end=8, pad=0, **settings), jax.random.key(0), lambda: calls.append(1))
    jax.effects_barrier()
    assert found.lengths[:, 0].tolist() == [3, 5, 1]
    assert found.ids[:, 0, :6].tolist() == [[6, 7, 8, 0, 0, 0], [4, 5, 6, 7, 8, 0], [8, 0, 0, 0, 0, 0]]
    assert 5 <= len(calls) <= (9 if "beams" in settings else 5)  # beams go on until none can beat the second best


def test_one_compilation_per_shape():
    table, traced = toy.make(np.random.default_rng(4), 7, 6), []

    def count(table, prompt, settings):
        traced.append(prompt.shape)
        return generate(toy.step_of(table), toy.cache(len(prompt), 6), prompt, settings)

    count = jax.jit(count, static_argnums=2)
    for prompt in ([[1], [2]], [[3], [4]]):
        for factor in (1, 2):
            count(factor * table, np.array(prompt, np.int32), Generation(length=4, beams=3, end=0, pad=0))
    assert traced == [(2, 1)]
    count(table, np.ones((3, 1), np.int32), Generation(length=4, beams=3, end=0, pad=0))
    assert traced == [(2, 1), (3, 1)]


@pytest.mark.parametrize("settings", [{}, {"beams": 3, "returned": 2}, {"sample": True, "returned": 2}])
def test_rows_do_not_depend_on_the_rest_of_the_batch(settings):
    rng = np.random.default_rng(5)
    table, prompt = toy.make(rng, 7, 8), rng.integers(1, 7, (6, 2)).astype(np.int32)
    settings = Generation(length=6, end=0, pad=0, **settings)
    whole, part = (run(table, rows, settings, jax.random.key(1)) for rows in (prompt, prompt[:2]))
    np.testing.assert_array_equal(whole.ids[:2], part.ids)
    np.testing.assert_array_equal(whole.lengths[:2], part.lengths)
    np.testing.assert_allclose(whole.scores[:2], part.scores, rtol=1e-6)


@pytest.mark.slow
def test_four_devices_write_what_one_writes():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    done = subprocess.run(
        [sys.executable, "-m", "tests.decoding.four_devices"],
        cwd=ROOT, env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    for name, found in json.loads(done.stdout.splitlines()[-1]).items():
        assert found == {"same": True, "devices": 4, "moved": []}, name


@pytest.mark.parametrize(
    "wrong",
    [
        {"length": 0}, {"minimum": -1}, {"minimum": 33}, {"beams": 0}, {"beams": 2, "sample": True}, {"returned": 0},
        {"beams": 2, "returned": 3}, {"returned": 2}, {"length_penalty": float("nan")}, {"early_stopping": "never"},
        {"sample": True, "temperature": 0.0}, {"sample": True, "top_k": -1}, {"sample": True, "top_p": 0.0},
        {"sample": True, "top_p": 1.1}, {"repetition_penalty": 0.0}, {"no_repeat_ngram": -1}, {"suppress": (3, -1)},
        {"suppress": (3,), "end": 3}, {"end": -1}, {"pad": -1},
        {"temperature": 0.7}, {"top_k": 5}, {"top_p": 0.9},
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UserError) as error:
        Generation(**wrong)
    assert any(f"{name}=" in str(error.value) for name in wrong)


def test_samples_need_a_key():
    with pytest.raises(UserError, match="key"):
        run(np.zeros((4, 3, 3), np.float32), np.zeros((1, 1), np.int32), Generation(length=3, sample=True, end=0, pad=0))

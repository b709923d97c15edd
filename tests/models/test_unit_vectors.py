"""Unit vectors: of length 1 however short they were, with bounded slopes at 0."""

import jax
import numpy as np
import pytest

from xmodal_jax.models.vectors import unit


@pytest.mark.parametrize("length", [1e-5, 1e-3, 1.0, 1e6])
def test_length_is_one_however_short(rng, length):
    x = rng.normal(size=(7, 5))
    x *= length / np.linalg.norm(x, axis=-1, keepdims=True)
    np.testing.assert_allclose(unit(np.float32(x)), x / length, rtol=2e-6, atol=1e-7)


def test_zeros_stay_zeros():
    value, slope = jax.value_and_grad(lambda x: unit(x).sum())(np.zeros((2, 5), np.float32))
    assert value == 0 and np.array_equal(slope, np.ones((2, 5)))

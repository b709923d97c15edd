"""Settings of what is written: no text longer than the positions, samples by seed and picture."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.decoding import toy
from xmodal_jax.decoding.generation import Generation, generate
from xmodal_jax.decoding.writing import Writer, numbers_of
from xmodal_jax.errors import UserError


def writer(positions, length=32):
    """A `Writer` of a model with so many positions."""
    made = Writer()
    tokenizer = SimpleNamespace(unk_token_id=1, mask_token_id=None)
    made.maker = SimpleNamespace(end=0, tokenizer=tokenizer, config=SimpleNamespace(length=length))
    made.model = SimpleNamespace(decoder=SimpleNamespace(positions=positions))
    return made


@pytest.mark.parametrize("length", [34, 35, 80, 100_000])
def test_a_length_beyond_the_positions_is_refused(length):
    with pytest.raises(UserError, match=f"length={length}: this model has 34 positions.*at most 33 words"):
        writer(34).settings(length=length)
    with pytest.raises(UserError, match="at most 33 words"):
        writer(34).settings(length=length, minimum=60 if length > 60 else 1, beams=2)


def test_lengths_within_them_are_taken():
    assert writer(34).settings().length == 33
    assert writer(34).settings(length=33).length == 33 and writer(34).settings(length=5).length == 5
    assert writer(0).settings(length=500).length == 500  # a decoder that does not count


def test_a_sample_follows_from_the_seed_and_its_picture_alone():
    """Not from the pictures beside it, nor from its place among them."""
    rng = np.random.default_rng(3)
    pictures, table = rng.integers(0, 256, (5, 4, 4, 3)).astype(np.uint8), jnp.asarray(toy.make(rng, 9, 8))
    settings = Generation(length=7, end=0, pad=0, sample=True, returned=2)

    @jax.jit
    def drawn(numbers, key):
        prompt = np.ones((len(numbers), 1), np.int32)
        return generate(toy.step_of(table), toy.cache(len(numbers), len(table)), prompt, settings, key, numbers).ids

    def texts(rows, seed=5):
        return np.asarray(drawn(numbers_of(pictures[rows]), jax.random.PRNGKey(seed)))

    whole = texts([0, 1, 2, 3, 4])
    np.testing.assert_array_equal(texts([3, 1, 0, 4, 2]), whole[[3, 1, 0, 4, 2]])
    np.testing.assert_array_equal(texts([2, 2, 2, 2, 2]), whole[[2] * 5])
    np.testing.assert_array_equal(texts([4]), whole[[4]])
    assert len({text.tobytes() for text in whole.reshape(10, -1)}) > 7 and (texts([0, 1, 2, 3, 4], 6) != whole).any()


def test_numbers_of_pictures_are_those_of_their_contents():
    pictures = np.random.default_rng(0).integers(0, 256, (6, 3, 3, 3)).astype(np.uint8)
    numbers = numbers_of(pictures)
    assert numbers.dtype == np.uint32 and len(set(numbers.tolist())) == 6
    np.testing.assert_array_equal(numbers_of(pictures[::-1]), numbers[::-1])

"""Order of the data: a pure function of (seed, epoch, index), whoever asks and whenever."""

import itertools

import numpy as np
import pytest
from absl import flags

from xmodal_jax.data.loader import Batches, LoaderConfig
from xmodal_jax.errors import UserError


class Numbers:
    """A source of n examples that hold their own number."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        if not 0 <= i < self.count:
            raise IndexError(i)
        return {"id": i}


def make(example, position):
    return {"id": np.int32(example["id"]), "position": np.int64(position), "row": np.full(3, example["id"], np.int16)}


def batches(count=11, size=4, seed=0, **more):
    return Batches(Numbers(count), make, size, seed, **more)


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def test_every_example_once_an_epoch_in_an_order_that_differs(rng):
    count, seed = int(rng.integers(30, 60)), int(rng.integers(2**31))
    data = batches(count, 6, seed)
    flat = np.concatenate([data[step]["id"] for step in range(count)])  # 6 epochs, batches cross their borders
    epochs = flat.reshape(6, count)
    for epoch in epochs:
        assert sorted(epoch) == list(range(count))
    assert len({tuple(epoch) for epoch in epochs}) == 6
    assert list(epochs[0]) != list(range(count))
    again, other = batches(count, 6, seed), batches(count, 6, seed + 1)
    assert all(same(data[step], again[step]) for step in range(9))
    assert not all(same(data[step], other[step]) for step in range(3))
    np.testing.assert_array_equal(data.indices(5), data[5]["id"])


def test_without_shuffling_the_order_is_the_sources():
    data = batches(5, 2, shuffle=False)
    assert np.concatenate([data[step]["id"] for step in range(5)]).tolist() == [*range(5), *range(5)]


def test_positions_number_the_rows_of_the_whole_run():
    found = itertools.islice(batches(11, 4).iterate(0, rows=(2, 3)), 3)
    assert [batch["position"].tolist() for batch in found] == [[2, 3], [6, 7], [10, 11]]


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_iterating_from_a_step_goes_on_exactly(rng, threads):
    data, start = batches(11, 4, int(rng.integers(2**31))), int(rng.integers(1, 40))
    config = LoaderConfig(threads=threads, prefetch=3)
    for step, batch in enumerate(itertools.islice(data.iterate(start, config), 7), start):
        assert same(batch, data[step])
        assert batch["row"].shape == (4, 3) and batch["row"].dtype == np.int16


@pytest.mark.parametrize("count", [2, 4])
def test_rows_of_all_processes_joined_are_the_one_process_batch(rng, count):
    whole = batches(13, 8, int(rng.integers(2**31)))
    for step in (0, 1, 17):
        parts = [next(whole.iterate(step, rows=range(i * 8 // count, (i + 1) * 8 // count))) for i in range(count)]
        joined = {key: np.concatenate([part[key] for part in parts]) for key in whole[step]}
        assert same(joined, whole[step])


@pytest.mark.slow
def test_worker_processes_give_the_same_batches():
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # as the command line does; grain's workers read absl's flags
    data = batches(11, 4)
    found = list(itertools.islice(data.iterate(5, LoaderConfig(workers=2)), 6))
    assert all(same(batch, data[step]) for step, batch in enumerate(found, 5))


def test_mistakes_are_named():
    with pytest.raises(UserError, match="empty"):
        batches(0)

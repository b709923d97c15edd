"""Which held-out examples an evaluator takes, and in what portions."""

import numpy as np


def drawn(source, count):
    """Numbers of `count` of the source's examples, all of them where it has no more or count is 0, in a drawn order.

    Data sets are often ordered by class or by origin: their first examples stand for a few classes alone. The draw is the
    same in every run and whatever its seed, and fewer examples are the first ones of more, so that figures compare.
    """
    return [int(i) for i in np.random.default_rng(0).permutation(len(source))[: count or None]]


def lower_end(portions):
    """Of the 95 % interval of a mean, by its values over portions of the examples; -inf of a single one."""
    if len(portions) < 2:
        return -np.inf
    return np.mean(portions) - 1.96 * np.std(portions, ddof=1) / np.sqrt(len(portions))


def parts(items, size):
    """Consecutive slices of at most `size`."""
    return [items[start : start + size] for start in range(0, len(items), size)]

import numpy as np

from xmodal_jax.evaluators.held_out import drawn


def test_held_out_examples_are_a_drawn_sample_of_the_whole_split():
    by_class = np.arange(1000) // 50  # a data set in the order of its 20 classes
    found = drawn(by_class, 200)
    shares = np.bincount(by_class[found], minlength=20)
    assert len(set(found)) == 200 and shares.min() > 0 and shares.max() < 25
    assert drawn(by_class, 100) == found[:100]  # fewer are the first of more
    languages = np.arange(1000) % 2
    assert 80 < languages[found].sum() < 120


def test_no_count_and_a_great_one_take_every_example_once():
    assert sorted(drawn("abcde", 0)) == sorted(drawn("abcde", 99)) == [0, 1, 2, 3, 4]

"""A batch and parameters of the small model, for the tests of the gradient and the step."""

import numpy as np
import pytest

from tests.train.small import MODEL
from xmodal_jax.data.examples import CAPTION, FILL


@pytest.fixture(scope="session")
def batch(make_batch):
    """Eight rows; the numbers of target bytes differ from row to row, and a quarter of the rows writes."""
    batch = make_batch(8, 768)
    batch["task"] = np.array([FILL, FILL, CAPTION, FILL, FILL, CAPTION, FILL, FILL], np.int32)
    target = batch["target"]
    target[[0, 4], 3:], target[[0, 4], 2] = 0, 1  # rows 0 and 4 share a microbatch
    target[[1, 5]] = np.where(target[[1, 5]] < 3, 70, target[[1, 5]])
    return batch


@pytest.fixture(scope="session")
def params(make_params, batch):
    return make_params(MODEL, batch)

"""Checkpoints of arrays without elements, as compressed models have them."""

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from xmodal_jax.train import checkpoints
from xmodal_jax.train import mesh as layout


def test_arrays_without_elements_come_back_beside_others(rng, tmp_path):
    state = {"kernel": rng.normal(size=(3, 2)).astype(np.float32), "none": np.zeros((3, 2, 0), np.float32)}
    place = NamedSharding(layout.make_mesh({}), P())
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), state)
    saved = checkpoints.Checkpoints(tmp_path, asynchronous=False)
    saved.save(3, {"params": state}, {"next_step": 3})
    for found, meta in (saved.restore({"params": shapes}), checkpoints.read(tmp_path, {"params": shapes})):
        assert meta == {"next_step": 3}
        jax.tree.map(np.testing.assert_array_equal, found["params"], state)
    saved.close()

"""Weights in eight bits: as near as half a step, of every kind of array, and back under their names."""

import jax
import numpy as np

from tests.compress.small import both
from xmodal_jax.compress.int8 import quantised, restored
from xmodal_jax.interop.trees import leaves
from xmodal_jax.models.stacks import apart


def test_every_matrix_comes_back_within_half_a_step_of_its_outputs(rng):
    params, _ = both(rng, L=2, D=6, F=9)
    params["words"] = {"embedding": rng.normal(size=(5, 4)).astype(np.float32)}
    params["dead"] = {"kernel": np.zeros((3, 2), np.float32)}
    params["conv_1"] = {"kernel": rng.normal(size=(3, 3, 2, 4)).astype(np.float32)}
    params["nothing"] = {"kernel": np.zeros((4, 2, 0), np.float32)}
    for tree in (params, apart(params)):
        small = quantised(tree)
        back = leaves(restored(small))
        assert set(back) == set(leaves(tree))
        for path, w in leaves(tree).items():
            w, found = np.asarray(w, np.float64), np.asarray(back[path])
            kept = leaves(small)[path].dtype != np.int8
            assert kept == (not path.endswith(("kernel", "embedding")) or "conv" in path), path
            if kept:
                np.testing.assert_array_equal(found, w)
                continue
            axis = -1 if path.endswith("embedding") else int("layers/" in path and tree is params)
            step = np.abs(w).max(axis, keepdims=True, initial=0) / 127
            assert (np.abs(found - w) <= 0.5001 * step + 1e-12).all(), path
    bytes_of = [sum(leaf.nbytes for leaf in jax.tree.leaves(t)) for t in (params, quantised(params))]
    assert bytes_of[1] < bytes_of[0]

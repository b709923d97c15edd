"""Structures that nobody learned: the longest vectors, whole layers, a draw."""

import jax
import numpy as np
import pytest

from tests.compress.small import both
from xmodal_jax.compress import baselines
from xmodal_jax.compress.structure import constrained, kept
from xmodal_jax.errors import UserError
from xmodal_jax.interop.trees import get


@pytest.mark.parametrize("multiple", [0, 2])
def test_magnitude_keeps_the_longest_vectors_of_every_head_and_layer(rng, multiple):
    params, pair = both(rng, L=3, D=8, H=2, d=6, F=40, gated=True)
    structure = jax.device_get(baselines.magnitude(params, pair, 0.6, multiple))
    assert float(kept(structure, pair)) == pytest.approx(0.6, rel=0.08 if multiple else 0.04)
    for tower in ("text", "vision"):
        layers = get(params, getattr(pair, tower).path)
        for layer in range(3):
            kernel = layers["attention"]["qkv"]["kernel"][layer].astype(np.float64)  # [D, 3, H, d]
            squares = {"qk": (kernel[:, :2] ** 2).sum((0, 1))}  # [H, d]
            units = [layers[name]["kernel"][layer].astype(np.float64) for name in ("up", "gate")]
            units.append(layers["down"]["kernel"][layer].astype(np.float64).T)
            squares["ff"] = sum((w**2).sum(0) for w in units)[None]
            for group, lengths in squares.items():
                chosen = structure[tower]["m"][group][layer].reshape(lengths.shape) > 0
                number = chosen.sum(1)
                assert (number == number[0]).all() and (not multiple or not (number % multiple).any())
                for head, row in zip(chosen, lengths, strict=True):
                    assert row[head].min(initial=np.inf) >= row[~head].max(initial=0)
            assert structure[tower]["s"]["v"].min() == 1


def test_pruning_alone_has_a_floor(rng):
    params, pair = both(rng)
    with pytest.raises(UserError, match="Pruning alone leaves"):
        baselines.magnitude(params, pair, 0.05)


def test_whole_layers_are_shared_from_the_last_one(rng):
    _, pair = both(rng, 2, L=4, D=8, H=2, d=4, F=32)
    sizes = {}
    for p in (0.9, 0.7, 0.54, 0.4, 0.1):
        structure = jax.device_get(baselines.layers(pair, p))
        sizes[p] = float(kept(structure, pair))
        for tower in ("vision", "text"):
            rows = [s[layer] for layer in range(4) for s in structure[tower]["s"].values()]
            whole = [{float(row.min()), float(row.max())} for row in rows]
            assert all(len(values) == 1 for values in whole)
        own = structure["vision"]["s"]["ff"][:, 0]
        assert (np.diff(own) <= 0).all()
        assert (structure["text"]["s"]["ff"][:, 0][[0, 2]] == 1).all()  # base layers
    step = 7 * 64 / (2 * 12 * 64) / 4 + 1e-6  # a layer's q, k, v and MLP, of all
    assert all(abs(sizes[p] - p) <= step / 2 + 0.01 for p in (0.9, 0.7, 0.54))
    assert sizes[0.1] == min(sizes.values())


def test_a_random_structure_is_its_keys(rng):
    _, pair = both(rng, 1, L=4, D=16, H=4, d=8, F=64)
    one, same, other = (jax.device_get(baselines.random(jax.random.PRNGKey(n), pair, 0.6)) for n in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, same)
    assert any(not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True))
    assert float(kept(one, pair)) == pytest.approx(0.6, rel=0.01)
    jax.tree.map(np.testing.assert_array_equal, one, jax.device_get(constrained(one, pair)))

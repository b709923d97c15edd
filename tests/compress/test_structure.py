"""The structure's constraint, its count and its gradients, against transcriptions entry by entry."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.compress.small import both, drawn, transcribed
from xmodal_jax.compress.decide import decided
from xmodal_jax.compress.pair import Pair, Sizes, pair_of
from xmodal_jax.compress.structure import DISTANCES, constrained, fixed, given_up, kept, stored, whole
from xmodal_jax.errors import UserError

BASE = Sizes("text/encoder/layers", 12, 768, 12, 64, 3072)  # BERT-base and ViT-B
PAIR = Pair(BASE, dataclasses.replace(BASE, path="image/encoder/layers"))


@pytest.mark.parametrize("blocks", [0, 1, 2, 3, 5])
def test_no_shared_or_used_vector_is_pruned_whatever_the_structure(rng, blocks):
    params, pair = both(rng, blocks, L=5)
    for share in (0.1, 0.5, 0.9):
        structure = drawn(rng, pair, share)
        jax.tree.map(np.testing.assert_array_equal, constrained(structure, pair), transcribed(structure, pair))


def test_structures_are_binary_where_text_and_vision_share_nothing(rng):
    params, pair = both(rng, 2, text=dict(D=6), vision=dict(D=8))
    assert not pair.across
    structure = drawn(rng, pair)
    jax.tree.map(np.testing.assert_array_equal, constrained(structure, pair), transcribed(structure, pair))
    assert fixed(jax.tree.map(jnp.zeros_like, whole(pair)), pair)["vision"]["s"]["v"].min() == 1


def weights_left(structure, pair):
    """P, weight by weight: how many are in vectors that stay, and in W_o."""
    done, total = transcribed(structure, pair), 0
    for tower in ("text", "vision"):
        sizes = getattr(pair, tower)
        m, s = done[tower]["m"], done[tower]["s"]
        total += sizes.layers * sizes.heads * sizes.head * sizes.width
        for group, (count, weights) in sizes.groups().items():
            for layer, i in itertools.product(range(sizes.layers), range(count)):
                total += weights * bool(s[group][layer, i] and (group == "v" or m[group][layer, i]))
    return total


@pytest.mark.parametrize(("blocks", "gated"), [(0, False), (1, True), (2, False), (3, True)])
def test_the_count_is_that_of_the_weights_that_stay_and_its_gradient_the_difference_of_each_entry(rng, blocks, gated):
    params, pair = both(rng, blocks, L=4, D=4, d=2, F=3, gated=gated)
    structure, share = drawn(rng, pair), jax.jit(lambda structure: kept(structure, pair))
    assert pair.total() * float(share(structure)) == pytest.approx(weights_left(structure, pair), rel=1e-6)
    gone = jax.jit(lambda structure: given_up(constrained(structure, pair), pair))(structure)
    assert sum(map(float, gone.values())) + float(share(structure)) == pytest.approx(1, abs=1e-6) and gone["shared"] > 0
    gradient = jax.jit(jax.grad(share))(structure)
    leaves, tree = jax.tree.flatten(structure)
    for number, (leaf, slope) in enumerate(zip(leaves, jax.tree.leaves(gradient), strict=True)):
        for place in rng.permutation(leaf.size)[:4]:
            place, counts = np.unravel_index(place, leaf.shape), []
            for value in (0, 1):
                changed = [other.copy() for other in leaves]
                changed[number][place] = value
                counts.append(share(jax.tree.unflatten(tree, changed)))
            np.testing.assert_allclose(slope[place], counts[1] - counts[0], atol=1e-6)


@pytest.mark.parametrize(("blocks", "floor"), [(0, 0.542), (1, 0.122), (2, 0.160), (3, 0.198), (4, 0.236)])
def test_floors_of_bert_base_and_vit_b(blocks, floor):
    pair = dataclasses.replace(PAIR, blocks=blocks)
    assert round(pair.total() / 1e6, 1) == 169.9
    structure = whole(pair)
    for tower in ("text", "vision"):
        structure[tower]["s"] = jax.tree.map(jnp.zeros_like, structure[tower]["s"])
    if not blocks:
        structure["text"]["s"] = whole(pair)["text"]["s"]
    assert float(kept(fixed(structure, pair), pair)) == pytest.approx(floor, abs=5e-4)


def test_distances_of_the_size():
    share, p = jnp.float32(0.7), 0.6
    assert float(DISTANCES["log"](share, p)) == pytest.approx(abs(np.log(0.7 / 0.6)), rel=1e-5)
    assert float(DISTANCES["mse"](share, p)) == pytest.approx(0.01, rel=1e-4)
    assert float(DISTANCES["mae"](share, p)) == pytest.approx(0.1, rel=1e-4)
    assert float(DISTANCES["log"](jnp.float32(0.6 * 0.6 / 0.7), p)) == pytest.approx(abs(np.log(0.7 / 0.6)), rel=1e-5)


def test_stored_vectors_are_counted_in_one_place_each(rng):
    params, pair = both(rng, 2)
    structure = drawn(rng, pair)
    for tower, kinds in stored(constrained(structure, pair), pair).items():
        for group, vectors in kinds.items():
            np.testing.assert_array_equal(vectors, stored(structure, pair)[tower][group])
            assert set(np.unique(vectors)) <= {0, 1}


@pytest.mark.parametrize("multiple", [0, 2])
@pytest.mark.parametrize("p", [1.0, 0.8, 0.6, 0.5])
def test_decisions_have_the_wanted_size_and_even_heads(rng, p, multiple):
    params, pair = both(rng, 2, L=4, D=16, H=4, d=8, F=64)
    logits = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape) - 3, jnp.float32), whole(pair))
    structure = decided(logits, pair, p, multiple)
    assert float(kept(structure, pair)) == pytest.approx(p, rel=0.01)
    jax.tree.map(np.testing.assert_array_equal, structure, transcribed(jax.tree.map(np.asarray, structure), pair))
    if multiple:
        for tower in ("text", "vision"):
            heads = structure[tower]["m"]["qk"].reshape(4, 4, 8).sum(-1)
            assert (heads == heads[:, :1]).all() and not (heads % multiple).any()
            assert not (structure[tower]["m"]["ff"].sum(-1) % multiple).any()


def test_without_a_wanted_size_the_sign_decides(rng):
    params, pair = both(rng, 1)
    logits = jax.tree.map(lambda x: jnp.asarray(4 * rng.normal(size=x.shape), jnp.float32), whole(pair))
    by_sign = jax.tree.map(lambda x: (x + 3 >= 0).astype(jnp.float32), logits)
    jax.tree.map(np.testing.assert_array_equal, decided(logits, pair), constrained(fixed(by_sign, pair), pair))
    only = decided(logits, pair, prune=False)
    assert min(float(m.min()) for tower in only.values() for m in tower["m"].values()) == 1
    assert decided(logits, pair, share=False)["text"]["s"]["v"].min() == 1


def test_what_cannot_be_paired_is_refused(rng):
    params, pair = both(rng)
    with pytest.raises(UserError, match="text/encoder/layers, image/encoder/layers"):
        pair_of(params, text="text/decoder/layers")
    streams = {"text": params["text"], "interaction": {"encoder": params["image"]["encoder"], "streams": {}}}
    assert pair_of(streams).vision.path == "interaction/encoder/layers"
    with pytest.raises(UserError, match="no vision transformer.*text/encoder/layers"):
        pair_of({"text": params["text"]})
    with pytest.raises(UserError, match="blocks=9"):
        pair_of(params, blocks=9)

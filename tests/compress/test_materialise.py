"""Materialised models equal masked ones, for stacks and structures of every kind, and are as small as counted."""

import itertools

import jax
import numpy as np
import pytest

from tests.compress.small import drawn
from tests.conftest import random_params
from xmodal_jax.compress import materialise
from xmodal_jax.compress.decide import decided
from xmodal_jax.compress.effective import effective
from xmodal_jax.compress.materialise import Materialised
from xmodal_jax.compress.pair import count, pair_of
from xmodal_jax.compress.structure import constrained, fixed, kept, whole
from xmodal_jax.decoding.captions import CaptionPredictor
from xmodal_jax.models import Captioner
from xmodal_jax.models.backbones.beit import BEiT
from xmodal_jax.models.backbones.bert import BERT
from xmodal_jax.models.backbones.clip import TextTower, VisionTower
from xmodal_jax.models.backbones.gpt2 import GPT2
from xmodal_jax.models.backbones.vit import ViT
from xmodal_jax.models.gradcam import grad_cam

SIZES = dict(width=16, heads=2, layers=3, mlp_ratio=1.5)
GRID = dict(patch=8, grid=(2, 2))
V, T = 11, 6


def model_of(kind):
    """A model of two stacks: post-norm and pre-norm, CLIP's, GPT-2's with cross-attention, BEiT's with a bias of the scores."""
    text = BERT(vocabulary=V, positions=T, **SIZES)
    if kind == "bert-vit":
        return Captioner(ViT(**SIZES, **GRID), None, latent="none", text=text, shared_width=5)
    if kind == "clip":
        text = TextTower(vocabulary=V, positions=T, end=None, **SIZES)
        return Captioner(VisionTower(**SIZES, **GRID), None, latent="none", text=text, shared_width=5)
    if kind == "beit":
        return Captioner(BEiT(**SIZES, **GRID), None, latent="none", text=text, shared_width=5)
    if kind == "other sizes":
        return Captioner(ViT(**SIZES | {"width": 24}, **GRID), None, latent="none", text=text, shared_width=5)
    decoder = GPT2(vocabulary=V, positions=T, cross=True, **SIZES)
    return Captioner(ViT(**SIZES, **GRID), decoder, latent="none", shared_width=5)


def structure_of(kind, rng, pair):
    if kind == "ragged":
        return constrained(drawn(rng, pair), pair)
    if kind == "even":
        logits = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32) - 3, whole(pair))
        return decided(logits, pair, 0.8, multiple=2)
    if kind == "all shared":
        return constrained(fixed(jax.tree.map(np.zeros_like, jax.device_get(whole(pair))), pair), pair)
    structure = jax.device_get(whole(pair))  # nothing kept in a layer
    for tower in structure.values():
        tower["m"] = {group: m.copy() for group, m in tower["m"].items()}
        for m in tower["m"].values():
            m[1] = 0
    return constrained(structure, pair)


def inputs(rng):
    length = np.array([T - 1, 2], np.int32)
    ids = np.where(np.arange(T)[None] < length[:, None], rng.integers(1, V, (2, T)), 0).astype(np.int32)
    return {"image": rng.integers(0, 256, (2, 16, 16, 3)).astype(np.uint8), "caption": ids, "caption_length": length}


STRUCTURES = ("ragged", "even", "all shared", "nothing in a layer")
MODELS = ("bert-vit", "gpt2-vit", "clip", "beit", "other sizes")
QUICK = {("bert-vit", "ragged"), ("bert-vit", "nothing in a layer"), ("gpt2-vit", "ragged")}
CASES = [
    pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow, id="-".join(case))
    for case in itertools.product(MODELS, STRUCTURES)
]


@pytest.mark.parametrize(("model", "structure"), CASES)
def test_materialised_is_masked(rng, model, structure):
    model, batch = model_of(model), inputs(rng)
    params = jax.tree_util.tree_map_with_path(tamed, random_params(model, batch))
    pair = pair_of(params, blocks=2)
    structure = jax.device_get(structure_of(structure, rng, pair))
    wanted = computed(model, effective(params, structure, pair), batch)
    made = Materialised(pair, structure)
    compact = made.compact(params)
    for found in (
        computed(made.compressed(model), compact, batch),
        computed(made.pruned(model), made.gathered(compact), batch),
    ):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, wanted)
    weights = sum(leaf.size for path, leaf in jax.tree_util.tree_leaves_with_path(compact) if in_count(path))
    assert weights == round(pair.total() * float(kept(structure, pair)))
    assert count(compact) < count(params)


def tamed(path, leaf):
    """q, k and v as a trained model has them: `random_params` divides them by the heads, not by the width."""
    return leaf * (2 / 16) ** 0.5 if "qkv" in str(path) else leaf


def computed(model, params, batch):
    return jax.jit(lambda params: model.apply({"params": params}, batch))(params)


def in_count(path):
    """Whether an array is a kernel of self-attention or MLP in a compressed stack."""
    names = [part.key for part in path]
    return "layers" in names and names[-1] == "kernel" and "cross" not in names


@pytest.mark.slow
def test_gradients_of_compact_parameters_are_the_masked_ones(rng):
    model, batch = model_of("bert-vit"), inputs(rng)
    params = random_params(model, batch)
    pair = pair_of(params, blocks=1)
    structure = jax.device_get(structure_of("ragged", rng, pair))
    made = Materialised(pair, structure)

    def loss(apply):
        return lambda params: sum(x.sum() for x in jax.tree.leaves(apply(params)))

    compressed = made.compressed(model)
    found = jax.jit(jax.grad(loss(lambda p: compressed.apply({"params": p}, batch))))(made.compact(params))
    wanted = jax.jit(jax.grad(loss(lambda p: model.apply({"params": effective(p, structure, pair)}, batch))))(params)
    wanted = made.compact(wanted)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4), found, wanted)


def test_a_structure_is_read_back_and_takes_a_bit_an_entry(rng, tmp_path):
    model = model_of("bert-vit")
    params = random_params(model, inputs(rng))
    pair = pair_of(params, blocks=2)
    structure = jax.device_get(structure_of("ragged", rng, pair))
    materialise.save(tmp_path / materialise.FILE, Materialised(pair, structure))
    found, about = materialise.load(tmp_path / materialise.FILE)
    jax.tree.map(np.testing.assert_array_equal, found, structure)
    assert pair_of(params, **about) == pair
    entries = sum(vectors.size for vectors in jax.tree.leaves(structure))
    assert (tmp_path / materialise.FILE).stat().st_size < entries / 8 + 8000


def test_what_its_blocks_look_at_is_the_masked_models(rng):
    """Cross-attention and Grad-CAM, read block by block where the blocks differ in width."""
    model, batch = model_of("gpt2-vit"), inputs(rng)
    params = jax.tree_util.tree_map_with_path(tamed, random_params(model, batch))
    pair = pair_of(params)
    structure = jax.device_get(structure_of("ragged", rng, pair))
    made = Materialised(pair, structure)
    models = {"masked": (model, effective(params, structure, pair)), "small": (made.compressed(model), made.compact(params))}
    weights, maps = {}, {}
    for name, (model, params) in models.items():
        look = CaptionPredictor(model, params, maker=None)._look

        @jax.jit  # in one program, which has what they share once
        def seen(params, model=model, look=look):
            cams = [cam(model, params, batch["image"], layer) for layer in range(SIZES["layers"])]
            return look(params, batch["image"], batch["caption"], batch["caption_length"]), cams

        weights[name], cams = seen(params)
        maps |= {(name, layer): one for layer, one in enumerate(cams)}
    np.testing.assert_allclose(weights["small"], weights["masked"], atol=1e-5)
    for layer in range(SIZES["layers"]):
        np.testing.assert_allclose(maps["small", layer], maps["masked", layer], atol=1e-4)
    assert np.ptp(weights["small"]) > 0.01 and np.ptp(maps["small", 1] - maps["small", 2]) > 0.01


def cam(model, params, images, layer):
    """Grad-CAM of the sum of a picture's vector."""

    def score(variables, mutable):
        seen, found = model.apply(variables, images, method="encode_image", mutable=mutable)
        return seen.pooled.sum(-1), found

    return grad_cam(score, params, ("image",), None, 1, layer)

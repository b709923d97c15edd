"""Effective weights and their alignment against equations (2) to (5) and (10), vector by vector in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.compress.small import PATHS, both, drawn
from xmodal_jax.compress.effective import alignment, effective
from xmodal_jax.compress.structure import constrained
from xmodal_jax.interop.trees import get

CASES = [dict(blocks=0), dict(blocks=1), dict(blocks=2, gated=True), dict(blocks=3, bias=False)]
APART = dict(blocks=2, text=dict(D=6), vision=dict(D=9, L=3))


def vectors(layers, layer, group, i, d=3):
    """{name: the weights of one vector} of a layer, float64; of qk and v the columns alone, of a hidden unit all."""

    def of(name):
        return np.asarray(get(layers, name)[layer], np.float64)

    if group in ("qk", "v"):
        kernel = of("attention/qkv/kernel")
        return {part: kernel[:, part, i // d, i % d] for part in ((0, 1) if group == "qk" else (2,))}
    out = {name: of(f"{name}/kernel")[:, i] for name in ("up", "gate") if name in layers} | {"down": of("down/kernel")[i]}
    return out | {f"{name}/bias": of(f"{name}/bias")[i] for name in ("up", "gate") if "bias" in layers.get(name, {})}


def expected(params, structure, pair, tower, layer, group, i):
    """Equations (2), (4) and (5) for one vector."""
    text, vision = get(params, pair.text.path), get(params, pair.vision.path)
    m = structure[tower]["m"].get(group, np.ones((pair.text.layers, 99)))[layer, i] if group != "v" else 1.0
    t_layer = layer if tower == "text" or pair.across else None
    if t_layer is not None:
        s_t = structure["text"]["s"][group][t_layer, i]
        own, base = vectors(text, t_layer, group, i), vectors(text, pair.bases[t_layer], group, i)
        of_text = {name: s_t * own[name] + (1 - s_t) * base[name] for name in own}
    if tower == "text":
        return {name: m * w for name, w in of_text.items()}
    s, own = structure["vision"]["s"][group][layer, i], vectors(vision, layer, group, i)
    others = of_text if pair.across else own
    return {name: m * (s * own[name] + (1 - s) * others[name]) for name in own}


@pytest.mark.parametrize("case", [*CASES, APART], ids=str)
def test_equations_2_to_5_vector_by_vector(rng, case):
    params, pair = both(rng, **case)
    structure = jax.tree.map(np.asarray, constrained(drawn(rng, pair), pair))
    made = jax.jit(lambda params: effective(params, structure, pair))(params)
    for tower in ("text", "vision"):
        sizes, layers = getattr(pair, tower), get(made, PATHS[tower])
        for group, (count, _) in sizes.groups().items():
            for layer in range(sizes.layers):
                for i in range(count):
                    found = vectors(layers, layer, group, i)
                    for name, w in expected(params, structure, pair, tower, layer, group, i).items():
                        np.testing.assert_allclose(found[name], w, rtol=1e-6, atol=1e-7, err_msg=f"{tower} {group} {name}")
        before, m = get(params, PATHS[tower]), structure[tower]["m"]["qk"].reshape(sizes.layers, 1, sizes.heads, sizes.head)
        if case.get("bias", True):  # every layer's own, and 0 where the vector is pruned
            bias = before["attention"]["qkv"]["bias"]
            np.testing.assert_array_equal(layers["attention"]["qkv"]["bias"][:, :2], bias[:, :2] * m)
            np.testing.assert_array_equal(layers["attention"]["qkv"]["bias"][:, 2], bias[:, 2])
        for name in ("attention/out/kernel", "norm_mlp/scale"):
            np.testing.assert_array_equal(get(layers, name), get(before, name))
    np.testing.assert_array_equal(made["image"]["patch"], params["image"]["patch"])


@pytest.mark.parametrize("case", [*CASES, APART], ids=str)
def test_equation_10_term_by_term(rng, case):
    params, pair = both(rng, **case)
    structure = jax.tree.map(np.asarray, constrained(drawn(rng, pair), pair))
    total = 0.0
    for tower in ("text", "vision"):
        sizes = getattr(pair, tower)
        layers = get(params, PATHS[tower])
        for group, (count, _) in sizes.groups().items():
            for layer in range(sizes.layers):
                for i in range(count):
                    own, s = vectors(layers, layer, group, i), structure[tower]["s"][group][layer, i]
                    text = get(params, PATHS["text"])
                    if tower == "text":
                        other = vectors(text, pair.bases[layer], group, i)
                    else:
                        other = vectors(text, layer, group, i) if pair.across else own
                    total += sum((1 - s) * np.abs(own[name] - other[name]).sum() for name in own)
                    if group != "v" and structure[tower]["m"][group][layer, i] == 0:
                        total += sum(np.linalg.norm(w) for name, w in own.items() if "bias" not in str(name))
    found = jax.jit(lambda params: alignment(params, structure, pair))(params)
    assert float(found) == pytest.approx(total, rel=1e-5)


def test_alignment_has_a_gradient_where_weights_are_equal_or_zero(rng):
    params, pair = both(rng, 1)
    params = jax.tree.map(np.zeros_like, params)
    structure = constrained(drawn(rng, pair), pair)
    grads = jax.jit(jax.grad(lambda params: alignment(params, structure, pair)))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_gradients_reach_weights_through_those_who_use_them_alone(rng):
    params, pair = both(rng, 2)
    structure = constrained(drawn(rng, pair), pair)
    probe = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), params)

    def value(params):
        return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, effective(params, structure, pair), probe)))

    grads = get(jax.jit(jax.grad(value))(params), PATHS["vision"])["up"]["kernel"]  # [L, D, F]
    used = structure["vision"]["s"]["ff"] * structure["vision"]["m"]["ff"]
    np.testing.assert_array_equal((np.abs(grads).sum(1) > 0), used > 0)

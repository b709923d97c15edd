"""Stacks whose layers are one array of each kind, and apart: the same numbers, without a copy of every layer at each call."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xmodal_jax.decoding.generation import Generation, generate
from xmodal_jax.interop.trees import leaves
from xmodal_jax.models.backbones.gpt2 import GPT2
from xmodal_jax.models.stacks import apart, together

LAYERS = 4


@pytest.fixture(scope="module")
def decoder():
    """A decoder with cross-attention, its parameters, ids [2, 5] and a context [2, 3, 16]."""
    model = GPT2(vocabulary=40, positions=32, width=64, heads=4, layers=LAYERS, cross=True, unimodal=1)
    ids = jax.random.randint(jax.random.PRNGKey(1), (2, 5), 0, 40)
    context = jax.random.normal(jax.random.PRNGKey(2), (2, 3, 64))
    params = jax.jit(model.init)(jax.random.PRNGKey(0), ids, None, context)["params"]
    return model, jax.tree.map(lambda leaf: leaf + 0.01, params), ids, context


def temporaries(function, params, *args):
    """(result, bytes of temporaries) of a compiled function."""
    compiled = jax.jit(function).lower(params, *args).compile()
    return compiled(params, *args), compiled.memory_analysis().temp_size_in_bytes


def test_layers_are_taken_apart_and_put_together(decoder):
    _, params, _, _ = decoder
    split = apart(params)
    assert set(split["decoder"]["layers"]) == {"0", "1", "2"} and set(split["text"]["layers"]) == {"0"}
    np.testing.assert_array_equal(
        split["decoder"]["layers"]["2"]["up"]["kernel"], params["decoder"]["layers"]["up"]["kernel"][2]
    )
    jax.tree.map(np.testing.assert_array_equal, together(split), params)
    assert apart(split) == split and together(params) == params, "the same arrays"


def test_a_forward_pass_is_the_same_and_copies_no_layer(decoder):
    model, params, ids, context = decoder

    def run(params, ids, context):
        found, kept = model.apply({"params": params}, ids, None, context, mutable=["intermediates", "attention"])
        return found.logits, kept

    (logits, kept), _ = temporaries(run, params, ids, context)
    (found, also_kept), copied = temporaries(run, apart(params), ids, context)
    np.testing.assert_allclose(found, logits, rtol=0, atol=1e-6)
    for path, value in leaves(kept).items():
        np.testing.assert_allclose(leaves(also_kept)[path], value, rtol=0, atol=1e-6, err_msg=path)
    layer = sum(leaf[0].nbytes for leaf in jax.tree.leaves(params["decoder"]["layers"]))
    assert copied < layer


def test_a_search_is_the_same_and_copies_no_layer(decoder):
    model, params, ids, context = decoder
    settings = Generation(length=6, beams=3, end=0, pad=0)

    def run(params, ids, context):
        variables = {"params": params}
        projected = model.apply(variables, context, method="project_context")

        def step(ids, cache, index):
            return model.apply(variables, ids, cache, index, projected, method="decode")

        return generate(step, model.apply(variables, 2, 11, method="cache"), ids, settings)

    expected, _ = temporaries(run, params, ids, context)
    found, copied = temporaries(run, apart(params), ids, context)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-5)
    assert copied < sum(leaf.nbytes for leaf in jax.tree.leaves(params["decoder"]["layers"])) / 2


def test_gradients_of_what_is_perturbed_are_the_same(decoder):
    model, params, ids, context = decoder

    def gradient(params, nudge):
        def total(nudge):
            perturbations = {"decoder": {"layers": {"hidden": nudge}}}
            return jnp.square(model.apply({"params": params, "perturbations": perturbations}, ids, None, context).logits).sum()

        return jax.grad(total)(nudge)

    nudge = jnp.zeros((LAYERS - 1, 2, 5, 64))
    expected = jax.jit(gradient)(params, nudge)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(jax.jit(gradient)(apart(params), nudge), expected, rtol=1e-5, atol=1e-6)

"""The dense layer on one CPU device (a product of matrices) and on a mesh (the axes apart) is one and the same function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xmodal_jax.models.dense import Dense
from xmodal_jax.models.transformer import gelu


@pytest.mark.parametrize("features", [5, (3, 2, 4)])
def test_equals_a_float64_closed_form_with_gradients(rng, features):
    layer = Dense(features)
    x = rng.normal(size=(2, 7, 6)).astype(np.float32)
    params = layer.init(jax.random.PRNGKey(0), x)["params"]
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), params)
    kernel, bias = (np.asarray(params[name], np.float64) for name in ("kernel", "bias"))
    y, gradient = jax.vjp(lambda params, x: layer.apply({"params": params}, x), params, x)
    dy = rng.normal(size=y.shape).astype(np.float32)
    dparams, dx = gradient(dy)
    columns = tuple(range(2, y.ndim))
    np.testing.assert_allclose(y, np.tensordot(x, kernel, 1) + bias, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dx, np.tensordot(dy, kernel, (columns, tuple(range(1, kernel.ndim)))), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dparams["kernel"], np.tensordot(x, dy, ((0, 1), (0, 1))), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dparams["bias"], dy.sum((0, 1)), rtol=1e-5, atol=1e-5)


def test_both_forms_agree(rng, monkeypatch):
    layer, x = Dense((2, 3)), rng.normal(size=(4, 5, 6)).astype(np.float32)
    params = layer.init(jax.random.PRNGKey(1), x)

    def value_and_gradient():
        return jax.value_and_grad(lambda params: jnp.sum(layer.apply(params, x) ** 2))(params)

    flat = value_and_gradient()
    monkeypatch.setattr("xmodal_jax.models.dense.is_one_cpu", lambda: False)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), flat, value_and_gradient())


def test_gelu_and_its_gradient_are_those_of_pytorch(rng):
    torch = pytest.importorskip("torch")
    x = 4 * rng.normal(size=100).astype(np.float32)
    theirs = torch.tensor(x, requires_grad=True)
    torch.nn.functional.gelu(theirs, approximate="tanh").sum().backward()
    np.testing.assert_allclose(jax.grad(lambda x: gelu(x).sum())(x), theirs.grad, rtol=1e-5, atol=1e-5)

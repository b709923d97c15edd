"""The hypernetwork against PyTorch's GRU and weight norm, and its straight-through choices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.compress.small import both
from tests.conftest import random_params
from xmodal_jax.compress import hypernetwork
from xmodal_jax.compress.structure import shapes


def test_equation_8_is_a_gru_over_the_layers_and_a_weight_normalised_head_a_layer(rng):
    torch = pytest.importorskip("torch")
    _, pair = both(rng, L=3)
    z = rng.normal(size=(6, hypernetwork.Z_WIDTH)).astype(np.float32)
    network = hypernetwork.network_of(pair)
    theta = random_params(network, z)
    gru = torch.nn.GRU(hypernetwork.Z_WIDTH, 128, bidirectional=True)
    names = {"weight_ih_l0": "input/kernel", "weight_hh_l0": "recurrent_kernel", "bias_ih_l0": "input/bias"}
    state = {}
    for suffix, direction in (("", "forward"), ("_reverse", "backward")):
        for theirs, ours in (names | {"bias_hh_l0": "recurrent_bias"}).items():
            value = theta[direction]
            for part in ours.split("/"):
                value = value[part]
            state[theirs + suffix] = torch.from_numpy(np.array(value).T.copy())
    gru.load_state_dict(state)
    with torch.no_grad():
        x = gru(torch.from_numpy(z))[0]
        norm = [torch.from_numpy(np.array(theta["norm"][name])) for name in ("scale", "bias")]
        x = torch.nn.functional.layer_norm(x, (256,), *norm, 1e-6)
        x = torch.relu(x).numpy().astype(np.float64)
    logits = jax.jit(lambda theta, z: hypernetwork.logits_of(theta, z, pair))(theta, z)
    for tower, part in (("text", x[:3]), ("vision", x[3:])):
        for kind, groups in logits[tower].items():
            for group, found in groups.items():
                head = {name: np.asarray(w, np.float64) for name, w in theta[f"{tower}_{kind}_{group}"].items()}
                v, g = head["direction_kernel"], head["gain_scale"]
                wanted = [part[i] @ (v[i] / np.linalg.norm(v[i], axis=0) * g[i]) for i in range(3)]
                np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-4)


def test_it_starts_with_everything_kept_and_nothing_shared(rng):
    _, pair = both(rng)
    start = jax.jit(lambda key: hypernetwork.start(key, pair))(jax.random.PRNGKey(3))
    chosen = jax.jit(lambda start: hypernetwork.settled(hypernetwork.logits_of(start["theta"], start["z"], pair)))(start)
    assert min(float(leaf.min()) for leaf in jax.tree.leaves(chosen)) == 1
    direct = hypernetwork.start(jax.random.PRNGKey(3), pair, direct=True)
    assert jax.tree.map(jnp.shape, direct["theta"]) == jax.tree.map(lambda s: s.shape, shapes(pair))
    assert hypernetwork.logits_of(**direct, pair=pair) is direct["theta"]


def test_draws_follow_the_logits_and_their_gradient_is_the_sigmoids(rng):
    logits = {"a": jnp.full((40000,), -2.5), "b": jnp.full((40000,), -4.0)}
    drawn = hypernetwork.drawn(logits, jax.random.PRNGKey(int(rng.integers(1 << 30))))
    for name, logit in (("a", -2.5), ("b", -4.0)):
        assert set(np.unique(np.asarray(drawn[name]).round(6))) == {0, 1}
        chance = 1 / (1 + np.exp(-(logit + hypernetwork.BIAS)))  # of a logistic variable
        assert float(drawn[name].mean()) == pytest.approx(chance, abs=0.02)
    x = jnp.asarray(rng.normal(size=7) - 3, jnp.float32)
    y = 1 / (1 + np.exp(-(np.asarray(x, np.float64) + 3) / 0.4))
    slope = jax.grad(lambda x: hypernetwork.straight_through(x).sum())(x)
    np.testing.assert_allclose(slope, y * (1 - y) / 0.4, rtol=1e-4)
    np.testing.assert_array_equal(hypernetwork.settled(x), x >= -3)

"""Training on an NVIDIA GPU: losses and gradients of a CPU, cuDNN's attention in the compiled step, a run that learns."""

import jax
import numpy as np
import pytest

from tests import runs
from xmodal_jax import api
from xmodal_jax.measure import benchmark
from xmodal_jax.models import flash
from xmodal_jax.systems import recipe
from xmodal_jax.train import mesh as layout
from xmodal_jax.train import program, progress
from xmodal_jax.train.gradient import loss_and_gradient

pytestmark = pytest.mark.gpu


def test_loss_and_gradient_are_those_of_a_cpu(gpu):
    parts = recipe.make(runs.pretrain_config())
    batch, key = parts.batches[0], jax.random.PRNGKey(3)

    def once(device):
        with jax.default_device(device), jax.default_matmul_precision("highest"):
            params = jax.device_put(start, device)
            step = jax.jit(lambda params, batch: loss_and_gradient(parts.model, parts.objectives, params, batch, key, 1))
            loss, _, gradient = step(params, batch)
            return float(loss), jax.tree.map(np.asarray, gradient)

    with jax.default_device(jax.devices("cpu")[0]):
        start = parts.model.init(key, batch)["params"]
    (ours, gradient), (loss, expected) = once(gpu), once(jax.devices("cpu")[0])
    assert ours == pytest.approx(loss, rel=1e-4)
    largest = max(float(abs(x).max()) for x in jax.tree.leaves(expected))
    assert max(jax.tree.leaves(jax.tree.map(lambda a, b: float(abs(a - b).max()), gradient, expected))) < 1e-3 * largest


def step_of(config):
    """-> (compiled step, its facts, a fresh state) on the GPU."""
    parts, mesh = recipe.make(config), layout.make_mesh({}, jax.devices()[:1])
    with jax.set_mesh(mesh):
        fresh, shapes = program.state_maker(parts, mesh)
        step, facts = benchmark.build(parts, mesh, shapes)
        _, values = step(fresh(), jax.device_put(parts.batches[0], jax.devices()[0]))
    return facts, float(values["loss"])


def test_long_attention_of_a_step_is_by_cudnn(gpu, monkeypatch):
    config = runs.pretrain_config()
    config.precision, config.model.dropout = "params=float32,compute=bfloat16,output=float32", 0.0
    plain, expected = step_of(config)
    monkeypatch.setattr(flash, "LONG", 1)
    flash.tell.cache_clear()
    facts, loss = step_of(config)
    assert plain["attention"].startswith("XLA") and facts["attention"] == "cuDNN kernel"
    assert loss == pytest.approx(expected, rel=0.02)


def test_a_run_in_bfloat16_learns(gpu, tmp_path):
    config = runs.pretrain_config()
    config.precision, config.total_steps = "params=float32,compute=bfloat16,output=float32", 60
    config.checkpoint_every, config.log_every, config.evaluators = 60, 10, {}
    api.train(config, str(tmp_path))
    lines = progress.read_jsonl(f"{tmp_path}/metrics.jsonl")
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]

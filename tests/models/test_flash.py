"""Flash attention against plain attention: kernels interpreted on CPU, and compiled or lowered for chips that are not here."""

import functools
import importlib.util
import json
import os
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from xmodal_jax.errors import UserError
from xmodal_jax.models import flash
from xmodal_jax.models.attend import attend
from xmodal_jax.train import mesh as layout

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TPU, GPU = functools.partial(flash.on_tpu, interpret=True), functools.partial(flash.on_gpu, implementation="xla")
SIZES = dict.fromkeys(layout.AXES, 2)


def inputs(rng, rows, heads, queries, keys, width):
    """q, k, v, gradient of the result, and keys that count: holes, whole blocks of padding in front, a row without any."""
    q, k, v, dy = (rng.normal(size=(rows, heads, n, width)).astype(np.float32) for n in (queries, keys, keys, queries))
    kept = rng.random((rows, keys)) < 0.6
    kept[0, : min(130, keys - 1)], kept[0, -1], kept[1] = False, True, False
    return q, k, v, dy, kept


@functools.partial(jax.jit, static_argnums=0)
def both_ways(attention, q, k, v, dy, kept):
    """-> result and gradients of q, k, v."""
    y, gradient = jax.vjp(lambda *qkv: attention(*qkv, kept), q, k, v)
    return y, *gradient(dy)


def error(kernel, q, k, v, dy, kept, spoilt=False, scale=0.2):
    """Of a kernel's result and gradients against plain attention's: the largest, as a share of the largest number or of 1."""

    def plain(q, k, v, kept):
        return attend(q, k, v, None if kept is None else kept[:, None, None], scale=scale)

    expected = both_ways(plain, q, k, v, dy, kept)
    if spoilt:
        k, v = (np.where(kept[:, None, :, None], x, np.nan) for x in (k, v))
    ours = both_ways(functools.partial(kernel, scale=scale), q, k, v, dy, kept)
    if kept is not None:
        assert not any(np.asarray(x)[1].any() for x in ours)  # the row without keys
    return float(np.max([abs(a - b).max() / max(1.0, abs(b).max()) for a, b in zip(ours, expected, strict=True)]))  # or NaN


def run_aside(function, **environment):
    """What a function of this file prints last, as JSON, in a process of its own."""
    command = [sys.executable, "-c", f"from tests.models import test_flash; test_flash.{function}()"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", **environment}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("kernel", [TPU, GPU], ids=["tpu", "gpu"])
@pytest.mark.parametrize(
    "queries, keys, width, masked", [(5, 7, 32, 1), (130, 259, 64, 1), (129, 129, 128, 0), (256, 128, 64, 0)]
)
def test_both_kernels_give_what_plain_attention_gives(rng, monkeypatch, kernel, queries, keys, width, masked):
    monkeypatch.setattr(flash, "BLOCK", 128)  # so that there are several
    *arrays, kept = inputs(rng, 3, 2, queries, keys, width)
    assert error(kernel, *arrays, kept if masked else None) < 1e-5


def test_what_stands_in_padding_on_a_gpu_does_not_pass(rng):
    assert error(GPU, *inputs(rng, 3, 2, 6, 9, 8), spoilt=True) < 1e-5


def by_cudnn(q, k, v, kept, scale):
    return flash.on_gpu(*(x.astype(jnp.bfloat16) for x in (q, k, v)), kept, scale).astype(jnp.float32)


@pytest.mark.gpu
@pytest.mark.parametrize(
    "queries, keys, width, masked",
    [(6, 8, 32, 1), (131, 259, 64, 1), (129, 129, 128, 0), (1025, 1370, 64, 1), (256, 128, 64, 0)],
)
def test_cudnn_gives_what_plain_attention_gives(rng, gpu, queries, keys, width, masked):
    """The kernel in bfloat16 against plain attention in float32 on the same, rounded numbers."""
    *arrays, kept = inputs(rng, 3, 2, queries, keys, width)
    arrays = [np.asarray(x.astype(jnp.bfloat16).astype(np.float32)) for x in arrays]
    with jax.default_matmul_precision("highest"):
        assert error(by_cudnn, *arrays, kept if masked else None) < 0.03
        assert not masked or error(by_cudnn, *arrays, kept, spoilt=True) < 0.03


def test_blocks_are_whole_and_few():
    assert [flash.block(tokens) for tokens in (1, 128, 197, 513, 1025, 8192)] == [128, 128, 256, 384, 384, 512]


def print_errors_on_a_mesh():
    def kernel(*args, scale):
        return flash.over_mesh(functools.partial(TPU, scale=scale), *args)

    with jax.set_mesh(layout.make_mesh(SIZES)):  # three rows of one head are split over no axis
        print([error(kernel, *inputs(np.random.default_rng(0), *shape, 17, 30, 32)) for shape in ((4, 2), (3, 1))])


def test_eight_devices_compute_their_rows_and_heads():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    found = run_aside("print_errors_on_a_mesh", XLA_FLAGS=flags)
    assert len(found) == 2 and max(found) < 1e-5, found


def shapes(mesh, queries=1025, keys=1370):
    """Of q, k, v, dy and kept, laid out as the model's are."""
    lie, rows = NamedSharding(mesh, P(layout.ROWS, "tensor")), layout.batch_sharding(mesh)(2)
    q, k = (jax.ShapeDtypeStruct((8, 4, n, 64), jnp.bfloat16, sharding=lie) for n in (queries, keys))
    return q, k, k, q, jax.ShapeDtypeStruct((8, keys), bool, sharding=rows)


def chosen(q, k, v, kept):
    return flash.attention("flash", q, k, v, kept[:, None, None])


def print_compiled_for_tpus():
    from jax.experimental import topologies

    from xmodal_jax.measure import hlo, planning

    devices = list(topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4").devices)
    mesh = layout.make_mesh(SIZES, devices)
    with jax.set_mesh(mesh):
        compiled, text = planning.compile_with_text(both_ways.lower(chosen, *shapes(mesh)))
    kernels = [line.split(" = ")[0] for line in text.splitlines() if 'custom_call_target="tpu_custom_call"' in line]
    print(json.dumps([kernels, len(hlo.collectives(text)), compiled.memory_analysis().temp_size_in_bytes]))


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="the TPU compiler is not installed")
def test_the_tpu_compiler_takes_the_kernels_and_sends_nothing():
    kernels, sends, used = run_aside("print_compiled_for_tpus", TPU_SKIP_MDS_QUERY="1", XLA_FLAGS="")  # it knows few flags
    assert len(kernels) == 3 and all("splash" in name for name in kernels) and sends == 0
    assert used < 2 * 2 * 1025 * 1370 * 2  # the scores of a device's rows and heads


def test_lowered_for_cuda_it_is_cudnn_forward_and_backward(monkeypatch):
    fused = importlib.import_module("jax._src.cudnn.fused_attention_stablehlo")
    monkeypatch.setattr(fused, "check_cudnn_version", lambda: 91000)  # it is not here
    monkeypatch.setattr(flash, "platform", lambda: "gpu")
    mesh = layout.make_mesh({}, jax.devices()[:1])
    text = both_ways.trace(chosen, *shapes(mesh)).lower(lowering_platforms=("cuda",)).as_text()
    calls = [line for line in text.splitlines() if "custom_call @__cudnn$fmha" in line]
    assert len(calls) == 2 and "Softmax(" in calls[0] and "SoftmaxBackward(" in calls[1]
    assert all("PADDING" in line and line.count("tensor<8xi32>") == 2 for line in calls)  # lengths, no bias
    assert "scatter" not in text and "1025x1370" not in text and "1026x1370" not in text


def arrays(queries=1024, keys=1024, width=64, dtype=jnp.bfloat16):
    return [jax.ShapeDtypeStruct((2, 4, n, width), dtype) for n in (queries, keys)]


def test_it_says_why_it_cannot_be_used():
    padding = np.ones((2, 1, 1, 1024), bool)
    assert not flash.usable("tpu", *arrays()) and not flash.usable("gpu", *arrays(), padding)
    assert not flash.usable("tpu", *arrays(width=80, dtype=jnp.float32), padding[:1])
    for where, changes, mask, reason in (
        ("cpu", {}, None, "no kernel for cpu"),
        ("tpu", {}, np.ones((2, 1, 1024, 1024), bool), "padded keys"),
        ("tpu", {}, padding[..., :1], "padded keys"),
        ("gpu", {}, padding.astype(np.float32), "padded keys"),
        ("gpu", {"dtype": jnp.float32}, None, "bfloat16 or float16, not queries of float32"),
        ("tpu", {"dtype": jnp.float16}, None, "bfloat16 or float32, not queries of float16"),
        ("gpu", {"width": 160}, None, "at most 128"),
        ("gpu", {"width": 20}, None, "multiple of 8"),
        ("tpu", {"width": 512}, None, "at most 256"),
        ("tpu", {"keys": 0}, None, "no keys"),
    ):
        assert reason in flash.usable(where, *arrays(**changes), mask)


def test_gpus_before_ampere_are_refused(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for capability, client, refused in (("7.5", "cuda 12", True), ("12.0", "cuda 12", False), ("gfx942", "rocm 6", True)):
        device = types.SimpleNamespace(compute_capability=capability, client=types.SimpleNamespace(platform_version=client))
        monkeypatch.setattr(jax, "local_devices", lambda device=device: [device])
        assert bool(flash.usable("gpu", *arrays())) == refused


def test_the_choice(rng, monkeypatch):
    q, k, v, _, kept = inputs(rng, 2, 1, 16, 24, 32)
    mask, bias, said = kept[:, None, None], np.zeros((1, 1, 16, 24), np.float32), []
    monkeypatch.setattr(logging, "info", lambda text, *values: said.append(text % values))
    for where, kind, others, reason in (
        ("cpu", "fast", (), "one of auto, plain, flash"),
        ("cpu", "flash", (), "no kernel for cpu"),
        ("tpu", "flash", (mask, bias), "bias"),
        ("tpu", "flash", (bias == 0,), "padded keys"),
    ):
        monkeypatch.setattr(flash, "platform", lambda where=where: where)
        with pytest.raises(UserError, match=reason):
            flash.attention(kind, q, k, v, *others)
    monkeypatch.setattr(flash, "on_tpu", lambda q, k, v, kept, scale: jnp.full_like(q, 7))

    def is_flash(kind, scores, bias=None):
        monkeypatch.setattr(flash, "LONG", scores)
        return bool((flash.attention(kind, q, k, v, mask, bias) == 7).all())

    flash.tell.cache_clear()
    assert is_flash("flash", 10**9) and not is_flash("plain", 1) and not said
    assert is_flash("auto", 16 * 24) and is_flash("auto", 16 * 24) and not is_flash("auto", 16 * 24 + 1)
    assert not is_flash("auto", 1, bias)
    expected = ["flash", "plain (fewer than 385 scores a head)", "plain (the scores have a bias)"]
    assert [line.rpartition(": ")[2] for line in said] == expected
    flash.tell.cache_clear()

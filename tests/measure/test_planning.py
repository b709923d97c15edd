"""Plans for chips that are not here: the closed form of bytes, figures, advice; slow: the TPU compiler itself."""

import importlib.util
import json
import os
import runpy
import signal
import subprocess
import sys
import types

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from xmodal_jax.errors import UserError
from xmodal_jax.measure import hlo, planning
from xmodal_jax.measure.chips import peak_flops

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MESH = AbstractMesh((2, 4, 2), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)


def leaf(shape, *spec, dtype=np.float32):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(MESH, P(*spec)))


def some_plan(**changes):
    values = dict(
        topology="v5e:2x4", chips=4, devices=8, mesh={"data": 2, "fsdp": 4, "tensor": 1}, batch_size=64, accumulate=1,
        remat="none", parameters=10, parameter_bytes=3 << 30, optimizer_bytes=6 << 30, peak_bytes=12 << 30, hbm_bytes=16 << 30,
        fits=True, flops=1e12, compute_s=0.01, memory_s=0.02, network_s=0.005, compile_s=3.0,
    )  # fmt: skip
    return planning.Plan(**values | changes)


def test_bytes_on_a_device_are_the_closed_form():
    tree = {"a": leaf((8, 6), "fsdp", "tensor"), "b": leaf((3,)), "c": leaf((16, 2), ("data", "fsdp"), dtype=np.int8)}
    assert planning.device_bytes(tree) == 8 * 6 * 4 // 8 + 3 * 4 + 16 * 2 // 8


def test_rates_and_cost_follow_from_the_longest_bound():
    plan = some_plan()
    assert (plan.bound_s, plan.serial_s, plan.mfu_bound) == (0.02, pytest.approx(0.035), 0.5)
    assert plan.examples_per_s == 64 / 0.02 and plan.devices_per_chip == 2
    assert plan.cost(steps=1800, price=2.0) == pytest.approx(1800 * 0.02 / 3600 * 4 * 2.0)
    assert json.loads(json.dumps(plan.as_json()))["bound_s"] == 0.02


def test_what_is_recomputed_does_not_count_as_use_of_the_chip():
    plan = some_plan(remat="full", compute_s=0.02, memory_s=0.01)
    assert plan.mfu_bound == 0.75 and plan.examples_per_s == 64 / 0.02


def test_what_does_not_fit_says_so_and_what_to_change():
    plan = some_plan(fits=False, peak_bytes=20 << 30, compute_s=0, memory_s=0, network_s=0)
    advice = planning.advise(plan)
    assert "20 GiB of 16 GiB" in advice and "mesh.fsdp" in advice and "remat=dots" in advice and "batch_size" in advice
    config = runpy.run_path(os.path.join(ROOT, "configs", "pretrain.py"))["get_config"]("debug")
    (table,) = planning.tables([some_plan(), plan], config, price=1.0)
    assert "TOO MUCH" in table.rows[1][6] and "fits" in table.rows[0][6] and table.rows[0][-2].startswith("$")


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        ("CompileTimeHbmOom: program (20.86G) exceeds available HBM (15.75G)", round(20.86 * 2**30)),
        ("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 512.5M of 100M hbm.", round(512.5 * 2**20)),
        ("INTERNAL: something else", 0),
    ],
)
def test_wanted_bytes_of_an_out_of_memory_message(message, wanted):
    assert planning.wanted_bytes(message) == wanted


def test_contradictions_of_the_layout_are_named():
    mesh = types.SimpleNamespace(shape={"data": 2, "fsdp": 4, "tensor": 2})
    shapes = types.SimpleNamespace(params={"tower": {"layers": {"up": {"kernel": leaf((6, 8, 32), None, "fsdp", "tensor")}}}})
    one = hlo.Collective("all-gather", (("f32", (6, 8, 32)),), 4, 1, "jit(step)/a")
    rows = hlo.Collective("all-gather", (("f32", (64, 10, 8)),), 8, 1, "jit(step)/b")
    layer = hlo.Collective("all-gather", (("f32", (1, 8, 32)),), 4, 6, "jit(step)/c")
    found = planning.contradictions([one, rows, layer], shapes, 64, mesh)
    assert len(found) == 2 and "tower/layers/up/kernel" in found[1] and "whole batch" in found[0]
    (unread,) = planning.contradictions([hlo.Collective("all-reduce", (("f32", (8,)),), 0, 1, "jit(step)/d")], shapes, 64, mesh)
    assert "cannot be read" in unread and "jit(step)/d" in unread


def test_unknown_topologies_are_refused():
    with pytest.raises(UserError, match="Valid: tpu7x, v4, v5e, v5p, v6e"):
        planning.open_topology("v5x:2x2")
    with pytest.raises(UserError, match="write GENERATION:SHAPE"):
        planning.open_topology("v5e")
    assert peak_flops("NVIDIA H200") == 989e12 and peak_flops("TPU v5 lite") == 197e12 and peak_flops("cpu") is None


STOPPED = """
import os, signal, sys, threading
from xmodal_jax import cli, plan
from xmodal_jax.measure import searching
from tests.measure.test_planning import some_plan

def search(config, topology, compiles):
    yield some_plan(topology=topology)
    if topology == "v5e:4x4":
        yield some_plan(topology=topology, batch_size=128)
        os.kill(os.getpid(), signal.{name})
        threading.Event().wait()  # a compiler that answers nothing

searching.search = search
cli.run(plan.main, plan.__doc__)
"""


@pytest.mark.parametrize("name", [pytest.param("SIGINT", marks=pytest.mark.slow), "SIGTERM"])
def test_a_search_that_is_stopped_tells_what_it_has(tmp_path, name):
    command = [
        sys.executable, "-c", STOPPED.replace("{name}", name), "--config=configs/pretrain.py:size=tiny", "--search",
        "--topology=v5e:2x4,v5e:4x4,v5e:8x8", f"--json={tmp_path}/plan.json",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == -getattr(signal, name), done.stderr[-2000:]
    found = [(plan["topology"], plan["batch_size"]) for plan in json.loads((tmp_path / "plan.json").read_text())]
    assert found == [("v5e:2x4", 64), ("v5e:4x4", 128), ("v5e:4x4", 64)], "of each search the best first"
    assert "batch 128" in done.stdout and "Stopped" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs the extra `tpu`")
def test_the_tpu_compiler_plans_a_small_config(tmp_path):
    command = [
        sys.executable, "-m", "xmodal_jax.plan", "--config=configs/pretrain.py:size=tiny", "--topology=v5e:2x4",
        "--config.batch_size=64", "--mesh=data=2,fsdp=4", "--price=1", f"--json={tmp_path}/plan.json",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    (plan,) = json.loads((tmp_path / "plan.json").read_text())
    assert plan["fits"] and plan["devices"] == 8 and plan["collectives"] and plan["compute_s"] > 0
    assert plan["parameter_bytes"] < plan["parameters"] * 4 < 4.5 * plan["parameter_bytes"]
    assert "v5e:2x4" in done.stdout and "fits" in done.stdout

"""The same training on one device and on eight, whatever the mesh; checkpoints move between them. Devices are simulated."""

import json
import os
import runpy
import subprocess
import sys

import numpy as np
import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MESHES = {  # name: (sizes, devices, changes to the config)
    "one": ({}, 1, {}),
    "four": ({"fsdp": 4}, 4, {}),
    "data": ({"data": 8}, 8, {}),
    "fsdp": ({"fsdp": 8}, 8, {}),
    "tensor": ({"tensor": 8}, 8, {}),
    "data x fsdp": ({"data": 4, "fsdp": 2}, 8, {}),
    "data x tensor": ({"data": 4, "tensor": 2}, 8, {}),
    "fsdp x tensor": ({"fsdp": 4, "tensor": 2}, 8, {}),
    "all": ({"data": 2, "fsdp": 2, "tensor": 2}, 8, {}),
    "sequence": ({"data": 2, "tensor": 4}, 8, {"model.shard_sequence": True}),
    "accumulated": ({"data": 2, "fsdp": 2, "tensor": 2}, 8, {"accumulate": 2}),
    "recomputed": ({"fsdp": 4, "tensor": 2}, 8, {"model.remat": "dots"}),
}
FAST = ("one", "fsdp")


def small_config():
    """Scenes of 32 pixels and a model of width 64 with 8 heads, so that eight devices can share every axis."""
    config = runpy.run_path(os.path.join(ROOT, "configs", "pretrain.py"))["get_config"]("debug,image_size=32,lang=en")
    config.batch_size = 16
    config.model.update(width=64, heads=8, slots=8)
    return config


def run(meshes, restore_on, folder, steps=20, of="tests.train.test_eight_devices"):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    arguments = json.dumps({"meshes": meshes, "restore_on": restore_on, "folder": str(folder), "steps": steps, "of": of})
    done = subprocess.run(
        [sys.executable, "-m", "tests.train.eight_devices", arguments],
        cwd=ROOT, env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}, capture_output=True, text=True, timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def check(found):
    one = found["one"]["history"]
    assert one[-1]["loss"] < one[0]["loss"]
    for name, result in found.items():
        for number, (ours, alone) in enumerate(zip(result["history"], one, strict=True)):
            for metric in ("loss", "masked_words", "generation", "contrastive", "naming"):
                np.testing.assert_allclose(ours[metric], alone[metric], rtol=1e-5, err_msg=f"{name}, step {number}, {metric}")
        assert all(result["restored"].values()), f"{name}: {result['restored']}"


@pytest.mark.slow
@pytest.mark.gate
def test_eight_ways_train_as_one_and_checkpoints_move(tmp_path):
    found = run(FAST, FAST, tmp_path, steps=8)
    check(found)
    assert found["fsdp"]["bytes"] == found["one"]["bytes"] / 8


@pytest.mark.slow
def test_all_meshes_train_alike_and_checkpoints_move(tmp_path):
    found = run(list(MESHES), ["one", "four", "fsdp", "all"], tmp_path)
    check(found)
    whole = found["one"]["bytes"]
    for name, ways in {"data": 1, "fsdp": 8, "four": 4, "data x fsdp": 2}.items():
        assert found[name]["bytes"] == whole / ways, name

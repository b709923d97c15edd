"""Several processes on one machine, as a cluster would start them: the same losses, killed, resumed, in other numbers."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.train import small_config
from xmodal_jax import api
from xmodal_jax.train.progress import read_jsonl

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SMALL = ["--config=tests/train/small_config.py", "--config.total_steps=6", "--config.checkpoint_every=4"]
WHOLE = [
    "--config=configs/pretrain.py:debug,image_size=32,lang=en", "--config.total_steps=12", "--config.log_every=1",
    "--config.checkpoint_every=4", "--config.evaluators.sense.count=4", "--config.evaluators.masked.count=4",
    "--config.evaluators.retrieval.count=4", "--config.evaluators.generation.count=1",
]  # fmt: skip


def start(count, folder, *more, settings=WHOLE, module="xmodal_jax.main"):
    """Start a run in `count` processes of one device each -> [Popen]; what they print is in folder/../log-INDEX."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for index in range(count):
        env = {**os.environ, "JAX_PLATFORMS": "cpu"}
        if count > 1:
            env |= {
                "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                "JAX_NUM_PROCESSES": str(count),
                "JAX_PROCESS_ID": str(index),
            }
        with open(f"{folder}.log-{index}", "w") as log:
            command = [sys.executable, "-m", module, *settings, f"--workdir={folder}", *more]
            started.append(subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log))
    return started


def wait_for(running, folder, step):
    """Until a line of metrics of `step` or later is there; fails where a process ends before."""
    deadline = time.monotonic() + 600
    while not any(line["step"] >= step for line in read_jsonl(f"{folder}/metrics.jsonl")):
        assert all(process.poll() is None for process in running) and time.monotonic() < deadline, tell(folder)
        time.sleep(0.1)


def finish(running, folder):
    codes = [process.wait(timeout=600) for process in running]
    assert codes == [0] * len(running), tell(folder)


def tell(folder):
    with open(f"{folder}.log-0") as log:
        return log.read()[-3000:]


def losses(folder):
    lines = {line["step"]: line["train/loss"] for line in read_jsonl(f"{folder}/metrics.jsonl") if "train/loss" in line}
    assert list(lines) == list(range(1, len(lines) + 1)) and len(lines) in (6, 12), "every step once"
    return [lines[step] for step in sorted(lines)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("alone") / "run")
    finish(start(1, folder), folder)
    return folder


@pytest.fixture(scope="module")
def small_alone(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("alone") / "run")
    config = small_config.get_config()
    config.total_steps, config.checkpoint_every = 6, 4
    api.train(config, folder)
    return folder


def same_run(folder, alone):
    np.testing.assert_allclose(losses(folder), losses(alone), rtol=1e-5)
    found, expected = (json.loads(pathlib.Path(place, "results.json").read_text()) for place in (folder, alone))
    assert found.keys() == expected.keys()


@pytest.mark.slow
@pytest.mark.gate
def test_two_processes_give_the_losses_of_one(small_alone, tmp_path):
    folder = str(tmp_path / "run")
    finish(start(2, folder, settings=SMALL), folder)
    same_run(folder, small_alone)


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one_with_every_objective_and_evaluator(alone, tmp_path):
    folder = str(tmp_path / "run")
    finish(start(2, folder), folder)
    same_run(folder, alone)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after", "mesh"),
    [(2, 4, "data"), (4, 2, "fsdp"), (4, 1, "fsdp"), (1, 2, "tensor")],
)
def test_killed_and_gone_on_with_in_another_number_of_processes(alone, tmp_path, before, after, mesh):
    folder, layout = str(tmp_path / "run"), [] if mesh == "data" else ["--config.mesh.data=1", f"--config.mesh.{mesh}=-1"]
    running = start(before, folder, *layout)
    wait_for(running, folder, 6)
    for process in running:
        process.kill()
        process.wait()
    finish(start(after, folder, *layout), folder)
    same_run(folder, alone)


@pytest.mark.slow
def test_sigterm_to_one_process_stops_all_at_one_step_saved(tmp_path):
    folder = str(tmp_path / "run")
    running = start(2, folder, "--config.total_steps=100000", settings=SMALL)
    wait_for(running, folder, 2)
    running[1].send_signal(signal.SIGTERM)
    finish(running, folder)
    last = max(line["step"] for line in read_jsonl(f"{folder}/metrics.jsonl"))
    assert os.path.isdir(f"{folder}/checkpoints/{last}") and f"stopped at step {last}, saved" in tell(folder)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_is_named_by_the_other_and_the_run_goes_on(small_alone, tmp_path, victim):
    folder = str(tmp_path / "run")
    running = start(2, folder, settings=SMALL)
    wait_for(running, folder, 2)
    running[victim].kill()
    assert running[1 - victim].wait(timeout=60) == 2
    told = " ".join(pathlib.Path(f"{folder}.log-{1 - victim}").read_text().split())
    assert f"Error: Process {victim} of 2 of this run" in told and "was lost" in told and "Traceback" not in told
    finish(start(2, folder, settings=SMALL), folder)
    same_run(folder, small_alone)


def test_several_processes_need_a_common_folder():
    env = {**os.environ, "JAX_COORDINATOR_ADDRESS": "127.0.0.1:1", "JAX_NUM_PROCESSES": "nonsense", "JAX_PROCESS_ID": "0"}
    command = [sys.executable, "-m", "xmodal_jax.main", *SMALL]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "do not find each other" in done.stderr and "Traceback" not in done.stderr

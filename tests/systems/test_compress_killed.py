"""Algorithm 1 killed in every phase, and of two processes: the same losses, the same structure, the same smaller model."""

import json
import pathlib

import pytest

from tests.train import test_processes, test_resume
from xmodal_jax.train.progress import read_jsonl

CONFIG = "tests/systems/compress_config.py"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("compress") / "whole"
    test_processes.finish(test_processes.start(1, str(folder), settings=[f"--config={CONFIG}"]), str(folder))
    return folder


def lines(folder):
    """{step: {metric: value}} of training, without what a clock measured."""
    found = [line for line in read_jsonl(f"{folder}/metrics.jsonl") if "train/loss" in line]
    return {
        line["step"]: {name: line[name] for name in line if name.startswith("train/") and "_per_s" not in name}
        for line in found
    }


def results(folder):
    """Without what a clock measured."""
    found = json.loads(pathlib.Path(folder, "results.json").read_text())
    return {name: value for name, value in found.items() if "latency" not in name}


@pytest.mark.slow
def test_sigkill_in_every_phase(whole, tmp_path):
    folder, total = tmp_path / "killed", "--config.total_steps=40"
    for step in (5, 12, 20, 29, 36):  # weights, structure, weights, structure, fine-tuning
        process = test_resume.command(folder, total, config=CONFIG)
        test_resume.wait_for_step(folder, step, process)
        process.kill()
        process.wait()
    assert test_resume.command(folder, total, config=CONFIG).wait(timeout=300) == 0
    assert lines(folder) == lines(whole)
    assert results(folder) == results(whole)


@pytest.mark.slow
def test_two_processes_leave_the_smaller_model_of_one(whole, tmp_path):
    folder = str(tmp_path / "two")
    test_processes.finish(test_processes.start(2, folder, settings=[f"--config={CONFIG}"]), folder)
    found, wanted = lines(folder), lines(whole)
    assert found.keys() == wanted.keys()
    for step, values in wanted.items():
        for name in {"train/loss", "train/kept", "train/alignment"} & values.keys():
            assert found[step][name] == pytest.approx(values[name], rel=1e-4), (step, name)
    found, one = results(folder), results(whole)
    assert found.keys() == one.keys() and found["compress/masked_difference"] <= 1e-5
    assert found["compress/kept"] == pytest.approx(one["compress/kept"], rel=0.01)
    assert pathlib.Path(folder, "compressed", "checkpoints").is_dir()

"""A run killed at any moment and started again goes on bit for bit; damaged checkpoints are set aside."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from tests import runs
from tests.runs import pretrain_config as small_config
from xmodal_jax.errors import UserError
from xmodal_jax.systems import recipe
from xmodal_jax.train import loop, report
from xmodal_jax.train.checkpoints import Checkpoints
from xmodal_jax.train.progress import Progress, read_jsonl
from xmodal_jax.train.workdir import check_workdir

ROOT = pathlib.Path(__file__).parents[2]
LOSSES = ("train/loss", "train/masked_words", "train/generation", "train/contrastive", "train/gradient_norm")


def losses(folder):
    lines = read_jsonl(f"{folder}/metrics.jsonl")
    return {line["step"]: [line[name] for name in LOSSES] for line in lines if "train/loss" in line}


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
    """The report is looked at elsewhere."""
    with runs.compiled_once(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "write_report", lambda *args, **kwargs: None)
        yield


@pytest.fixture(scope="module")
def whole_run(trained):
    return trained(small_config())[:2]


class Interrupted(Exception):
    pass


def train_until(monkeypatch, folder, step):
    """Train, and break off where the metrics of `step` would be written; checkpoints begun before are finished."""
    write, opened = Progress.write, []

    def opening(*args):
        opened.append(Checkpoints(*args))
        return opened[-1]

    def interrupting(self, number, values):
        if number >= step:
            raise Interrupted
        write(self, number, values)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "write", interrupting)
        patch.setattr(loop, "Checkpoints", opening)
        with pytest.raises(Interrupted):
            loop.train(recipe.make(small_config()), str(folder))
    opened[0].close()


@pytest.mark.parametrize("step", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_interrupted_run_goes_on_bit_for_bit(whole_run, tmp_path, monkeypatch, step):
    train_until(monkeypatch, tmp_path, step)
    results = loop.train(recipe.make(small_config()), str(tmp_path))
    assert losses(tmp_path) == losses(whole_run[0])
    assert results == whole_run[1]
    assert sorted(losses(tmp_path)) == list(range(1, 9))


def test_finished_run_started_again_only_evaluates(whole_run, tmp_path):
    folder = str(shutil.copytree(whole_run[0], tmp_path / "run"))
    assert loop.train(recipe.make(small_config()), folder) == whole_run[1]
    assert losses(folder) == losses(whole_run[0])


def test_truncated_newest_checkpoint_is_set_aside(whole_run, tmp_path, monkeypatch, caplog):
    train_until(monkeypatch, tmp_path, 8)
    newest = tmp_path / "checkpoints" / "6"
    files = [file for file in newest.rglob("*") if file.is_file() and file.stat().st_size > 64]
    assert files
    for file in files:
        os.truncate(file, file.stat().st_size // 2)
    loop.train(recipe.make(small_config()), str(tmp_path))
    assert losses(tmp_path) == losses(whole_run[0])
    assert (tmp_path / "broken-6").is_dir()
    assert any("step 6 is damaged" in record.getMessage() for record in caplog.records)


def test_one_truncated_file_at_a_time_is_noticed(whole_run, tmp_path, monkeypatch):
    """Whichever of the large files is cut: either the checkpoint is refused or what it gives is exact."""
    train_until(monkeypatch, tmp_path, 8)
    newest = tmp_path / "checkpoints" / "6"
    largest = max((file for file in newest.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    os.truncate(largest, largest.stat().st_size - 100)
    loop.train(recipe.make(small_config()), str(tmp_path))
    assert losses(tmp_path) == losses(whole_run[0])


def test_all_checkpoints_broken_is_a_clear_error(tmp_path, monkeypatch):
    train_until(monkeypatch, tmp_path, 5)
    for file in (tmp_path / "checkpoints").rglob("*"):
        if file.is_file():
            os.truncate(file, 0)
    with pytest.raises(UserError, match="All checkpoints .* are damaged"):
        loop.train(recipe.make(small_config()), str(tmp_path))


def test_a_run_stopped_before_its_first_step_says_that_nothing_is_saved(tmp_path, caplog):
    with caplog.at_level("INFO", logger="absl"):
        assert loop.train(recipe.make(small_config()), str(tmp_path), is_stopped=lambda step: True) is None
    told = [record.getMessage() for record in caplog.records if record.getMessage().startswith("stopped")]
    assert len(told) == 1 and "before the first step, nothing saved" in told[0]
    assert not [name for name in os.listdir(tmp_path / "checkpoints") if name.isdigit()]


def test_a_bucket_is_no_folder():
    with pytest.raises(UserError, match="Mount the bucket"):
        loop.train(recipe.make(small_config()), "gs://bucket/run")


def test_folder_of_another_config_is_refused(whole_run):
    config = small_config()
    config.optimizer.learning_rate = 0.5
    with pytest.raises(UserError, match="optimizer.learning_rate: 0.003 there, 0.5 now"):
        loop.train(recipe.make(config), whole_run[0])


def test_settings_that_change_nothing_learned_may_differ(whole_run):
    config = small_config()
    config.log_every = 4
    check_workdir(config, whole_run[0])


def test_nan_guard_names_step_and_examples_and_keeps_the_last_good_checkpoint(whole_run, tmp_path, monkeypatch):
    compile_step, bad = loop.compile_step, 4
    spoil = jax.jit(lambda params: jax.tree.map(lambda value: value * np.nan, params))

    def poisoned(*args):
        step, *rest = compile_step(*args)

        def run(state, batch, number):
            if int(state.step) == bad:
                state = state.replace(params=spoil(state.params))
            return step(state, batch, number)

        return run, *rest

    with monkeypatch.context() as patch:
        patch.setattr(loop, "compile_step", poisoned)
        with pytest.raises(UserError, match=rf"not finite at step {bad + 1};") as caught:
            loop.train(recipe.make(small_config()), str(tmp_path))
    assert (tmp_path / "checkpoints" / "3").is_dir(), "what was begun is finished"
    parts = recipe.make(small_config())
    named = [parts.train[int(i)]["id"] for i in parts.batches.indices(bad)]
    assert f"The batch of that step: {', '.join(named)}." in str(caught.value)
    loop.train(recipe.make(small_config()), str(tmp_path))  # from the checkpoint of step 3
    assert losses(tmp_path) == losses(whole_run[0])


@pytest.mark.slow
def test_a_learning_rate_too_high_ends_in_the_nan_guard(tmp_path):
    config = small_config()
    config.optimizer.learning_rate, config.optimizer.clip, config.optimizer.warmup = 1e38, 0.0, 0.0
    with pytest.raises(UserError, match=r"not finite at step \d+.*scenes/train/\d+"):
        loop.train(recipe.make(config), str(tmp_path))


def command(folder, *more, config="configs/pretrain.py:debug,image_size=32"):
    flags = [f"--config.{name}" for name in ("total_steps=400", "log_every=1", "checkpoint_every=7")]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    arguments = [f"--config={config}", f"--workdir={folder}", *flags, *more]
    return subprocess.Popen(
        [sys.executable, "-m", "xmodal_jax.main", *arguments],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_step(folder, step, process):
    for _ in range(1200):
        if process.poll() is not None:
            raise AssertionError(f"ended before step {step}: {process.stderr.read()[-2000:]}")
        try:
            with open(folder / "metrics.jsonl", encoding="utf-8") as file:
                lines = [json.loads(line) for line in file.read().splitlines()[:-1]]
            if lines and lines[-1]["step"] >= step:
                return
        except FileNotFoundError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"step {step} was not reached in two minutes")


@pytest.mark.slow
def test_sigterm_saves_and_ends_cleanly(tmp_path):
    process = command(tmp_path, config="tests/train/small_config.py")
    wait_for_step(tmp_path, 10, process)
    process.send_signal(signal.SIGTERM)
    text = process.communicate(timeout=120)[1]
    assert process.returncode == 0, text
    saved = max(int(name) for name in os.listdir(tmp_path / "checkpoints") if name.isdigit())
    assert f"stopped at step {saved}, saved" in text
    assert saved in [line["step"] for line in read_jsonl(f"{tmp_path}/metrics.jsonl")]  # all steps up to there are written
    assert not (tmp_path / "results.json").exists()


@pytest.mark.slow
def test_sigkill_at_several_moments(tmp_path):
    reference = tmp_path / "reference"
    process = command(reference, "--config.total_steps=60")
    assert process.wait(timeout=300) == 0
    killed = tmp_path / "killed"
    for step in (5, 16, 33, 50):
        process = command(killed, "--config.total_steps=60")
        wait_for_step(killed, step, process)
        process.kill()
        process.wait()
    assert command(killed, "--config.total_steps=60").wait(timeout=300) == 0
    assert losses(killed) == losses(reference)
    assert (killed / "results.json").read_text() == (reference / "results.json").read_text()

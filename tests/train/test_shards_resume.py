"""Runs on tar shards and parquet files, killed and started again, give bit for bit the losses of a run that was not."""

import functools
import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from tests.train.test_processes import finish, start, wait_for
from xmodal_jax.train.progress import read_jsonl

WORDS = "dog cat bird horse car boat tree house ball".split()


def shards(folder, kind):
    """40 pictures in three files, and 10 for evaluation."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for name, count in (("train-0", 14), ("train-1", 13), ("train-2", 13), ("val-0", 10)):
        rows = []
        for _ in range(count):
            buffer = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(buffer, "PNG")
            rows.append((buffer.getvalue(), f"a {rng.choice(WORDS)} beside a {rng.choice(WORDS)}"))
        if kind == "webdataset":
            with tarfile.open(folder / f"{name}.tar", "w") as file:
                for n, (data, text) in enumerate(rows):
                    for suffix, value in (("png", data), ("txt", text.encode())):
                        info = tarfile.TarInfo(f"{n}.{suffix}")
                        info.size = len(value)
                        file.addfile(info, io.BytesIO(value))
        else:
            pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
            images = [{"bytes": data, "path": None} for data, _ in rows]
            pq.write_table(
                pa.table({"image": images, "caption": [text for _, text in rows]}), folder / f"{name}.parquet", row_group_size=4
            )
    return folder


def losses(folder):
    lines = [line for line in read_jsonl(f"{folder}/metrics.jsonl") if "train/loss" in line]
    return {line["step"]: line["train/loss"] for line in lines}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "processes"), [(kind, count) for count in (1, 2, 4) for kind in ("webdataset", "parquet")])
def test_killed_and_started_again(tmp_path, kind, processes):
    settings = [
        f"--config=configs/search.py:debug,data={kind},path={shards(tmp_path / 'data', kind)}",
        "--config.total_steps=8", "--config.log_every=1", "--config.checkpoint_every=2", "--config.evaluators={}",
        "--config.examples.tokenizer=words:1",
    ]  # fmt: skip
    begin = functools.partial(start, processes, settings=settings, module="tests.train.patient")
    whole, killed = str(tmp_path / "whole"), str(tmp_path / "killed")
    finish(begin(whole), whole)
    running = begin(killed)
    wait_for(running, killed, 4)
    for process in running:
        process.kill()
        process.wait()
    assert 4 <= max(losses(killed)) <= 8
    finish(begin(killed), killed)
    assert losses(killed) == losses(whole) and sorted(losses(whole)) == list(range(1, 9))

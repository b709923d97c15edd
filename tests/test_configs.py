"""Every config file and its main arguments: built, compiled once, two steps of finite loss."""

import json
import math
import pathlib
import sys

import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags
from PIL import Image

from tests import runs, test_caption_run, test_compress_run, test_search_run, test_vqa_run, test_zoo_run
from xmodal_jax.config import load_config
from xmodal_jax.data.sources import SOURCES, required_settings, source_settings
from xmodal_jax.systems import recipe
from xmodal_jax.train import loop, progress, report

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted((ROOT / "configs").glob("*.py"))
SMALL = {  # examples
    "pretrain": {"examples.text_length": 40, "examples.target_length": 24, "examples.caption_length": 24},
    "caption": {"examples.length": 12, "data.count": 40},
    "search": {"examples.length": 12, "data.count": 40},
    "compress": {"examples.length": 12, "data.count": 40, "compress.epochs": 0},
    "zoo": {"examples.length": 12, "data.count": 40},
    "vqa": {"examples.length": 12, "data.count": 40, "model.image.channels": "(4, 0, 8, 0, 8, 0)"},
}
GATE = [pytest.mark.slow, pytest.mark.gate]
RUNS = {
    "pretrain": runs.pretrain_config,
    "caption": test_caption_run.small,
    "search": test_search_run.small,
    "compress": test_compress_run.small,
    "vqa": test_vqa_run.small,
    "zoo": test_zoo_run.small,
}


def parsed(file, arguments, *overrides):
    """The config as the command line makes it, in the smallest sizes."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", lock_config=True, flag_values=values)
    small = {
        "total_steps": 2, "log_every": 1, "checkpoint_every": 2, "batch_size": 2,
    } | SMALL[file.stem]  # fmt: skip
    settings = [f"--config.{name}={value}" for name, value in small.items()]
    line = ["test", f"--config={file}:{','.join(('debug', *arguments))}", *settings, *(f"--config.{o}" for o in overrides)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", line)  # where ml_collections looks for overrides
        values(line)
    with values.config.unlocked():
        values.config.evaluators = {}
    return values.config


def run(config, folder, monkeypatch):
    """Train; -> (losses, programs compiled before each step and at the end)."""
    with runs.counted_steps() as seen:
        monkeypatch.setattr(report, "write_report", lambda *args, **kwargs: seen.append(runs.compilations[0]))
        assert loop.train(recipe.make(config), str(folder)) == {}
    return losses_in(folder), seen


def losses_in(folder):
    lines = progress.read_jsonl(f"{folder}/metrics.jsonl")
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert all(loss is not None and math.isfinite(loss) for loss in losses)
    return losses


def check(config, folder, monkeypatch):
    losses, seen = run(config, folder, monkeypatch)
    assert len(losses) == 2
    assert len(seen) == 3 and seen[0] > 0 and seen[1] == seen[2], "nothing is compiled after the first step"


@pytest.fixture(scope="module")
def folder_of_pictures(tmp_path_factory):
    """Twelve pictures with two captions each."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    with open(folder / "captions.jsonl", "w", encoding="utf-8") as file:
        for i in range(12):
            Image.fromarray(rng.integers(0, 256, (20 + i, 40, 3)).astype(np.uint8)).save(folder / f"{i}.png")
            captions = [f"a dog and a cat near a {'boat' if i % 2 else 'tree'}", "one dog runs"]
            row = {"image": f"{i}.png", "captions": captions, "split": "train" if i < 8 else "val"}
            file.write(json.dumps(row) + "\n")
    return folder


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_config_file_trains(file, trained):
    """As the command line makes it it builds, and the run that other files look at was trained by one program."""
    parts = recipe.make(parsed(file, []))
    assert parts.config.total_steps == len(parts.batches[0]["image" if file.stem != "pretrain" else "second"]) == 2
    config = RUNS[file.stem]()
    folder, _, seen = trained(config)
    assert len(losses_in(folder)) == config.total_steps // config.log_every
    assert len(seen) == config.total_steps and seen[0] > 0 and len(set(seen[1:])) == 1, "nothing is compiled after a step"


PRETRAIN, CAPTION, VQA = (ROOT / "configs" / f"{name}.py" for name in ("pretrain", "caption", "vqa"))


@pytest.mark.parametrize(
    ("arguments", "overrides"),
    [
        pytest.param(["second=audio", "image_size=32"], ["model.reducer=slots", "examples.answer_share=0.3"],
                     marks=pytest.mark.slow),
        pytest.param(["second=audio", "image_size=32"], [], marks=pytest.mark.slow),
        pytest.param(["image_bytes=file", "image_size=32", "variant=none"], ["examples.file_length=512"],
                     marks=pytest.mark.slow),
        pytest.param(["image_size=32"], ["model.reducer=slots", "model.stem=patch", "examples.answer_share=0.3"],
                     marks=pytest.mark.slow),
        pytest.param(["image_size=32"], ["model.reducer=merge"], marks=pytest.mark.slow),
        pytest.param(["image_size=32"], ["model.reducer=none"], marks=pytest.mark.slow),
        pytest.param(["image_size=32"], ["ema=0.9", "loader.workers=1"], marks=pytest.mark.slow),
        pytest.param(["image_size=32"], ["precision=compute=bfloat16"], marks=pytest.mark.slow),
        pytest.param(["image_size=32"], ["accumulate=2"],
                     marks=pytest.mark.slow),
        pytest.param(["image_size=224", "variant=third"], [], marks=pytest.mark.slow),
        pytest.param(["image_size=32", "lang=ko", "variant=dictionary"], ["model.text_window=4"],
                     marks=pytest.mark.slow),
    ],
    ids=lambda values: ",".join(v.rpartition(".")[2] for v in values if "size" not in v) or "default",
)  # fmt: skip
def test_arguments_and_overrides_train(arguments, overrides, tmp_path, monkeypatch):
    check(parsed(PRETRAIN, arguments, *overrides), tmp_path, monkeypatch)


@pytest.mark.parametrize("bytes_of", [pytest.param("file", marks=GATE), pytest.param("raw", marks=pytest.mark.slow)])
def test_ones_own_pictures_train(folder_of_pictures, tmp_path, monkeypatch, bytes_of):
    arguments = ["captions", f"path={folder_of_pictures}", f"image_bytes={bytes_of}", "image_size=32", "variant=none"]
    config = parsed(PRETRAIN, arguments, "examples.file_length=512")
    assert config.data.source == "captions" and config.examples.third == config.examples.gloss == 0
    check(config, tmp_path, monkeypatch)


def test_the_warm_up_of_the_prior_is_half_of_the_run_that_was_asked_for():
    assert parsed(CAPTION, ["vae"], "total_steps=500").objectives.kl.warmup == 250
    assert parsed(CAPTION, ["vae"], "objectives.kl.warmup=7", "total_steps=500").objectives.kl.warmup == 7


@pytest.mark.parametrize("method", ["baseline", "vae", "vae_cl", "dual_encoder"])
def test_captioners_train_as_long_as_the_paper_did(method):
    config = load_config(str(CAPTION), f"{method},scale=paper")
    assert (config.batch_size, config.total_steps) == (48, 31250) and 48 * 31250 == 30 * 50_000  # epochs, pairs
    assert config.optimizer.learning_rate == 1e-5 and config.optimizer.schedule == "cosine"
    assert config.examples.image_size == 224


def test_large_scales_have_the_sizes_of_large_checkpoints():
    def sizes(section):
        return section.width, section.heads, section.layers

    caption, dual = (load_config(str(CAPTION), f"{method},scale=large").model for method in ("vae_cl", "dual_encoder"))
    assert (caption.image.name, caption.image.patch) == ("vit", 16) and sizes(caption.decoder) == (1280, 20, 36)
    vqa = load_config(str(VQA), "data=vqa2,scale=large,text=deberta_v3,image=beit")
    assert vqa.model.image.patch == 16 and vqa.examples.image_size == 384 and vqa.objectives.answering.targets == "hard"
    for section in (caption.image, dual.image, dual.text, vqa.model.image, vqa.model.text):
        assert sizes(section) == (1024, 16, 24)


@pytest.mark.parametrize(
    ("text", "batch_size", "steps", "answers", "optimizer"),
    [("lstm", 32, 138_500, 1000, "adam"), ("gru", 32, 138_500, 1000, "adam")]
    + [(text, 16, 277_000, 3128, "adamw") for text in ("bert", "roberta", "deberta_v3")],
)
def test_question_answerers_train_as_long_as_the_source_did(text, batch_size, steps, answers, optimizer):
    config = load_config(str(VQA), f"data=vqa2,scale=paper,text={text}")
    assert (config.batch_size, config.total_steps, config.examples.answers) == (batch_size, steps, answers)
    assert round(batch_size * steps / 443_757, 1) == 10  # epochs of VQA v2's training questions
    assert (config.optimizer.name, config.optimizer.learning_rate) == (optimizer, 2e-5)
    assert config.examples.image_size == 384 and config.objectives.answering.targets == "hard"


@pytest.mark.parametrize(
    ("arguments", "overrides"),
    [
        pytest.param(["baseline"], ["objectives.naming.weight=1.0"], marks=pytest.mark.slow),
        pytest.param(["vae", "latent=cls"], ["objectives.kl.free_bits=0.1", "objectives.kl.warmup=10", "ema=0.9"], marks=GATE),
        pytest.param(["vae_cl", "image=vit"], ["model.contrast_on=latent", "accumulate=2"], marks=pytest.mark.slow),
        pytest.param(["vae_cl", "latent=patch_concat"], ["model.eos_source=decoder_final"], marks=pytest.mark.slow),
        pytest.param(["dual_encoder"], ["examples.tokenizer=bpe:400"], marks=pytest.mark.slow),
        pytest.param(["vae_cl"], ["model.eos_source=unimodal_half", "model.decoder.layers=2", "model.decoder.unimodal=1"],
                     marks=pytest.mark.slow),
    ],
    ids=lambda values: ",".join(v.rpartition(".")[2] for v in values),
)  # fmt: skip
def test_captioners_train(arguments, overrides, tmp_path, monkeypatch):
    check(parsed(CAPTION, arguments, *overrides), tmp_path, monkeypatch)


@pytest.mark.parametrize("source", SOURCES)
def test_every_setting_of_a_source_can_be_overridden(source):
    required = [f"{'path' if name in ('path', 'annotations') else name}=here" for name in required_settings(source)]
    found = parsed(PRETRAIN, [f"data={source}", *required], "data.lang=ko" if source == "captions" else "seed=1").data
    assert set(found) == {"source", *source_settings(source)} - {"size", "fields", "file_bytes"}
    if source == "scenes":
        assert parsed(PRETRAIN, [], "data.count=40", "data.seed=7").data.count == 40
    if source == "captions":
        assert found.lang == "ko"


def test_variants_switch_their_claims():
    shares = {name: parsed(PRETRAIN, [f"variant={name}"]).examples for name in ("none", "third", "dictionary", "both")}
    assert {name: (s.third > 0, s.gloss > 0) for name, s in shares.items()} == {
        "none": (False, False), "third": (True, False), "dictionary": (False, True), "both": (True, True),
    }  # fmt: skip

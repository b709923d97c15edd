"""A captioner's run of seconds, then everything that its folder offers; and the cells of its tables."""

import dataclasses
import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest

from configs.caption import get_config
from xmodal_jax import evaluators
from xmodal_jax.errors import UserError
from xmodal_jax.systems import recipe
from xmodal_jax.tables import caption_vae_cl, runner
from xmodal_jax.train import mesh as layout
from xmodal_jax.train import progress
from xmodal_jax.train.program import state_maker


def small(arguments="debug"):
    config = get_config(arguments)
    config.total_steps, config.checkpoint_every, config.log_every, config.batch_size = 4, 2, 2, 4
    config.data.count, config.examples.length, config.ema, config.eval_at_start = 24, 10, 0.5, True
    chosen = config.evaluators.captioning.get("choose_by", "score")
    config.evaluators = {"captioning": {"count": 5, "beams": 2, "choose_by": chosen}} | dict.fromkeys(
        ("retrieval", "latent"), {"count": 5}
    )
    return config


def test_results_hold_the_metrics_and_what_needs_no_picture(run):
    folder, results = run
    names = [f"captioning/{name}" for name in ("bleu4", "ciderD", "meteor", "frequent/ciderD", "random/bleu4")]
    for name in (*names, "retrieval/i2t_r5", "retrieval/gap", "latent/active_units", "latent/collapsed"):
        assert np.isfinite(results[name]), name
    with open(f"{folder}/samples.jsonl", encoding="utf-8") as file:
        samples = [json.loads(line) for line in file]
    assert {"caption", "retrieval"} == {sample["kind"] for sample in samples} and samples[0]["references"]


def test_the_gap_between_the_modalities_is_measured_before_and_after(run, tmp_path):
    results, folder = run[1], str(tmp_path)
    shutil.copy(f"{run[0]}/metrics.jsonl", folder)
    lines = progress.read_jsonl(f"{folder}/metrics.jsonl")
    assert lines[0]["step"] == 0 and lines[0]["retrieval/gap"] == results["retrieval/gap_before"] != results["retrieval/gap"]
    progress.Progress(folder, 4, 2, tensorboard=False).close()  # goes on from step 2
    assert {line["step"] for line in progress.read_jsonl(f"{folder}/metrics.jsonl")} == {0, 2}
    progress.Progress(folder, 4, 0, tensorboard=False).close()  # begins anew: evaluates anew
    assert not progress.read_jsonl(f"{folder}/metrics.jsonl")


def test_a_loaded_captioner_writes_what_the_run_wrote(run, model, held_out):
    with open(f"{run[0]}/samples.jsonl", encoding="utf-8") as file:
        told = [json.loads(line) for line in file]
    told = {sample["id"]: sample["answer"] for sample in told if sample["kind"] == "caption"}
    examples = [held_out[i] for i in range(len(held_out)) if held_out[i]["id"] in told]
    told = [told[example["id"]] for example in examples]
    assert len(told) == 5
    assert model.caption(examples, beams=2) == told
    assert model.caption(examples[0]["image"], beams=2) == told[0]  # alone, as an array


def test_n_best_samples_and_seeds(model, held_out):
    (texts, scores), *_ = model.candidates([held_out[0]], beams=3, returned=3)
    assert len(texts) == 3 and (np.diff(scores) <= 0).all()
    one, again, other = (model.caption(held_out[0], sample=True, returned=4, seed=seed) for seed in (1, 1, 2))
    assert one == again != other and len(one) == 4
    with pytest.raises(UserError, match="beams"):
        model.caption(held_out[0], beams=0)
    with pytest.raises(UserError, match="has no answer. It has caption, "):
        model.answer(held_out[0], "what?")


def test_the_unknown_word_is_never_written(model, held_out):
    unknown, params = model.maker.tokenizer.unk_token_id, jax.tree.map(np.array, model.params)
    words = params["decoder"]["words"]["embedding"]  # [V, D]
    words[unknown] *= 10
    params["decoder"]["decoder"]["norm"]["bias"] += 100 * words[unknown]  # now it is the likeliest everywhere
    likes_it, picture = type(model)(model.model, params, model.maker), held_out[0]
    word = model.maker.tokenizer.unk_token
    assert word in likes_it.caption(picture, suppress=())
    for settings in ({}, {"beams": 2}, {"sample": True}):
        text = likes_it.caption(picture, **settings)
        assert text and word not in text


def test_where_a_caption_looks(model, held_out):
    text = model.maker.text([*model.maker.ids("a a ."), model.maker.end])
    words, weights = model.look(held_out[0], text)
    assert words[:2] == ["a", "a"] and weights.shape == (4, 16)  # the end mark too; a grid of 4 x 4
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    _, again = model.look(held_out[0], "a a a a a")
    np.testing.assert_allclose(weights[:2], again[:2], atol=1e-6)  # what follows changes nothing


def test_vectors_are_of_unit_length_and_latents_are_means(model, held_out):
    images, texts = model.pooled([held_out[0], held_out[1]], ["a dog", "a red car", "one cat"])
    np.testing.assert_allclose(np.linalg.norm(np.concatenate([images, texts]), axis=1), 1, rtol=1e-4)
    assert images.shape[0] == 2 and texts.shape[0] == 3
    mu, log_variance = model.latents([held_out[0], held_out[1]])
    assert mu.shape == log_variance.shape and mu.shape[0] == 2


@pytest.mark.parametrize(
    ("choose_by", "neighbours"), [pytest.param("consensus", 0, marks=pytest.mark.slow), ("consensus", 20), ("retrieve", 0)]
)
def test_other_ways_to_choose_a_caption(model, choose_by, neighbours):
    parts = recipe.make(small())
    settings = {"captioning": {"count": 3, "choose_by": choose_by, "candidates": 2, "beams": 2, "neighbours": neighbours}}
    parts = dataclasses.replace(parts, config=parts.config.copy_and_resolve_references())
    parts.config.evaluators = settings
    results, samples = evaluators.make(parts)(model.params)
    assert np.isfinite(results["captioning/ciderD"])
    training = {text for i in range(len(parts.train)) for text in parts.train.captions(i)[0]}
    if choose_by == "retrieve" or neighbours:  # twenty pictures' captions outvote four hypotheses of an untrained model
        assert all(sample.answer in training for sample in samples)


def test_scenes_are_not_mirrored_for_their_captions_say_left_and_right():
    parts = recipe.make(small())
    said = " ".join(text for i in range(len(parts.train)) for text in parts.train.captions(i)[0]).split()
    assert "left" in said and "right" in said
    for position in range(20):
        example = parts.train[position % 3]
        np.testing.assert_array_equal(parts.maker(example, position)["image"], example["image"])


def test_every_cell_of_the_captioning_tables_is_a_config_that_builds():
    config = small()
    cells = caption_vae_cl.GRID.cells(config)
    shown = {cell for rows in caption_vae_cl.GRID.tables(cells).values() for cell in rows.values()}
    assert shown == set(cells) and set(caption_vae_cl.PUBLISHED) <= set(cells) and len(caption_vae_cl.PUBLISHED) == 14
    made = [runner.changed(config, cells[name]) for name in ("baseline-cl", "vae-cls-64", "vae_cl-patch-768")]
    made += [runner.changed(config, cells["vae_cl-patch-128-literal"]), small(f"debug,{cells['dual_encoder']['arguments']}")]
    for one in made:
        parts = recipe.make(one)
        mesh = layout.make_mesh({}, jax.devices()[:1])
        with jax.set_mesh(mesh):
            assert state_maker(parts, mesh)[1].params
    paper = get_config("scale=paper")
    rates = {name: cell.get("optimizer.learning_rate", 1e-5) for name, cell in caption_vae_cl.GRID.cells(paper).items()}
    assert {rate for name, rate in rates.items() if "cls" in name} == {1e-4}
    assert {rate for name, rate in rates.items() if "cls" not in name} == {1e-5}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("bert", "BERT"),
        pytest.param("roberta", "BERT", marks=pytest.mark.slow),
        pytest.param("deberta_v3", "DeBERTa", marks=pytest.mark.slow),
    ],
)
def test_a_dual_encoder_retrieves_and_cannot_write(text, kind):
    parts = recipe.make(small(f"debug,dual_encoder,text={text}"))
    model = parts.model
    assert type(model.text).__name__ == kind and model.decoder is None
    params = jax.jit(model.init)(jax.random.PRNGKey(0), parts.example_batch(1))["params"]
    assert "decoder" not in params and "text" in params
    results, samples = evaluators.make(parts)(params)
    training = {text for i in range(len(parts.train)) for text in parts.train.captions(i)[0]}
    told = [sample.answer for sample in samples if sample.kind == "caption"]
    assert told and set(told) <= training and np.isfinite(results["captioning/ciderD"])
    predictor = parts.predictor(params)
    _, vectors = predictor.pooled(texts=["a dog", "a dog", "two red cars"])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    assert np.abs(vectors[0] - vectors[2]).max() > 1e-3
    with pytest.raises(UserError, match="has no caption. It has embed_images"):
        predictor.caption(parts.held_out[0])


def test_words_need_a_decoder():
    config = small("debug,dual_encoder")
    config.objectives.captioning.weight = 1.0
    with pytest.raises(UserError, match="needs a decoder"):
        recipe.make(config)


def test_a_table_stands_beside_the_published_figures_and_goes_on(tmp_path, monkeypatch):
    trained = []

    def train(config, folder, split, is_stopped):
        trained.append(folder)
        results = {"captioning/bleu4": 0.5 + config.seed / 10, "captioning/meteor": 0.2}
        return results

    monkeypatch.setattr(runner, "train", train)
    monkeypatch.setattr(runner, "finished", lambda folder, config: None)
    chosen = ["baseline", "vae_cl-patch-128"]
    runner.run(caption_vae_cl.GRID, small(), str(tmp_path), seeds=2, chosen=chosen)
    text = (tmp_path / "table.md").read_text()
    assert len(trained) == 4 and "| 55.0 ± 7.1 |" in text and "|   published | 12.1 | 46.4 | 44.7 | 39.9 |" in text
    with pytest.raises(UserError, match="did you mean 'baseline'"):
        runner.run(caption_vae_cl.GRID, small(), str(tmp_path), 1, ["basline"])


def test_a_table_told_to_stop_while_a_cell_is_evaluated_trains_no_other(tmp_path, monkeypatch):
    trained = []

    def train(config, folder, split, is_stopped):
        if is_stopped(0):
            return None
        trained.append(folder)
        os.kill(os.getpid(), signal.SIGTERM)  # after its last step
        return {"captioning/bleu4": 0.5}

    monkeypatch.setattr(runner, "train", train)
    before = signal.getsignal(signal.SIGTERM)
    values = runner.run(caption_vae_cl.GRID, small(), str(tmp_path), seeds=2, chosen=["baseline", "vae_cl-patch-128"])
    assert len(trained) == 1 and values["baseline"] == {"captioning/bleu4": [0.5]} and (tmp_path / "table.md").exists()
    assert signal.getsignal(signal.SIGTERM) == before

"""A question answerer's run of seconds, then everything that its folder offers; and the cells of its table."""

import collections
import json
import pathlib
import types

import jax
import numpy as np
import pytest
from PIL import Image

from configs.vqa import get_config
from xmodal_jax.data.answering import usual
from xmodal_jax.decoding.answers import submission
from xmodal_jax.errors import UserError
from xmodal_jax.evaluators import blind
from xmodal_jax.evaluators.answering import AnsweringEvaluator
from xmodal_jax.systems import recipe
from xmodal_jax.tables import runner, vqa_ume
from xmodal_jax.train import loop
from xmodal_jax.train import mesh as layout
from xmodal_jax.train.program import state_maker


def small(arguments=""):
    config = get_config(f"debug,{arguments}")
    config.total_steps, config.checkpoint_every, config.log_every, config.batch_size = 4, 2, 2, 4
    config.data.count, config.ema, config.model.hidden, config.model.fusion.width = 24, 0.5, 16, 16
    if "image=" not in arguments:
        config.model.image.channels = (4, 0, 8, 0, 8, 0)
    if "text=" not in arguments:
        config.model.text.width = 8
    for tower in (config.model.image, config.model.text):
        if "layers" in tower:
            tower.layers = 1
    config.evaluators = {"answering": {"count": 5, "samples": 3}}
    return config


def lines(path):
    return [json.loads(line) for line in pathlib.Path(path).read_text("utf-8").splitlines()]


def test_results_hold_accuracy_by_type_and_what_needs_no_picture(run):
    folder, results = run
    for name in ("accuracy", "accuracy/exists", "accuracy/count", "frequent", "frequent_for_question"):
        assert 0 <= results[f"vqa/{name}"] <= 1, name
    samples = lines(f"{folder}/samples.jsonl")
    assert len(samples) == 3 and all(sample["kind"] == "answer" and sample["truth"] for sample in samples)
    assert "Grad-CAM" in pathlib.Path(folder, "report.html").read_text("utf-8")


def test_a_loaded_model_answers_as_the_run_did(run, model, held_out):
    samples = {sample["id"]: sample for sample in lines(f"{run[0]}/samples.jsonl")}
    examples = [held_out[i] for i in range(len(held_out)) if held_out[i]["id"] in samples]
    asked = [samples[e["id"]]["question"] for e in examples]
    assert model.answer(examples, asked) == [samples[e["id"]]["answer"] for e in examples]
    assert model.answer(examples[0]["image"], asked[0]) == samples[examples[0]["id"]]["answer"]  # alone, as an array
    best = model.answers(examples, asked, 3)[0]
    assert len(best) == 3 and best[0][1] >= best[1][1] >= best[2][1] and set(dict(best)) <= set(model.maker.answers)
    assert model.answer(examples[:1], asked[0], returned=2) == [[answer for answer, _ in best[:2]]]


def test_what_an_answer_rests_on(model, held_out):
    example = held_out[0]
    question = example["questions"][0]["question"]
    likeliest = model.answer(example, question)
    seen = model.grad_cam(example, question)
    assert seen.shape == (8, 8) and seen.min() >= 0 and (seen.max() == 0 or abs(seen.max() - 1) < 1e-5)
    np.testing.assert_allclose(seen, model.grad_cam(example, question, likeliest))
    words, weights = model.pairs(example, question)
    assert " ".join(words[1:]) == " ".join(question.replace("?", " ?").split()) and weights.shape == (len(words), 8, 8)
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-5)
    with pytest.raises(UserError, match="not among"):
        model.grad_cam(example, question, "nobody says this")


def test_explain_draws_two_runs(run, held_out, tmp_path, command, capsys):
    Image.fromarray(held_out[0]["image"]).save(tmp_path / "a.png")
    given = [f"--workdir={run[0]}", f"--beside={run[0]}", f"--image={tmp_path}/a.png", f"--out={tmp_path}/out.png"]
    command("explain", *given, "--question=how many things are there?", "--truth=2")
    assert capsys.readouterr().out.count(run[0]) == 2
    assert min(Image.open(tmp_path / "out.png").size) > 300
    with pytest.raises(UserError, match="--question"):
        command("explain", *given)


def test_a_submission_answers_every_question(model, held_out):
    found = submission(model, held_out, rows=7)
    asked = [(i, question) for i in range(len(held_out)) for question in held_out.questions(i)]
    assert [row["question_id"] for row in found] == [question["id"] for _, question in asked]
    i, question = asked[-1]
    assert found[-1]["answer"] == model.answer(held_out[i], question["question"])
    assert {row["answer"] for row in found} <= set(model.maker.answers)


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluate_submits_answers_to_the_questions_of_the_split(run, model, split, tmp_path, command):
    command("evaluate", f"--workdir={run[0]}", f"--split={split}", f"--submission={tmp_path}/answers.json")
    source = recipe.make(small(), split=split).held_out
    asked = [(source[i], question) for i in range(len(source)) for question in source.questions(i)]
    answers = model.answer([example for example, _ in asked], [question["question"] for _, question in asked])
    found = json.loads((tmp_path / "answers.json").read_text("utf-8"))
    assert found == [{"question_id": q["id"], "answer": answer} for (_, q), answer in zip(asked, answers, strict=True)]
    assert all(row["question_id"].startswith(f"scenes/{split}/") for row in found)


def test_what_the_model_does_not_take_is_refused(model, held_out):
    with pytest.raises(UserError, match="has no caption. It has answer"):
        model.caption(held_out[0])
    with pytest.raises(UserError, match="takes no beams"):
        model.answer(held_out[0], "where is the cat?", beams=3)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param("text=bert,image=vit,third=caption", marks=pytest.mark.slow),
        pytest.param("text=deberta_v3,image=beit,fusion=attention", marks=pytest.mark.slow),
        pytest.param("text=gru,image=convit,third=sound", marks=pytest.mark.slow),
    ],
)
def test_other_encoders_and_a_third_modality_learn_and_explain(arguments, tmp_path):
    config = small(arguments)
    config.checkpoint_every, config.model.mix_layers = 4, "vit" in arguments
    results = loop.train(recipe.make(config), str(tmp_path))
    assert 0 <= results["vqa/accuracy"] <= 1


@pytest.mark.slow
def test_the_loss_goes_down_on_what_is_seen(tmp_path):
    config = small()
    config.total_steps, config.log_every, config.data.count, config.optimizer.learning_rate = 80, 10, 2, 1e-2
    loop.train(recipe.make(config), str(tmp_path))
    losses = [row["train/loss"] for row in lines(tmp_path / "metrics.jsonl") if "train/loss" in row]
    assert np.mean(losses[-3:]) < 0.7 * losses[0], losses


def test_every_cell_of_the_table_is_a_config_that_builds():
    config = small()
    cells = vqa_ume.GRID.cells(config)
    shown = {cell for rows in vqa_ume.GRID.tables(cells).values() for cell in rows.values()}
    assert shown == set(cells) and set(vqa_ume.GRID.published) <= set(cells) and len(vqa_ume.GRID.published) == 11
    mesh = layout.make_mesh({}, jax.devices()[:1])
    for name in ("lstm-vgg-bilinear", "roberta-beit-product", "deberta_v3-vit-ume", "lstm-vgg-ume-no-question"):
        parts = recipe.make(small(cells[name]["arguments"]))
        with jax.set_mesh(mesh):
            assert state_maker(parts, mesh)[1].params
    paper = {text: get_config(f"scale=paper,text={text}") for text in ("lstm", "bert")}
    assert [c.batch_size for c in paper.values()] == [32, 16] and paper["lstm"].optimizer.name == "adam"
    assert {c.objectives.answering.targets for c in paper.values()} == {"hard"}
    assert [c.examples.answers for c in paper.values()] == [1000, 3128] and paper["bert"].examples.image_size == 384


@pytest.mark.parametrize(
    "arguments", ["", "text=deberta_v3,image=beit,fusion=bilinear", "text=roberta,image=resnet,third=sound"]
)
def test_every_array_has_a_sharding_rule_that_divides(arguments):
    config = small(arguments)
    config.model.mix_layers = True
    if config.model.fusion.name == "ume":
        config.model.fusion.gate = True
    parts, mesh = recipe.make(config), types.SimpleNamespace(shape={"data": 2, "fsdp": 2, "tensor": 2})
    one = layout.make_mesh({}, jax.devices()[:1])
    with jax.set_mesh(one):
        shapes = state_maker(parts, one)[1]
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        layout.partition(layout.path_of(path), leaf.shape, mesh)


def test_a_table_makes_each_cell_from_its_arguments(tmp_path, monkeypatch):
    trained = {}

    def train(config, folder, split, is_stopped):
        trained[folder.rpartition("/")[2]] = config
        return {"vqa/accuracy": 0.5 + config.seed / 10}

    monkeypatch.setattr(runner, "train", train)
    runner.run(vqa_ume.GRID, small(), str(tmp_path), 2, ["bert-vit-ume", "lstm-vgg-ume-no-image"], small)
    assert trained["bert-vit-ume-0"].model.text.name == "bert" and trained["bert-vit-ume-1"].seed == 1
    assert trained["lstm-vgg-ume-no-image-0"].examples.blind == "image"
    text = (tmp_path / "table.md").read_text()
    assert "| 55.0 ± 7.1 |" in text and "|   published | 55.33 ± 1.32 |" in text


def test_controls_are_blind():
    for control, others in (("image", "question"), ("question", "image")):
        parts = recipe.make(small(f"blind={control}"))
        one, two = (parts.maker(parts.train[i], 3) for i in (0, 1))
        assert (one[control] == two[control]).all() and not (one[others] == two[others]).all()


def test_evaluator_knows_the_frequent_answers():
    parts = recipe.make(small())
    judge = AnsweringEvaluator(parts, count=3)
    kinds = [question["type"] for _, question in judge.asked]
    assert len(judge.trivial["frequent"]) == len(kinds) and "exists" in kinds
    counts = collections.Counter(
        usual(question["answers"]) for i in range(len(parts.train)) for question in parts.train.questions(i)
        if question["type"] == "exists"
    )  # fmt: skip
    assert judge.trivial["frequent"][kinds.index("exists")] == counts.most_common(1)[0][0]
    same = parts.train.questions(0)[0]["question"]
    words = collections.Counter(
        usual(question["answers"]) for i in range(len(parts.train)) for question in parts.train.questions(i)
        if question["question"] == same
    )  # fmt: skip
    training = [(question, "en") for i in range(len(parts.train)) for question in parts.train.questions(i)]
    asked = [({"question": same, "answers": ["?"], "type": "exists"}, "en")]
    assert words[blind.answers(training, asked)["frequent_for_question"][0]] == max(words.values())

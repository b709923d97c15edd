"""What a question answerer says, draws and submits, against answers and weights that are known for every picture."""

import types

import numpy as np
import pytest
from PIL import Image

from tests.decoding import colours
from tests.decoding.colours import COLOURS, QUESTION, RARE, SIDE, Colours, cell_of, picture_of
from xmodal_jax import api
from xmodal_jax.decoding.answers import submission
from xmodal_jax.draw import explanation as drawn
from xmodal_jax.evaluators.answering import AnsweringEvaluator
from xmodal_jax.models.backbones.vit import ViT


@pytest.fixture(scope="module")
def model():
    return colours.make()


@pytest.fixture(scope="module")
def confused():
    """It takes one colour for another."""
    return colours.make(seen_as={"red": "green", "green": "blue", "blue": "red"})


def only(cell):
    """A map that is 1 in one cell."""
    found = np.zeros((SIDE, SIDE), np.float32)
    found[cell] = 1
    return found


def test_answers_stand_in_the_order_of_their_probabilities(model):
    for i, found in enumerate(model.answers([picture_of(i) for i in range(3)], [QUESTION] * 3, 6)):
        assert [answer for answer, _ in found] == [*(COLOURS[(i + place) % 3] for place in range(3)), *RARE]
        assert sum(share for _, share in found) == pytest.approx(1)
    assert model.answer([picture_of(i) for i in range(3)], QUESTION) == list(COLOURS)


@pytest.mark.parametrize("i", range(3))
def test_grad_cam_is_of_the_answer_that_is_asked_for_else_of_the_likeliest(model, i):
    for colour in COLOURS:
        np.testing.assert_allclose(model.grad_cam(picture_of(i), QUESTION, colour), only(cell_of(i, colour)))
    np.testing.assert_allclose(model.grad_cam(picture_of(i), QUESTION), only(cell_of(i, COLOURS[i])))
    assert not model.grad_cam(picture_of(i), QUESTION, "pink").any()


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("image", [None, ViT(width=4, heads=1, layers=1, patch=1, grid=(SIDE, SIDE))], ids=["grid", "vit"])
def test_the_weight_of_a_word_and_a_place_is_drawn_there(image, everything):
    words, weights = colours.make(image, everything, caption=True).pairs(Colours()[0], QUESTION)
    assert words[1:] == ["what", "colour", "is", "most", "of", "it", "?"]
    t, y, x = np.indices((8, SIDE, SIDE))
    np.testing.assert_array_equal(weights, 100 * t + SIDE * y + x)


def test_the_likeliest_answer_is_scored_and_shown(model, confused):
    source = Colours()
    results, samples = AnsweringEvaluator(types.SimpleNamespace(held_out=source, train=source), 0).run(model)
    assert results["vqa/accuracy"] == results["vqa/accuracy/colour"] == 0.5  # of a rare answer nobody can know
    assert results["vqa/questions"] == 6
    for sample in samples:
        i, heat = int(sample.id), dict(sample.heat)
        assert sample.answer == sample.candidates[0].text == COLOURS[i % 3] and sample.correct == (i < 3)
        np.testing.assert_allclose(heat["Grad-CAM"], only(cell_of(i, sample.answer)))
    assert AnsweringEvaluator(types.SimpleNamespace(held_out=source, train=source), 0).run(confused)[0]["vqa/accuracy"] == 0


def test_a_submission_names_each_question_beside_its_own_answer():
    class Asked(Colours):
        def questions(self, i):
            return [{"question": f"{i}, {n}?", "answers": [], "id": 1000 - 10 * i - n} for n in range(i % 3)]

    class Repeats:
        def answers(self, images, questions, count):
            said = [f"{image['id']}: {question}" for image, question in zip(images, questions, strict=True)]
            return [[(text, 0.7), ("no", 0.3)][:count] for text in said]

    wanted = {1000 - 10 * i - n: f"{i}: {i}, {n}?" for i in range(6) for n in range(i % 3)}
    for rows in (1, 4, 128):
        found = submission(Repeats(), Asked(), rows)
        assert {row["question_id"]: row["answer"] for row in found} == wanted and len(found) == len(wanted)
        assert all(set(row) == {"question_id", "answer"} for row in found)


@pytest.mark.parametrize("asked", [None, "red", " The RED."])
def test_explain_draws_the_answer_that_it_names(model, confused, asked, tmp_path, monkeypatch, command, capsys):
    Image.fromarray(picture_of(0)).save(tmp_path / "a.png")
    monkeypatch.setattr(api, "load", {"one": model, "other": confused}.get)
    kept, draw = [], drawn.explanation
    monkeypatch.setattr(drawn, "explanation", lambda *args: kept.append(args) or draw(*args))
    given = ["--workdir=one", "--beside=other", f"--image={tmp_path}/a.png", f"--out={tmp_path}/out.png"]
    command("explain", *given, f"--question={QUESTION}", *([] if asked is None else [f"--answer={asked}"]))
    ((image, question, panels),) = kept
    np.testing.assert_array_equal(image, picture_of(0))
    assert question == QUESTION
    # Of picture 0 green has most light, then blue, then red; the second model calls green blue, and blue red.
    wanted = ["green", "blue"] if asked is None else ["red", "red"]
    places = [cell_of(0, "green")] * 2 if asked is None else [cell_of(0, "red"), cell_of(0, "blue")]
    for panel, line, predictor, answer, place in zip(
        panels, capsys.readouterr().out.splitlines(), (model, confused), wanted, places, strict=True
    ):
        found = dict(predictor.answers([picture_of(0)], [QUESTION], 6)[0])
        assert panel.answer == answer and panel.probability == pytest.approx(found[answer])
        np.testing.assert_allclose(panel.gradcam, only(place))
        assert panel.pairs[0] == ["what", "colour", "is", "most", "of", "it", "?"]  # no marks
        np.testing.assert_array_equal(panel.pairs[1], predictor.pairs(picture_of(0), QUESTION)[1][1:])
        likeliest = max(found, key=found.get)
        assert line.split("\t")[1].startswith(f"{likeliest} {found[likeliest]:.3f}")

"""Examples of question answering: answers that can be given, scores, tokens, third modalities, controls."""

import collections

import numpy as np
import pytest

from xmodal_jax.data.answering import QuestionExamples, QuestionMaker, frequent_answers
from xmodal_jax.data.sources.scenes import Scenes
from xmodal_jax.data.tokenizers import learn_tokenizer
from xmodal_jax.errors import UserError
from xmodal_jax.metrics.vqa import answer_scores

TEN = ["Two"] * 4 + ["2"] * 2 + ["three"] * 3 + ["a dog"]


class Source:
    """One picture a row with the questions that it was made with."""

    def __init__(self, *rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def questions(self, i):
        return [{"question": text, "answers": answers, "id": (i, text)} for text, answers in self.rows[i]]

    def __getitem__(self, i):
        image = np.full((8, 8, 3), 10 * i, np.uint8)
        return {"id": f"row {i}", "image": image, "lang": "en", "captions": ["one cat"], "questions": self.questions(i)}


SOURCE = Source(
    [("how many dogs are there?", TEN)], [("is it a cat?", ["yes"]), ("is it red?", ["No."])], [("is it big?", ["yes"])], []
)


def make(source=SOURCE, **settings):
    settings = {"image_size": 8, "length": 8, "answers": 4, **settings}
    texts = [question["question"] for i in range(len(source)) for question in source.questions(i)]
    return QuestionMaker(QuestionExamples(**settings), learn_tokenizer("words:1", texts), source, seed=5)


def test_answers_are_the_most_frequent_and_coverage_is_said():
    assert frequent_answers(SOURCE, 2) == (["yes", "2"], 0.75)  # equals stand in the order of the alphabet
    assert frequent_answers(SOURCE, 9) == (["yes", "2", "no"], 1.0)
    with pytest.raises(UserError, match="no answered questions"):
        frequent_answers(Source([("what?", [])]), 3)


def test_scores_are_the_official_accuracy_of_every_answer_that_can_be_given():
    row = make()(SOURCE[0], 0)
    scores = answer_scores(TEN)
    assert scores["2"] == 1.0 and 0 < scores["3"] < 1 and scores["dog"] == pytest.approx(0.3)
    found = dict(zip(row["answers"].tolist(), row["scores"].tolist(), strict=True))
    assert found == {1: pytest.approx(1.0), -1: 0.0}  # "3" and "dog" are nobody's usual answer
    assert make()(SOURCE[3], 0)["scores"].sum() == 0  # no question: no weight


def test_tokens_begin_with_a_mark_and_keep_their_end(tmp_path):
    maker = make()
    ids, length = maker.text("is it a cat?")
    assert ids.shape == (8,) and length == 6 and ids[0] == maker.tokenizer.eos_token_id and (ids[6:] == maker.pad).all()
    assert maker.words("is it a cat?")[1:] == ["is", "it", "a", "cat", "?"]
    ids, length = make(length=3).text("is it a cat?")
    assert length == 3 and maker.tokenizer.decode([ids[2]]) == "?"


def test_every_question_is_drawn_and_the_draw_is_the_position_s_alone():
    maker = make()
    drawn = collections.Counter(tuple(maker(SOURCE[1], position)["question"]) for position in range(60))
    assert len(drawn) == 2 and min(drawn.values()) > 10
    one, again = maker(SOURCE[1], 7), maker(SOURCE[1], 7)
    assert all((one[name] == again[name]).all() for name in one)


def test_no_picture_is_mirrored_for_left_must_stay_left(rng):
    image = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    maker, ramp = make(), np.broadcast_to(np.arange(0, 240, 30, dtype=np.uint8)[None, :, None], (8, 8, 3))
    near = make(zoom=1.5, brightness=0.2)
    for position in range(30):
        np.testing.assert_array_equal(maker({**SOURCE[1], "image": image}, position)["image"], image)
        for upright, name in ((ramp, "left"), (ramp.transpose(1, 0, 2), "above")):  # dark at the left, at the top
            found = near({**SOURCE[1], "image": upright}, position)["image"].astype(float).mean(-1)
            found = found if name == "left" else found.T
            assert found[:, 0].mean() < found[:, -1].mean(), (name, position)


def test_batches_have_the_shapes_that_are_promised():
    scenes = Scenes(split="train", count=6, size=64, lang="en", fields=("image", "questions", "captions", "audio", "objects"))
    maker = make(scenes, image_size=64, length=24, caption=True, sound=4000, names=True)
    wanted = maker.example_batch(1)
    for i in range(3):
        row = maker(scenes[i], i)
        assert {name: (value.shape, value.dtype) for name, value in row.items()} == {
            name: (value.shape[1:], value.dtype) for name, value in wanted.items()
        }
        assert row["sound"].any() and row["caption_length"] > 2
        assert (row["names"] >= 0).sum() == 2 * len(scenes[i]["objects"])
    with pytest.raises(UserError, match="captions and audio"):
        maker.ask(scenes[0]["image"], "what?")
    with pytest.raises(UserError, match="captions and audio"):  # as of sources whose pictures have no captions
        maker({**scenes[0], "captions": []}, 0)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"blind": "both"}, "blind='both'"),
        ({"zoom": 0.5}, "zoom=0.5"),
        ({"length": 1}, "length=1"),
        ({"answers": 1}, "answers=1"),
    ],
)
def test_mistakes_are_named(settings, match):
    with pytest.raises(UserError, match=match):
        QuestionExamples(**settings)


def test_a_picture_of_another_size_is_named():
    with pytest.raises(UserError, match="row 0: picture of shape"):
        make(image_size=16)(SOURCE[0], 0)

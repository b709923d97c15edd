"""The VQA accuracy: published cases, rules by hand, and leaving one out by brute force."""

import json
import os
import string
from pathlib import Path

import pytest

from xmodal_jax.metrics.vqa import accuracy_by, answer_kind, answer_scores, normalise_answer, vqa_accuracy

REAL = os.environ.get("XMODAL_REAL_DATA")


@pytest.fixture(scope="module")
def cases():
    if not REAL:
        pytest.skip("set XMODAL_REAL_DATA to the folder of data packs")
    return json.loads((Path(REAL) / "metric_oracles" / "vqa" / "cases.json").read_text("utf-8"))


def test_published_normalisations(cases):
    assert len(cases["normalisation"]) == 48
    found = {case["answer"]: normalise_answer(case["answer"]) for case in cases["normalisation"]}
    assert found == {case["answer"]: case["expected"] for case in cases["normalisation"]}


def test_published_accuracies(cases):
    assert len(cases["accuracy"]) == 15
    for case in cases["accuracy"]:
        assert vqa_accuracy(case["answer"], case["human_answers"]) == pytest.approx(case["expected_accuracy"]), case


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  The Red\tbus\n", "red bus"),
        ("Two dogs and an apple", "2 dogs and apple"),
        ("none", "0"),
        ("n/a", "n"),  # a mark between letters is a space, then "a" is an article
        ("well-known", "well known"),
        ("x- b-c", "x bc"),  # beside a space it vanishes, and then everywhere
        ("1,000", "1000"),
        ("1,000 red-brown", "1000 redbrown"),  # digits grouped anywhere: all marks vanish
        ("red,blue", "red blue"),
        ("3.5 ft.", "3.5 ft"),
        ("u.s. no.5", "us no.5"),
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("couldntve", "couldntve"),
        ("twas ow's'at", "'twas 'ow's'at"),
        ("somebody'd", "somebodyd"),
        ("she's", "she's"),
        ("10:30", "10:30"),
        ("개 한 마리", "개 한 마리"),
    ],
)
def test_normalisation_by_hand(text, normal):
    assert normalise_answer(text) == normal
    assert normalise_answer(normal) == normal or text in ("somebody'd", "ow's'at")


def test_ten_humans_by_hand():
    humans = ["red"] * 2 + ["blue"] * 3 + ["green"] * 4 + ["pink"]
    expected = {"red": 0.6, "blue": 0.9, "green": 1.0, "pink": 0.3}
    assert {answer: vqa_accuracy(answer, humans) for answer in expected} == pytest.approx(expected)
    assert answer_scores(humans) == pytest.approx(expected)
    assert vqa_accuracy("brown", humans) == 0


def test_texts_are_normalised_where_humans_differ():
    assert vqa_accuracy("The T-shirt.", ["t shirt"] * 9 + ["shirt"]) == 1
    assert vqa_accuracy("t shirt", ["t-shirt"] * 10) == 0  # as officially: the humans agree, so texts stay as they are
    assert vqa_accuracy(" t-shirt\n", ["t-shirt"] * 10) == 1
    assert answer_scores(["t-shirt"] * 10) == {"t shirt": 1}


def test_one_human_is_met_or_not():
    assert vqa_accuracy("The boy", ["boy"]) == vqa_accuracy("boy", ["A boy."]) == 1
    assert vqa_accuracy("girl", ["boy"]) == 0
    assert answer_scores(["A boy."]) == {"boy": 1}


def test_few_humans_leave_one_out_of_what_there_is():
    assert [vqa_accuracy("yes", ["yes"] * n) for n in range(2, 6)] == pytest.approx([1 / 3, 2 / 3, 1, 1])
    assert vqa_accuracy("yes", ["yes", "no"]) == pytest.approx((0 + 1 / 3) / 2)
    assert answer_scores([]) == {}
    with pytest.raises(ValueError, match="at least one human answer"):
        vqa_accuracy("yes", [])


def leave_one_out(answer, humans):
    parts = []
    for left_out in range(len(humans)):
        others = [human for i, human in enumerate(humans) if i != left_out]
        parts.append(min(sum(human == answer for human in others) / 3, 1))
    return sum(parts) / len(parts)


def test_random_humans_by_brute_force(rng):
    for _ in range(500):
        choice = string.ascii_lowercase[1 : rng.integers(2, 8)]  # without "a", an article
        humans = [str(one) for one in rng.choice(list(choice), rng.integers(2, 13))]
        assert answer_scores(humans) == pytest.approx({answer: leave_one_out(answer, humans) for answer in humans})
        for answer in (*choice, "z"):
            assert vqa_accuracy(answer, humans) == pytest.approx(leave_one_out(answer, humans))


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        (["yes", "no", "Yes."], "yes/no"),
        (["two"], "number"),
        (["3.5", "3.5", "no"], "number"),
        (["none", "0", "no"], "number"),
        (["10:30"], "other"),
        (["red", "no"], "other"),
        ([], "other"),
    ],
)
def test_kinds(answers, kind):
    assert answer_kind(answers) == kind


def test_means_by_kind():
    found = accuracy_by([1.0, 0.0, 0.5, 0.3], ["yes/no", "other", "yes/no", "number"])
    assert found == pytest.approx({"overall": 0.45, "number": 0.3, "other": 0, "yes/no": 0.75})
    assert list(found) == ["overall", "number", "other", "yes/no"]
    for wrong in (([], []), ([1.0], [])):
        with pytest.raises(ValueError):
            accuracy_by(*wrong)

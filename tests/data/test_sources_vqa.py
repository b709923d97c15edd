"""VQA v2 and GQA, each written small; the questions of the built-in scenes."""

import json
from collections import Counter

import numpy as np
import pytest

from tests.data.written import dump, picture
from xmodal_jax.data.sources import SOURCES
from xmodal_jax.data.sources.questions import EasyVQA, Questions
from xmodal_jax.data.sources.scenes import Scenes
from xmodal_jax.data.sources.vqa import GQA, VQA2
from xmodal_jax.errors import UserError
from xmodal_jax.metrics.vqa import answer_kind

TEN = ["yes"] * 8 + ["no", "maybe"]
OFFICIAL = {"train": "train2014", "val": "val2014", "test": "test2015"}


# ---- VQA v2


def vqa2(folder, version="v2_", split="train", pictures="train2014/COCO_train2014_{:012d}.jpg", kinds=True):
    """Questions 90 and 91 on picture 9, question 70 on picture 7."""
    part = OFFICIAL[split]
    for key in (9, 7):
        picture(folder / pictures.format(key), 10 * key)
    asks = [{"image_id": key // 10, "question": f" is it {key}?", "question_id": key} for key in (90, 70, 91)]
    dump(folder / f"{version}OpenEnded_mscoco_{part}_questions.json", {"info": {"version": "2"}, "questions": asks})
    notes = [
        {"question_id": ask["question_id"], "image_id": ask["image_id"], "question_type": "is it", "answer_type": "yes/no",
         "multiple_choice_answer": "yes",
         "answers": [{"answer": a, "answer_confidence": "yes", "answer_id": i} for i, a in enumerate(TEN, 1)]}
        for ask in asks
    ]  # fmt: skip
    if not kinds:
        notes = [{key: value for key, value in note.items() if key != "answer_type"} for note in notes]
    if split != "test":
        dump(folder / f"{version}mscoco_{part}_annotations.json", {"annotations": notes})


@pytest.mark.parametrize("version", ["v2_", ""])
@pytest.mark.parametrize("pictures", ["train2014/COCO_train2014_{:012d}.jpg", "{:012d}.jpg", "images/train2017/{:012d}.jpg"])
def test_vqa2_field_by_field(tmp_path, version, pictures):
    vqa2(tmp_path, version, pictures=pictures)
    source = VQA2(path=tmp_path, size=8)
    assert len(source) == 2
    example = source[0]
    assert set(example) == {"id", "image", "captions", "lang", "questions"}
    assert example["id"] == f"{tmp_path.name}/COCO_train2014_000000000009.jpg"
    assert example["image"].shape == (8, 8, 3) and example["image"].dtype == np.uint8
    assert abs(int(example["image"][0, 0, 0]) - 90) < 4
    assert example["captions"] == [] and example["lang"] == "en" and source.captions(0) == ([], None, "en")
    assert example["questions"] == source.questions(0) == [
        {"question": f"is it {key}?", "answers": TEN, "id": key, "type": "yes/no"} for key in (90, 91)
    ]  # fmt: skip
    assert [question["id"] for question in source[1]["questions"]] == [70]


def test_vqa2_splits_and_folders(tmp_path):
    for split, part in OFFICIAL.items():
        vqa2(tmp_path, split=split, pictures=f"{part}/COCO_{part}_{{:012d}}.jpg", kinds=False)
    for split in OFFICIAL:
        source = VQA2(path=tmp_path, split=split, size=8)
        assert source[1]["questions"][0]["answers"] == ([] if split == "test" else TEN)
        assert source[1]["questions"][0]["type"] == ("other" if split == "test" else "yes/no")
        assert OFFICIAL[split] in source[1]["id"]
    (tmp_path / "texts").mkdir()
    for file in tmp_path.glob("*.json"):
        file.rename(tmp_path / "texts" / file.name.replace("test2015", "test-dev2015"))
    assert len(VQA2(path=tmp_path, split="val")) == 2
    with pytest.raises(UserError, match="COCO_val2014_000000000009.jpg is not there"):
        VQA2(path=tmp_path / "texts", split="val")
    assert len(VQA2(path=tmp_path / "texts", split="val", images=tmp_path)) == 2
    assert VQA2(path=tmp_path / "texts", split="test", images=tmp_path / "test2015").questions(1)[0]["id"] == 70


def test_vqa2_mistakes_are_named(tmp_path):
    with pytest.raises(UserError, match="v2_OpenEnded_mscoco_train2014_questions.json or OpenEnded.* is not in this folder"):
        VQA2(path=tmp_path)
    with pytest.raises(UserError, match="gone: there is no such folder"):
        VQA2(path=tmp_path / "gone")
    vqa2(tmp_path)
    questions, notes = (
        tmp_path / f"v2_{name}" for name in ("OpenEnded_mscoco_train2014_questions.json", "mscoco_train2014_annotations.json")
    )
    right = json.loads(notes.read_text())
    for change, message in [
        ({"answers": "yes"}, "annotations.json: entry 1 lacks or has a wrong 'answers'.*answer_type"),
        ({"answers": [{"text": "yes"}]}, "annotations.json: entry 1 lacks or has a wrong 'answers'"),
        ({"question_id": 5}, "question 70 has no annotation"),
    ]:
        wrong = [dict(entry) for entry in right["annotations"]]
        wrong[1].update(change)
        dump(notes, {"annotations": wrong})
        with pytest.raises(UserError, match=message):
            VQA2(path=tmp_path)
    notes.unlink()
    with pytest.raises(UserError, match="the file v2_mscoco_train2014_annotations.json is not in this folder"):
        VQA2(path=tmp_path)
    dump(notes, right)
    for wrong, message in [
        (
            {"questions": [{"question_id": 90}]},
            "questions.json: entry 0 lacks .* 'image_id'. Expected: .*question_id",
        ),
        ({"data": []}, 'questions.json: this is not an object with the list "questions"'),
        ([], 'this is not an object with the list "questions"'),
    ]:
        dump(questions, wrong)
        with pytest.raises(UserError, match=message):
            VQA2(path=tmp_path)
    questions.write_text("{")
    with pytest.raises(UserError, match="questions.json: this is not JSON"):
        VQA2(path=tmp_path)


# ---- GQA


def gqa(folder, name="train_balanced", **change):
    entry = {
        "imageId": "n7", "question": "Who wears a hat?", "answer": "boy", "fullAnswer": "The boy wears a hat.",
        "types": {"structural": "query", "semantic": "rel", "detailed": "relS"},
        "semantic": [{"operation": "select", "dependencies": [], "argument": "hat (1)"}],
        "annotations": {"answer": {"0": "12"}, "question": {"3": "13"}, "fullAnswer": {}},
    }  # fmt: skip
    bare = {"imageId": "12", "question": "Is it red?", "answer": "yes"}
    dump(folder / f"{name}_questions.json", {"001": entry, "002": bare, "003": {**entry, **change}})


def test_gqa_field_by_field(tmp_path):
    for shade, name in enumerate(("n7", "12")):
        picture(tmp_path / "images" / f"{name}.jpg", 50 * shade)
    gqa(tmp_path, question="What is it?", answer="hat")
    gqa(tmp_path / "questions1.2", "testdev_balanced")
    gqa(tmp_path, "val_all", imageId="12")
    source = GQA(path=tmp_path, size=8)
    assert len(source) == 2 and source[0]["id"] == f"{tmp_path.name}/n7.jpg" and source[0]["captions"] == []
    assert source[0]["questions"] == source.questions(0) == [
        {"question": "Who wears a hat?", "answers": ["boy"], "id": "001", "type": "query"},
        {"question": "What is it?", "answers": ["hat"], "id": "003", "type": "query"},
    ]  # fmt: skip
    assert source[1]["questions"] == [{"question": "Is it red?", "answers": ["yes"], "id": "002", "type": "yes/no"}]
    assert abs(int(source[1]["image"][0, 0, 0]) - 50) < 4
    assert len(GQA(path=tmp_path, split="test", images=tmp_path / "images").questions(0)) == 2
    assert len(GQA(path=tmp_path, split="val", balanced=False).questions(1)) == 2
    with pytest.raises(UserError, match="val_balanced_questions.json is not in this folder"):
        GQA(path=tmp_path, split="val")
    for change in ({"answer": 5}, {"imageId": "12", "question": None}, {"types": "query"}):
        gqa(tmp_path, **change)
        with pytest.raises(UserError, match='train_balanced_questions.json: question 003 .*Expected: .*"imageId"'):
            GQA(path=tmp_path)


# ---- the built-in scenes


@pytest.mark.parametrize("lang", ["en", "ko", ("en", "ko")])
def test_scenes_give_questions_without_drawing(lang, monkeypatch):
    source = Scenes(split="val", lang=lang, fields=("image", "questions"), size=16)
    examples = [source[i] for i in range(60)]
    monkeypatch.setattr(source, "draw", None)
    kinds = Counter()
    for i, example in enumerate(examples):
        assert source.questions(i) == example["questions"]
        for number, question in enumerate(example["questions"]):
            assert set(question) == {"question", "answers", "id", "type"} and len(question["answers"]) == 10
            assert question["id"] == f"scenes/val/{i}/{number}"
            kinds[question["type"]] += 1
            assert question["type"] != "exists" or set(question["answers"]) & {"yes", "no", "예", "아니요"}
            assert question["type"] != "count" or answer_kind(question["answers"]) == "number"
    assert set(kinds) == {"exists", "color", "where", "count", "relation", "which"} and kinds["exists"] == 120
    assert source.questions(-1) == source.questions(len(source) - 1)
    with pytest.raises(IndexError):
        source.questions(len(source))


def test_the_sources_have_names():
    assert {"vqa2": VQA2, "gqa": GQA, "questions": Questions, "easy_vqa": EasyVQA}.items() <= SOURCES.items()

"""Your own questions over pictures, the form of the easy-VQA package, and the real pack."""

import os
import pickle
from collections import Counter
from pathlib import Path

import pytest

from tests.data.written import dump, lines, picture
from xmodal_jax.data.sources.questions import EasyVQA, Questions
from xmodal_jax.errors import UserError

REAL = os.environ.get("XMODAL_REAL_DATA")
SPLITS = ("train", "val", "test")


def asked(source):
    return [question for i in range(len(source)) for question in source.questions(i)]


# ---- your own questions


def own(folder, names=("train", "test"), count=40):
    """`count` pictures a file, two questions each."""
    for name in names:
        rows = [{"image": f"images/{name}{i}.png", "question": f"is it {n}?", "answer": "yes" if n else "Red"}
                for n in range(2) for i in range(count)]  # fmt: skip
        for i in range(count):
            picture(folder / "images" / f"{name}{i}.png", i)
        lines(folder / f"{name}.jsonl", rows)
    return folder


def test_own_field_by_field(tmp_path):
    source = Questions(path=own(tmp_path), split="test", size=None)
    assert len(source) == 40 and source[3]["id"] == f"{tmp_path.name}/images/test3.png"
    assert source[3]["image"].shape == (8, 12, 3) and (source[3]["image"] == 3).all() and source[3]["captions"] == []
    assert source[3]["questions"] == source.questions(3) == [
        {"question": "is it 0?", "answers": ["Red"], "id": "test/4", "type": "other"},
        {"question": "is it 1?", "answers": ["yes"], "id": "test/44", "type": "yes/no"},
    ]  # fmt: skip
    source[3]["questions"][0]["answers"].append("changed")
    assert source.questions(3)[0]["answers"] == ["Red"]
    assert pickle.loads(pickle.dumps(source))[-1]["questions"] == source.questions(39)


def test_without_a_file_val_is_a_share_of_train(tmp_path):
    own(tmp_path)
    names = {}
    for split in ("train", "val", "test"):
        source = Questions(path=tmp_path, split=split, val_fraction=0.3, size=8)
        names[split] = {source[i]["id"] for i in range(len(source))}
        assert len(asked(source)) == 2 * len(source) == 2 * len(names[split])
    assert not names["train"] & names["val"] and not names["test"] & (names["train"] | names["val"])
    assert len(names["train"] | names["val"]) == 40 and len(names["val"]) > 2
    assert len(Questions(path=tmp_path, val_fraction=0)) == 40
    own(tmp_path, ("val",), 3)
    assert len(Questions(path=tmp_path, val_fraction=0.3)) == 40
    assert len(Questions(path=tmp_path, split="val", val_fraction=0.3)) == 3


def test_one_file_states_splits_or_a_hash_does(tmp_path):
    rows = []
    for i in range(60):
        picture(tmp_path / f"{i}.png")
        rows += [{"image": f"{i}.png", "question": "how many?", "answers": [2, "two", "3"], "id": 5 * i, "type": "count"}] * 2
    file = tmp_path / "questions.jsonl"
    lines(file, rows)
    found = {split: Questions(path=tmp_path, split=split, split_fractions=(0.5, 0.3, 0.2)) for split in SPLITS}
    assert sum(map(len, found.values())) == 60 and all(len(source) > 3 for source in found.values())
    keys = [{question["id"] for question in asked(source)} for source in found.values()]
    assert len(set().union(*keys)) == sum(map(len, keys)) == 60
    assert asked(found["val"])[0] | {"id": 0} == {
        "question": "how many?",
        "answers": ["2", "two", "3"],
        "id": 0,
        "type": "count",
    }
    stated = [{**row, "split": "dev" if i < 6 else "test" if i < 8 else "train"} for i, row in enumerate(rows)]
    lines(file, stated)
    assert [len(Questions(path=file, split=split)) for split in SPLITS] == [56, 3, 1]
    lines(file, [*stated, {**stated[0], "split": "train"}])
    with pytest.raises(UserError, match=r"questions.jsonl:121: the picture 0.png is in split train, and above in val"):
        Questions(path=tmp_path)


def test_tables(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "train.csv").write_text(
        'image, question,answer,answers\na.png,"is it red, or not?",,red|not red\na.png,is it?,no,\n'
    )
    (tmp_path / "test.csv").write_text("image,question\na.png,is it?\n")
    assert Questions(path=tmp_path, val_fraction=0).questions(0) == [
        {"question": "is it red, or not?", "answers": ["red", "not red"], "id": "train/2", "type": "other"},
        {"question": "is it?", "answers": ["no"], "id": "train/3", "type": "yes/no"},
    ]
    assert Questions(path=tmp_path, split="test").questions(0)[0]["answers"] == []
    (tmp_path / "questions.tsv").write_text("file_name\tquestion\tanswers\na.png\tis it red, or not?\tred|not red\n")
    table = Questions(path=tmp_path / "questions.tsv", split_fractions=(1, 0, 0))
    assert table.questions(0)[0]["answers"] == ["red", "not red"] and table[0]["id"].endswith("/a.png")
    (tmp_path / "test.csv").write_text("image,question\na.png,is it red, or not?\n")
    with pytest.raises(UserError, match="test.csv:2: more fields than the header"):
        Questions(path=tmp_path, split="test")
    (tmp_path / "test.jsonl").touch()
    with pytest.raises(UserError, match="test.csv and test.jsonl are for the same questions"):
        Questions(path=tmp_path, split="test")


GOOD = {"image": "images/train0.png", "question": "is it?", "answer": "yes"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({**GOOD, "image": 5}, "no image or no question.*Expected: .*images/1.jpg"),
        ({"image": "images/train0.png", "answer": "yes"}, "no image or no question"),
        ({"image": "images/train0.png", "question": "is it?"}, "no answer, and its split is train"),
        ({**GOOD, "answer": True}, "an answer is a text"),
        ({**GOOD, "answers": [["yes"]]}, "an answer is a text"),
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
    ],
)
def test_own_mistakes_are_named(tmp_path, line, message):
    own(tmp_path, count=1)
    lines(tmp_path / "train.jsonl", [GOOD, line])
    with pytest.raises(UserError, match=rf"train.jsonl:2: .*{message}"):
        Questions(path=tmp_path, val_fraction=0)


def test_own_folders_and_settings_are_checked(tmp_path):
    with pytest.raises(UserError, match="no file of questions is in this folder. Looked for: train.jsonl"):
        Questions(path=tmp_path)
    with pytest.raises(UserError, match="there is no such folder"):
        Questions(path=tmp_path / "gone")
    own(tmp_path, ("train",), 1)
    with pytest.raises(UserError, match="no file for split 'test', only train.jsonl"):
        Questions(path=tmp_path, split="test")
    with pytest.raises(UserError, match=r"train.jsonl: no example in split 'val'; listed there: train \(1\)"):
        Questions(path=tmp_path, split="val", val_fraction=0)
    for wrong in ({"val_fraction": 1}, {"split": "dev"}, {"split_fractions": (1, 2)}, {"mode": "stretch"}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            Questions(path=tmp_path, **{"val_fraction": 0, **wrong})
    lines(tmp_path / "questions.jsonl", [{**GOOD, "split": "all"}])
    with pytest.raises(UserError, match="questions.jsonl:1: split 'all'"):
        Questions(path=tmp_path / "questions.jsonl")


def test_missing_and_odd_pictures(tmp_path):
    own(tmp_path, ("train",))
    (tmp_path / "images" / "train5.png").unlink()
    (tmp_path / "images" / "train8.png").write_bytes(b"odd")
    source = Questions(path=tmp_path, val_fraction=0, max_bad_fraction=0.1)
    assert len(source) == 39 and source.missing == 1
    assert source[7]["id"].endswith("train9.png")  # 8 cannot be decoded: the next stands in, with its own questions
    assert source[7]["questions"] == source.questions(8) and list(source.bad) == [7]
    for i in range(10, 16):
        (tmp_path / "images" / f"train{i}.png").unlink()
    with pytest.raises(UserError, match=r"7 of 40 examples .* missing.*train.jsonl:6: the picture images/train5"):
        Questions(path=tmp_path, val_fraction=0)


# ---- the form of the easy-VQA package


def easy(folder):
    for split, count in (("train", 40), ("test", 5)):
        for i in range(count):
            picture(folder / "data" / split / "images" / f"{i}.png", i + (100 if split == "test" else 0))
        entries = [["is there a circle?", "no", i] for i in range(count)] + [
            ["what color is it?", "gray", i] for i in range(count)
        ]
        dump(folder / "data" / split / "questions.json", entries)
    (folder / "data" / "answers.txt").write_text("no\ngray")
    return folder


def test_easy_vqa(tmp_path):
    found = {split: EasyVQA(path=easy(tmp_path), split=split, val_fraction=0.3) for split in SPLITS}
    assert len(found["train"]) + len(found["val"]) == 40 and len(found["test"]) == 5 and len(found["val"]) > 2
    names = [found[split][i]["id"] for split in SPLITS for i in range(len(found[split]))]
    assert len(set(names)) == len(names)
    example = found["test"][2]
    assert example["id"] == "easy_vqa/test/images/2.png" and (example["image"] == 102).all() and example["captions"] == []
    assert example["image"].shape == (64, 64, 3)
    assert example["questions"] == found["test"].questions(2) == [
        {"question": "is there a circle?", "answers": ["no"], "id": "test/2", "type": "yes/no"},
        {"question": "what color is it?", "answers": ["gray"], "id": "test/7", "type": "other"},
    ]  # fmt: skip
    assert len(EasyVQA(path=tmp_path / "data", val_fraction=0)) == 40
    for wrong in (["is it?", "no"], ["is it?", 5, 1], {"question": "is it?"}, ["is it?", "no", "x"], 7):
        dump(tmp_path / "data" / "train" / "questions.json", [["is it?", "no", 1], wrong])
        with pytest.raises(UserError, match=r"questions.json: entry 1, .* is not of the form \[.*number of the picture"):
            EasyVQA(path=tmp_path)
    with pytest.raises(UserError, match="questions.json: there is no such file. Expected: a list"):
        EasyVQA(path=tmp_path / "gone")


@pytest.mark.skipif(not REAL, reason="set XMODAL_REAL_DATA to the folder of data packs")
def test_the_real_pack():
    found = {split: Questions(path=Path(REAL) / "easy_vqa", split=split, size=64) for split in SPLITS}
    assert len(found["train"]) + len(found["val"]) == 4000 and len(found["test"]) == 1000
    assert 120 < len(found["val"]) < 280
    counts = {split: len(asked(source)) for split, source in found.items()}
    assert counts["train"] + counts["val"] == 38575 and counts["test"] == 9673
    answers = Counter(question["answers"][0] for question in asked(found["train"]))
    assert len(answers) == 13 and set(answers) == {q["answers"][0] for q in asked(found["test"])}
    assert {question["type"] for question in asked(found["test"])} == {"yes/no", "other"}
    for source in found.values():
        assert source[len(source) // 2]["image"].shape == (64, 64, 3)

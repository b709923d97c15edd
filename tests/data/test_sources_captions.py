"""Your own folder of pictures with captions."""

import json
import logging
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.written import lines, picture
from xmodal_jax.data.sources.boxes import fit_box
from xmodal_jax.data.sources.captions import Captions
from xmodal_jax.data.sources.splits import hashed_split
from xmodal_jax.errors import UserError

REAL = os.environ.get("XMODAL_REAL_DATA")
real_data = pytest.mark.skipif(not REAL, reason="set XMODAL_REAL_DATA to the folder of data packs")


def make(folder, count=6, **extra):
    """A folder with pictures 0.png ... and captions.jsonl, all in train."""
    for i in range(count):
        picture(folder / "images" / f"{i}.png", (i, 0, 0))
    rows = [
        {"image": f"images/{i}.png", "captions": [f"picture {i}", "again"], "split": "train", **extra} for i in range(count)
    ]
    lines(folder / "captions.jsonl", rows)
    return folder


def test_jsonl_folder(tmp_path):
    source = Captions(path=make(tmp_path / "set"), size=4, file_bytes=True)
    assert len(source) == 6
    example = source[2]
    assert example["id"] == "set/images/2.png" and example["captions"] == ["picture 2", "again"] and example["lang"] == "en"
    assert example["image"].shape == (4, 4, 3) and (example["image"] == [2, 0, 0]).all()
    assert example["image_file"] == (tmp_path / "set/images/2.png").read_bytes()
    assert source.captions(2) == (["picture 2", "again"], None, "en")
    assert Captions(path=tmp_path / "set", size=None)[0]["image"].shape == (8, 12, 3)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source))[2]["image"], example["image"])
    with pytest.raises(IndexError):
        source[6]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.csv", 'file_name,text\n0.png,"a dog, a cat"\n1.png,a bird\n0.png,second\n'),
        ("any.tsv", "filename\ttitle\n0.png\ta dog, a cat\n1.png\ta bird\n0.png\tsecond\n"),
        ("captions.txt", 'image,caption\n0.png,"a dog, a cat"\n1.png,a bird\n0.png,second\n'),
        ("x.csv", '\ufefffilepath,caption\n0.png,"a dog, a cat"\n1.png,a bird\n0.png,second\n'),
    ],
)
def test_tables_merge_the_lines_of_one_picture(tmp_path, name, text):
    picture(tmp_path / "0.png"), picture(tmp_path / "images" / "1.png")
    (tmp_path / name).write_text(text, "utf-8")
    source = Captions(path=tmp_path, split_fractions=(1, 0, 0))
    assert [source.captions(i)[0] for i in range(2)] == [["a dog, a cat", "second"], ["a bird"]]


def test_texts_beside_the_pictures(tmp_path):
    picture(tmp_path / "a.png"), picture(tmp_path / "b.PNG"), picture(tmp_path / "c.jpg")
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    (tmp_path / "b.txt").write_text("three")
    source = Captions(path=tmp_path, split_fractions=(1, 0, 0))
    assert [source[i]["captions"] for i in range(len(source))] == [["one", "two"], ["three"]]


def test_files_named_by_split(tmp_path):
    for split in ("train", "valid", "test"):
        picture(tmp_path / f"{split}.png")
        lines(tmp_path / f"{split}.jsonl", [{"image": f"{split}.png", "caption": split}])
    assert [Captions(path=tmp_path, split=split)[0]["captions"] for split in ("train", "val", "test")] == [
        ["train"],
        ["valid"],
        ["test"],
    ]


def test_split_by_hash_is_stable_and_close_to_the_fractions(tmp_path):
    picture(tmp_path / "0.png")
    rows = [{"image": f"{i}.png", "caption": "x"} for i in range(400)]
    for i in range(1, 400):
        os.link(tmp_path / "0.png", tmp_path / f"{i}.png")
    lines(tmp_path / "c.jsonl", rows)
    ids = {}
    for split in ("train", "val", "test"):
        source = Captions(path=tmp_path, split=split, split_fractions=(0.8, 0.1, 0.1))
        ids[split] = {row.name for row in source._rows}
    assert sum(map(len, ids.values())) == len(set.union(*ids.values())) == 400
    assert 290 <= len(ids["train"]) <= 350
    lines(tmp_path / "c.jsonl", rows[::-1][:300])  # neither the order nor the other pictures matter
    fewer = Captions(path=tmp_path, split="val", split_fractions=(0.8, 0.1, 0.1))
    assert {row.name for row in fewer._rows} <= ids["val"]
    assert hashed_split("a.jpg", (1, 0, 0)) == "train" and hashed_split("a.jpg", (0, 0, 2)) == "test"


def test_language_chooses_the_field(tmp_path):
    make(tmp_path, captions_zh=["狗"], title="named")
    assert Captions(path=tmp_path, lang="zh")[0]["captions"] == ["狗"]
    assert Captions(path=tmp_path, caption_field="title")[0]["captions"] == ["named"]
    with pytest.raises(UserError, match="found captions_zh"):
        Captions(path=tmp_path, lang="ko")
    shutil.rmtree(tmp_path / "images")
    assert Captions(path=make(tmp_path / "de"), lang="de")[0]["lang"] == "de"  # one unnamed language: taken at the user's word


def test_boxes_become_objects_and_phrases(tmp_path):
    thing = {"category": "dog", "xyxy": [0, 0, 6, 4], "iscrowd": 0, "unique": True}
    make(tmp_path, 1, objects=[thing, {**thing, "iscrowd": 1}], width=12, height=8, scene="park")
    example = Captions(path=tmp_path, group_field="scene")[0]
    assert example["objects"] == [{"name": "dog", "label": "dog", "color": None, "size": None, "box": [0, 0, 0.5, 0.5]}]
    assert example["phrases"] == [{"phrase": "dog", "box": [0, 0, 0.5, 0.5]}] and example["group"] == "park"


def test_fit_box_follows_the_modes():
    assert fit_box([0, 0, 6, 4], 12, 8, "crop") == [0, 0, 0.5, 0.5]  # the crop begins at x = 2
    assert fit_box([0, 0, 12, 8], 12, 8, "pad") == pytest.approx([0, 1 / 6, 1, 5 / 6])
    assert fit_box([0, 0, 2, 8], 12, 8, "crop") is None


# --- errors


def test_missing_and_empty_folders_say_what_was_looked_for(tmp_path):
    with pytest.raises(UserError, match=r"no such folder.*jsonl.*csv"):
        Captions(path=tmp_path / "none")
    with pytest.raises(UserError, match="the folder is empty"):
        Captions(path=tmp_path)
    picture(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"no captions file.*Looked for"):
        Captions(path=tmp_path)
    with pytest.raises(UserError, match="not a caption file"):
        Captions(path=tmp_path / "a.png")


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("{image: 1}", "not JSON"),
        ("[1]", "not a JSON object"),
        ({"captions": ["x"]}, "names no picture"),
        ({"image": "images/0.png"}, "no caption"),
        ({"image": "images/0.png", "captions": [1]}, "text or a list of texts"),
        ({"image": "images/0.png", "captions": "x", "split": "tset"}, "not one of train"),
        ({"image": "i.png", "captions": "x", "objects": [{"category": "a", "xyxy": [1]}]}, "width"),
    ],
)
def test_bad_line_names_file_and_line(tmp_path, bad, says):
    make(tmp_path, 1)
    lines(tmp_path / "captions.jsonl", [(tmp_path / "captions.jsonl").read_text(), "", bad])
    with pytest.raises(UserError, match=r"captions\.jsonl:3: .*" + says):
        Captions(path=tmp_path)


def test_file_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "c.jsonl").write_bytes(b'{"image": "\xff"}')
    with pytest.raises(UserError, match=r"c\.jsonl.*UTF-8"):
        Captions(path=tmp_path)


def test_empty_split_says_which_there_are(tmp_path):
    with pytest.raises(UserError, match=r"no example in split 'test'.*train \(6\)"):
        Captions(path=make(tmp_path), split="test")
    with pytest.raises(UserError, match="one of train, val, test"):
        Captions(path=tmp_path, split="dev")


def test_pictures_without_caption_are_left_out(tmp_path):
    make(tmp_path)
    with (tmp_path / "captions.jsonl").open("a") as file:
        file.write('\n{"image": "images/none.jpg", "split": "train", "captions": []}')
    assert len(Captions(path=tmp_path)) == 6


def test_a_missing_picture_is_skipped_and_logged(tmp_path, caplog):
    make(tmp_path)
    (tmp_path / "images/1.png").unlink()
    with caplog.at_level(logging.WARNING):
        source = Captions(path=tmp_path)
    assert len(source) == 5 and source.missing == 1 and "images/1.png" in caplog.text
    assert source[1]["captions"][0] == "picture 2"


def test_an_undecodable_picture_is_replaced_by_the_next_and_logged_once(tmp_path, caplog):
    make(tmp_path)
    for i in (1, 5):
        (tmp_path / f"images/{i}.png").write_bytes(b"broken")
    source = Captions(path=tmp_path)
    with caplog.at_level(logging.WARNING):
        assert source[1]["id"] == source[1]["id"] == source[2]["id"]
        assert source[5]["id"] == source[0]["id"]
    assert caplog.text.count("images/1.png") == 1 and len(source.bad) == 2


def test_too_many_bad_pictures_end_the_run(tmp_path):
    make(tmp_path)
    for i in range(3):
        (tmp_path / f"images/{i}.png").write_bytes(b"broken")
    source = Captions(path=tmp_path)
    with pytest.raises(UserError, match=r"3 of 6 examples"):
        [source[i] for i in range(6)]
    patient = Captions(path=tmp_path, max_bad_fraction=0.6)
    assert {patient[i]["captions"][0] for i in range(6)} == {"picture 3", "picture 4", "picture 5"}
    for i in range(3):
        (tmp_path / f"images/{i}.png").unlink()
    with pytest.raises(UserError, match="is not there"):
        Captions(path=tmp_path)


@real_data
@pytest.mark.parametrize(
    ("name", "lang", "counts"),
    [
        ("flickr8k", "en", (886, 120, 112)),
        ("flickr8k", "zh", (886, 120, 112)),
        ("rsicd", "en", (5000, 600, 929)),
        ("coco_mini", "en", (130, 252, None)),
    ],
)
def test_real_packs(name, lang, counts):
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        if count is None:
            continue
        source = Captions(path=Path(REAL) / name, split=split, lang=lang, size=32)
        assert len(source) == count and not source.missing
        for i in (0, count // 2, count - 1):
            assert source[i]["image"].shape == (32, 32, 3) and len(source[i]["captions"]) >= 5
        assert not source.bad


@pytest.mark.parametrize("suffix", ["npy", "csv"])
def test_a_series_beside_the_captions(tmp_path, suffix):
    """Numbers of a file that the list names; what cannot be read says where."""
    (tmp_path / "series").mkdir()
    values = np.arange(6, dtype=np.float32).reshape(3, 2) / 4
    if suffix == "npy":
        np.save(tmp_path / "series" / "1.npy", values)
    else:
        np.savetxt(tmp_path / "series" / "1.csv", values, delimiter=",")
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    line = {"image": "1.png", "captions": ["a curve"], "split": "train", "series": f"series/1.{suffix}"}
    (tmp_path / "captions.jsonl").write_text(json.dumps(line))
    example = Captions(path=tmp_path, size=8)[0]
    np.testing.assert_array_equal(example["series"], values.ravel())
    assert "series_file" not in example
    (tmp_path / "series" / f"1.{suffix}").write_text("a,b")
    with pytest.raises(UserError, match="captions.jsonl:1: the series .* cannot be read"):
        Captions(path=tmp_path, size=8)[0]

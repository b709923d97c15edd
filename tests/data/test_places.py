"""What a picture is: its place, however a list spells it; what is outside of the data's folder, and what is no regular file."""

import logging
import os
import unicodedata

import pytest

from tests.data.written import dump, lines, picture
from xmodal_jax import cli
from xmodal_jax.data.sources.captions import Captions
from xmodal_jax.data.sources.coco import CocoCaptions
from xmodal_jax.data.sources.places import Base, Places, given_path, pictures_of
from xmodal_jax.data.sources.questions import Questions
from xmodal_jax.errors import UserError, printable, tell
from xmodal_jax.files import read_regular

ALL = {"split_fractions": (1, 0, 0)}


def rows(source):
    return {os.path.relpath(row.file, source.path): list(row.captions) for row in source._rows}


def place(root, name, **kwargs):
    return Places(root, **kwargs).find(name, (Base(root), Base(root / "images")))


@pytest.mark.parametrize(
    "name",
    ["a b.png", "./a b.png", "x/../a b.png", "images/a b.png", "images//./a b.png", r"images\a b.png", " a b.png ",
     "{root}/images/a b.png"],
)  # fmt: skip
def test_spellings_of_one_path_are_one_place(tmp_path, name):
    picture(tmp_path / "images" / "a b.png")
    found = place(tmp_path, name.format(root=tmp_path))
    assert found.place == "images/a b.png" and os.path.samefile(found.file, tmp_path / "images" / "a b.png")


@pytest.mark.parametrize("name", ["강아지.png", "café.png", "Việt.png", "フグ.png"])
@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFKD")])
def test_any_normalisation_is_found_in_names_and_folders(tmp_path, name, forms):
    on_disk, listed = (unicodedata.normalize(form, name) for form in forms)
    picture(tmp_path / on_disk[:-4] / on_disk)
    found = place(tmp_path, f"{listed[:-4]}/{listed}")
    assert found.file == str(tmp_path / on_disk[:-4] / on_disk) and unicodedata.is_normalized("NFC", found.place)
    assert place(tmp_path, f"{listed[:-4]}/other.png").file is None


@pytest.mark.parametrize(
    "name",
    ["img[1].png", "a*.png", "~x.png", "a,b.png", "a;b.png", "'q'.png", 'a"b.png', "#1.png", "%20.png", "새 사진 (1).png"],
)
def test_odd_names_are_names(tmp_path, name):
    picture(tmp_path / name), picture(tmp_path / "other.png")
    lines(tmp_path / "captions.jsonl", [{"image": name, "caption": "this one"}, {"image": "other.png", "caption": "other"}])
    assert rows(Captions(path=tmp_path, **ALL)) == {name: ["this one"], "other.png": ["other"]}
    assert pictures_of(str(tmp_path / name)) == [str(tmp_path / name)]


def test_names_that_are_not_utf8(tmp_path):
    for name in (b"caf\xe9", b"\xb0\xad"):
        picture(tmp_path / "a.png")
        os.rename(tmp_path / "a.png", os.fsencode(tmp_path) + b"/" + name + b".png")
        with open(os.fsencode(tmp_path) + b"/" + name + b".txt", "w") as file:
            file.write("one")
    source = Captions(path=tmp_path, size=4, **ALL)
    assert len(source) == 2 and [source[i]["captions"] for i in range(2)] == [["one"], ["one"]]
    assert printable(source[1]["id"]).endswith((r"caf\xe9.png", r"\xb0\xad.png"))
    lines(tmp_path / "captions.jsonl", [{"image": "caf\udce9.png", "caption": "listed"}])
    assert list(rows(Captions(path=tmp_path, **ALL)).values()) == [["listed"]]


def test_pictures_of_one_name_in_several_folders_are_several(tmp_path):
    for folder, shade in (("cats", 10), ("dogs", 20), (".", 30), ("images", 40)):
        picture(tmp_path / folder / "1.png", shade)
    lines(tmp_path / "captions.jsonl", [{"image": f"{f}/1.png", "caption": f} for f in ("cats", "dogs", "./", "images")])
    source = Captions(path=tmp_path, size=4, **ALL)
    assert [(source[i]["captions"][0], source[i]["image"][0, 0, 0]) for i in range(4)] == [
        ("cats", 10), ("dogs", 20), ("./", 30), ("images", 40),
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", ["metadata.jsonl", "metadata.csv", "captions.json"])
def test_lists_in_folders_of_splits(tmp_path, suffix):
    for split, shade in (("train", 10), ("valid", 20), ("test", 30)):
        picture(tmp_path / split / "0001.png", shade)
        if suffix.endswith("json"):
            dump(tmp_path / split / suffix, [{"file_name": "0001.png", "text": split}])
        elif suffix.endswith("csv"):
            (tmp_path / split / suffix).write_text(f"file_name,text\n0001.png,{split}\n")
        else:
            lines(tmp_path / split / suffix, [{"file_name": "0001.png", "text": split}])
    for split, own, shade in (("train", "train", 10), ("val", "valid", 20), ("test", "test", 30)):
        source = Captions(path=tmp_path, split=split, size=4)
        assert rows(source) == {f"{own}/0001.png": [own]} and source[0]["image"][0, 0, 0] == shade


def test_a_missing_picture_is_missing(tmp_path):
    for name in ("a/1.png", "b/1.png", "b/2.png", "1.png", "deep/er/2.png"):
        picture(tmp_path / name)
    listed = [{"image": name, "caption": name} for name in ("a/1.png", "a/2.png", "c/1.png", "2.png")]
    lines(tmp_path / "captions.jsonl", listed)
    source = Captions(path=tmp_path, max_bad_fraction=1, **ALL)
    assert rows(source) == {"a/1.png": ["a/1.png"]} and source.missing == 3


def test_a_list_below_the_root_looks_in_its_own_folder_or_in_the_root(tmp_path):
    for name in ("train/1.png", "train/2.png", "3.png", "images/4.png"):
        picture(tmp_path / name)
    lines(tmp_path / "train" / "list.jsonl", [{"image": f"{i}.png", "caption": str(i)} for i in range(1, 5)])
    assert rows(Captions(path=tmp_path, max_bad_fraction=1, val_fraction=0)) == {"train/1.png": ["1"], "train/2.png": ["2"]}
    lines(tmp_path / "train" / "list.jsonl", [{"image": f"{i}.png", "caption": str(i)} for i in range(3, 6)])
    assert rows(Captions(path=tmp_path, max_bad_fraction=1, val_fraction=0)) == {"3.png": ["3"], "images/4.png": ["4"]}


@pytest.mark.parametrize("second", ["0.png", "./0.png", "x/../0.png", "{root}/0.png", "link.png"])
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_picture_in_two_splits_is_an_error_that_names_both_lines(tmp_path, second, form):
    picture(tmp_path / "0.png"), picture(tmp_path / "1.png")
    os.symlink("0.png", tmp_path / "link.png")
    table = [("0.png", "a dog", "train"), ("1.png", "x", "train"), (second.format(root=tmp_path), "a secret", "test")]
    if form == "csv":
        (tmp_path / "captions.csv").write_text("image,caption,split\n" + "".join(",".join(row) + "\n" for row in table))
    else:
        lines(tmp_path / "captions.jsonl", [dict(zip(("image", "caption", "split"), row, strict=True)) for row in table])
    first = 2 if form == "csv" else 1
    for split in ("train", "val", "test"):
        with pytest.raises(UserError, match=rf"captions.{form}:{first + 2}: .* split test.* train \(.*{form}:{first}\)"):
            Captions(path=tmp_path, split=split)


def test_one_picture_in_files_of_two_splits_too(tmp_path):
    picture(tmp_path / "0.png")
    for split in ("train", "test"):
        lines(tmp_path / f"captions_{split}.jsonl", [{"image": "0.png", "caption": split}])
    with pytest.raises(
        UserError, match=r"captions_train.jsonl:1: .*in split train, and above in test \(.*captions_test.jsonl:1"
    ):
        Captions(path=tmp_path)
    for split in ("train", "val"):
        images = [{"id": 7, "file_name": "0.png"}]
        dump(tmp_path / f"captions_{split}2014.json", {"images": images, "annotations": [{"image_id": 7, "caption": split}]})
    with pytest.raises(
        UserError, match=r"captions_val2014.json: image 0: .* split val, .*train \(.*captions_train2014.json: image 0"
    ):
        CocoCaptions(annotations=tmp_path / "captions_train2014.json", images=tmp_path)


# ---- outside


def outside(tmp_path):
    picture(tmp_path / "out" / "secret.png", 99)
    root = tmp_path / "data"
    picture(root / "in.png")
    os.symlink(tmp_path / "out" / "secret.png", root / "file.png")
    os.symlink(tmp_path / "out", root / "folder")
    os.symlink("in.png", root / "inside.png")
    os.symlink("gone.png", root / "dangling.png")
    os.mkfifo(root / "fifo.png")
    os.symlink("/dev/zero", root / "zero.png")
    return root


HOSTILE = [
    "../out/secret.png",
    "{out}/secret.png",
    "file.png",
    "folder/secret.png",
    "x/../../out/secret.png",
    "/dev/zero",
    "/etc/passwd",
    "zero.png",
]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", ["captions", "questions", "coco", "series"])
def test_data_stay_below_their_folder(tmp_path, name, kind):
    root, name = outside(tmp_path), name.format(out=tmp_path / "out")
    if kind == "coco":
        dump(root / "c.json", {"images": [{"id": 1, "file_name": name}], "annotations": [{"image_id": 1, "caption": "x"}]})
        opened = lambda **more: CocoCaptions(annotations=root / "c.json", images=root, **ALL, **more)  # noqa: E731
    elif kind == "questions":
        lines(root / "questions.jsonl", [{"image": name, "question": "is it?", "answer": "yes"}])
        opened = lambda **more: Questions(path=root, **ALL, **more)  # noqa: E731
    else:
        line = {"image": name, "caption": "x"} if kind == "captions" else {"image": "in.png", "caption": "x", "series": name}
        lines(root / "captions.jsonl", [line])
        opened = lambda **more: Captions(path=root, **ALL, **more)  # noqa: E731
    with pytest.raises(UserError, match=r"(outside|a link out) of .*allow_outside=True"):
        opened()
    if "secret" in name and kind != "series":
        assert (opened(allow_outside=True, size=4)[0]["image"] == 99).all()


def test_a_device_or_a_pipe_is_no_picture_even_where_outside_is_allowed(tmp_path):
    root = outside(tmp_path)
    (root / "plain").mkdir()
    for name, said in (
        ("fifo.png", "no regular file"),
        ("/dev/zero", "no regular file"),
        ("plain", "a folder"),
        ("dangling.png", "no regular file"),
    ):
        lines(root / "captions.jsonl", [{"image": name, "caption": "x"}])
        with pytest.raises(UserError, match=f"is {said}"):
            Captions(path=root, allow_outside=True, **ALL)
    for odd in (root / "fifo.png", "/dev/zero", root):
        with pytest.raises(OSError):
            read_regular(odd)
    os.remove(root / "captions.jsonl")
    os.mkfifo(root / "captions.jsonl")
    for path in (root, root / "captions.jsonl"):
        with pytest.raises(UserError, match="no captions file|nor a regular file"):
            Captions(path=path)


def test_links_inside_the_folder_are_followed_and_lists_are_no_links_out(tmp_path):
    root = outside(tmp_path)
    lines(root / "captions.jsonl", [{"image": "inside.png", "caption": "x"}, {"image": "in.png", "caption": "y"}])
    assert rows(Captions(path=root, **ALL)) == {"inside.png": ["x", "y"]}
    os.rename(root / "captions.jsonl", tmp_path / "out" / "list.jsonl")
    os.symlink(tmp_path / "out" / "list.jsonl", root / "captions.jsonl")
    with pytest.raises(UserError, match="captions.jsonl: this list is a link out of"):
        Captions(path=root, **ALL)
    assert len(Captions(path=root, allow_outside=True, **ALL)) == 1


def test_links_of_a_hub_cache_are_followed(tmp_path):
    cache = tmp_path / "datasets--a--b"
    picture(cache / "blobs" / "abc.png", 5)
    (cache / "snapshots" / "r1").mkdir(parents=True)
    for name in ("1.png", "2.png"):  # of one content, and two pictures
        os.symlink("../../blobs/abc.png", cache / "snapshots" / "r1" / name)
    lines(cache / "snapshots" / "r1" / "metadata.jsonl", [{"file_name": f"{i}.png", "text": str(i)} for i in (1, 2)])
    source = Captions(path=cache / "snapshots" / "r1", size=4, **ALL)
    assert [source[i]["captions"] for i in range(2)] == [["1"], ["2"]] and (source[1]["image"] == 5).all()


# ---- what is told, and paths of commands


def test_control_characters_do_not_reach_the_log(tmp_path, caplog, capsys):
    bad = "\x1b[31mred\x07\n2026 forged\u202e.png"
    picture(tmp_path / "1.png")
    listed = [{"image": name, "caption": "x", "split": "train"} for name in (bad, "1.png")]
    lines(tmp_path / "captions.jsonl", listed)
    with caplog.at_level(logging.INFO):
        Captions(path=tmp_path, val_fraction=0)
    assert r"\x1b[31mred\x07\x0a2026 forged\u202e.png" in caplog.text and "\x1b" not in caplog.text
    lines(tmp_path / "captions.jsonl", [{"image": "../" + bad, "caption": "x"}])
    with pytest.raises(UserError) as error:
        Captions(path=tmp_path)
    tell(str(error.value))
    assert not {"\x1b", "\x07", "\u202e"} & set(capsys.readouterr().err)
    assert str(UserError("a\tb\n\x00c\udce9")) == "a\tb\n\\x00c\\xe9" and printable("한 🎉 é") == "한 🎉 é"


def test_no_record_of_a_log_carries_them():
    record = logging.LogRecord("absl", logging.INFO, "x.py", 1, "read %s of %d\n\tdone", ("a\x1b]0;x\x07.png", 3), None)
    assert cli.as_printable(record) and record.getMessage() == "read a\\x1b]0;x\\x07.png of 3\n\tdone"


def test_home_and_pictures_of_a_command(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("p/b.png", "p/a.JPG", "p/sub/c.webp", "p/img[1].png", "p/x1.png"):
        picture(tmp_path / name)
    (tmp_path / "p" / "readme.txt").write_text("no")
    own = str(tmp_path / "p")
    assert [os.path.relpath(file, own) for file in pictures_of("~/p")] == [
        "a.JPG",
        "b.png",
        "img[1].png",
        "x1.png",
        "sub/c.webp",
    ]
    assert pictures_of(f"{own}/img[1].png") == [f"{own}/img[1].png"]
    assert pictures_of(f"{own}/[bx]*.png") == [f"{own}/b.png", f"{own}/x1.png"]
    with caplog.at_level(logging.WARNING):
        assert len(pictures_of(f"{own}/*")) == 5
    assert "sub is a folder" in caplog.text
    for wrong, said in ((f"{own}/none*", "no file matches"), (f"{own}/su*", "only folders match")):
        with pytest.raises(UserError, match=said):
            pictures_of(wrong)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no picture is in this folder"):
        pictures_of("~/empty")
    assert given_path("~/p") == tmp_path / "p" and str(given_path("~nobody-of-that-name/x")) == "~nobody-of-that-name/x"
    lines(tmp_path / "p" / "captions.jsonl", [{"image": "b.png", "caption": "x"}])
    assert len(Captions(path="~/p", **ALL)) == 1

"""Tables of captions as spreadsheets, pandas and hubs write them; which files of a folder hold the captions."""

import json
import logging
import shutil

import pytest

from tests.data.written import dump, lines, picture
from xmodal_jax.data.sources.captions import Captions
from xmodal_jax.data.sources.coco import CocoCaptions
from xmodal_jax.data.sources.questions import Questions
from xmodal_jax.data.sources.records import load_json
from xmodal_jax.data.sources.splits import hashed_split, parted
from xmodal_jax.errors import UserError

ALL = {"split_fractions": (1, 0, 0)}


@pytest.fixture(name="folder")
def pictures(tmp_path):
    for i in range(6):
        picture(tmp_path / f"{i}.png", i)
    return tmp_path


def read(path, **more):
    source = Captions(path=path, **ALL | more)
    return {row.name: list(row.captions) for row in source._rows}


WANTED = {"0.png": ["a dog, a cat", "second"], "1.png": ['a 12" pizza']}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'Image,Caption\n0.png,"a dog, a cat"\n1.png,"a 12"" pizza"\n0.png,second\n'),
        ("a.csv", ' IMAGE , caption \n0.png,"a dog, a cat"\n1.png,a 12" pizza\n0.png,second\n'),
        ("a.csv", 'File Name;Caption\n0.png;a dog, a cat\n1.png;a 12" pizza\n0.png;second\n'),
        ("a.csv", '"image";"caption"\n"0.png";"a dog, a cat"\n"1.png";"a 12"" pizza"\n"0.png";"second"\n'),
        ("a.csv", 'sep=;\nimage;caption\n0.png;a dog, a cat\n1.png;a 12" pizza\n0.png;second\n'),
        ("a.csv", ',image,caption,n\n0,0.png,"a dog, a cat",1\n1,1.png,"a 12"" pizza",2\n2,0.png,second,3\n'),  # pandas' index
        ("a.csv", 'image\tcaption\n0.png\ta dog, a cat\n1.png\ta 12" pizza\n0.png\tsecond\n'),
        ("a.csv", '\ufeffimage,caption\r\n0.png,"a dog, a cat"\r\n1.png,"a 12"" pizza"\r\n0.png,second\r\n'),
        ("a.csv", '\n\nimage,caption\n\n0.png,"a dog, a cat"\n,\n1.png,"a 12"" pizza"\n\n0.png,second\n\n'),
        ("a.csv", 'image,caption\r0.png,"a dog, a cat"\r1.png,"a 12"" pizza"\r0.png,second\r'),
        ("a.csv", 'image,caption\n0.png,"a dog, a cat"\n1.png,"a 12\\" pizza"\n0.png,second\n'),
        ("a.csv", "filename,raw\n0.png,\"['a dog, a cat', 'second']\"\n1.png,\"[\"\"a 12\\\"\" pizza\"\"]\"\n"),
        ("a.tsv", 'filepath\ttitle\n0.png\ta dog, a cat\n1.png\ta 12" pizza\n0.png\tsecond\n'),
        ("a.tsv", 'filepath\ttitle\n0.png\t"a dog, a cat"\n1.png\t"a 12"" pizza"\n0.png\tsecond\n'),
        ("A.CSV", 'image,caption\n0.png,"a dog, a cat"\n1.png,a 12" pizza\n0.png,second\n'),
        ("captions.txt", 'Image,Caption\n0.png,"a dog, a cat"\n1.png,"a 12"" pizza"\n0.png,second\n'),
        ("results.csv", "image_name| number| comment\n0.png| 0| a dog, a cat\n1.png| 0| a 12\" pizza\n0.png| 1| second\n"),
        ("a.json", json.dumps([{"image": k, "captions": v} for k, v in WANTED.items()])),
        ("a.json", json.dumps({"data": [{"file_name": k, "captions": v} for k, v in WANTED.items()]})),
        ("a.json", json.dumps(WANTED, indent=1)),
        ("a.json", json.dumps({"image": dict(enumerate(WANTED)), "captions": dict(enumerate(WANTED.values()))})),  # pandas
        ("a.json", "\n".join(json.dumps({"image": k, "captions": v}) for k, v in WANTED.items())),
        ("a.jsonl", json.dumps([{"image": k, "captions": v} for k, v in WANTED.items()], indent=2)),
        ("a.jsonl", "\ufeff" + "\r\n".join(json.dumps({" Image": k, "CAPTIONS": v}) for k, v in WANTED.items())),
        ("a.ndjson", "\n".join(json.dumps({"image": k, "captions": v}) for k, v in WANTED.items())),
    ],
)  # fmt: skip
def test_every_dialect_is_read(folder, name, text):
    (folder / name).write_bytes(text.encode("utf-8"))
    assert read(folder) == read(folder / name) == WANTED


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_what_a_spreadsheet_calls_unicode(folder, coding):
    mark = "\ufeff" if coding[-2:] in ("le", "be") else ""
    (folder / "a.tsv").write_bytes((mark + "image\tcaption\n0.png\t한국어 é\n").encode(coding))
    assert read(folder) == {"0.png": ["한국어 é"]}


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "txt"])
def test_separators_of_lines_of_unicode_belong_to_a_text(folder, separator, form):
    text = f"two{separator}parts"
    if form == "jsonl":
        (folder / "a.jsonl").write_text(json.dumps({"image": "0.png", "caption": text}, ensure_ascii=False), "utf-8")
    elif form == "txt":
        (folder / "0.txt").write_text(text, "utf-8")
    else:
        between = {"csv": ",", "tsv": "\t"}[form]
        (folder / f"a.{form}").write_text(f"image{between}caption\n0.png{between}{text}\n", "utf-8")
    assert read(folder) == {"0.png": ["two parts"]}


NOTHING = [None, "", "  ", "NaN", "nan", "null", "None", float("nan"), "<NA>"]


@pytest.mark.parametrize("value", NOTHING)
@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "list", "json", "coco", "karpathy", "flickr", "txt"])
def test_captions_of_nothing_are_left_out_and_counted(folder, form, value, caplog):
    written = "" if value is None else str(value)
    with caplog.at_level(logging.INFO):
        if form in ("coco", "karpathy"):
            images = [{"id": i, "file_name": f"{i}.png"} for i in (0, 1)]
            captions = {0: value, 1: "a cat"}
            if form == "karpathy":
                images = [one | {"sentences": [{"raw": captions[one["id"]]}]} for one in images]
            notes = [{"image_id": i, "caption": caption} for i, caption in captions.items()]
            dump(folder / "c.json", {"images": images} | ({"annotations": notes} if form == "coco" else {}))
            source = CocoCaptions(annotations=folder / "c.json", images=folder, **ALL)
            assert [(row.name, row.captions) for row in source._rows] == [("1.png", ("a cat",))]
        else:
            if form in ("csv", "tsv", "flickr"):
                between = "\t" if form == "tsv" else ","
                name = "captions.txt" if form == "flickr" else f"a.{form}"
                (folder / name).write_text(f"image{between}caption\n0.png{between}{written}\n1.png{between}a cat\n")
            elif form == "txt":
                (folder / "0.txt").write_text(written), (folder / "1.txt").write_text("a cat")
            else:
                entries = [{"image": "0.png", "caption": [value, None] if form == "list" else value}]
                entries.append({"image": "1.png", "caption": "a cat"})
                dump(folder / "a.json", entries) if form == "json" else lines(folder / "a.jsonl", entries)
            assert read(folder) == {"1.png": ["a cat"]}
    assert "1 pictures without a caption are left out" in caplog.text
    assert form == "txt" and not written.strip() or "empty captions (null, NaN, blank)" in caplog.text


def test_a_list_in_a_table_is_a_list_and_brackets_are_brackets(folder):
    cells = ["[a dog] runs", "[not a list", "\"['one', None]\"", "[]", "\"['a b' 'c'\n 'd']\"", "[1]"]  # 4: of numpy
    (folder / "a.csv").write_text("image,caption\n" + "".join(f"{n}.png,{cell}\n" for n, cell in enumerate(cells)))
    texts = [["[a dog] runs"], ["[not a list"], ["one"], ["[]"], ["a b", "c", "d"], ["[1]"]]
    assert read(folder) == {f"{n}.png": own for n, own in enumerate(texts)}


@pytest.mark.parametrize(
    ("lines_of_it", "captions"),
    [
        (['2.png\t"hello, said the man', '3.png\ta 12" pizza'], ['"hello, said the man', 'a 12" pizza']),
        (['2.png\t"hello', '3.png\tworld"'], ['"hello', 'world"']),
        (['2.png\t"a ""b"" c"', "3.png\td"], ['a "b" c', "d"]),
        (['2.png\t"two\nlines"', "3.png\td"], ["two lines", "d"]),
        (['2.png\t"hello" he said', "3.png\td"], ['"hello" he said', "d"]),
    ],
)
def test_quotes_in_a_tsv(folder, lines_of_it, captions):
    (folder / "a.tsv").write_text("\n".join(["image\tcaption", "0.png\tx", *lines_of_it, "4.png\ty"]) + "\n")
    assert read(folder) == {"0.png": ["x"], "2.png": captions[:1], "3.png": captions[1:], "4.png": ["y"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('image,caption\n0.png,"open\n1.png,x\n', r"a.csv:2: this is no readable table"),
        ('image,caption\n0.png,"open\n1.png,x\n2.png,close"\n3.png,y\n', r"a.csv:4: a double quote is left open"),
        ('image,caption\n0.png,x\n1.png,"a" b\n', r"a.csv:3: this is no readable table"),
        ("image,caption\n0.png,a, b\n", r"a.csv:2: more fields than the header has .*image, caption"),
        ("image,caption,caption\n0.png,a,b\n", r"a.csv:1: the header has caption twice"),
        ("picture,words\n0.png,a\n", r"a.csv:2: this line names no picture.*it has picture, words"),
        ("image,words\n0.png,a\n", r"a.csv:2: this line has no caption.*it has image, words"),
        ("0.png,a dog\n1.png,a cat\n", r"a.csv:2: this line names no picture.*it has 0.png, a_dog"),
        ("image,caption\n", "no example in split"),
    ],
)
def test_a_table_that_cannot_be_read_is_told(folder, text, said):
    (folder / "a.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        read(folder)


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"image":'])
def test_deep_json_is_told(folder, opening):
    deep = opening * 100_000
    for name in ("captions.jsonl", "captions.json"):
        (folder / name).write_text(deep)
        with pytest.raises(UserError, match=r"captions.json.*(nested too deeply|not JSON)"):
            Captions(path=folder / name)
    (folder / "questions.jsonl").write_text(deep)
    with pytest.raises(UserError, match="questions.jsonl.*(nested too deeply|not JSON)"):
        Questions(path=folder)
    with pytest.raises(UserError, match="nested too deeply|not JSON"):
        load_json(folder / "captions.json", dict, "an object", hook=dict)
    with pytest.raises(UserError, match="nested too deeply|not JSON"):
        CocoCaptions(annotations=folder / "captions.json", images=folder)


def test_of_several_files_those_of_captions_are_taken(folder, caplog):
    lines(folder / "captions.jsonl", [{"image": "0.png", "caption": "x", "series": "1.csv"}])
    (folder / "1.csv").write_text("0.5,1\n2,3\n")
    (folder / "more.csv").write_text("id,weight\n1,2\n")
    (folder / "names.tsv").write_text("name\tnumber\na\t1\n")
    dump(folder / "info.json", {"license": "CC", "images": 5})
    with caplog.at_level(logging.INFO):
        source = Captions(path=folder, size=4, **ALL)
    assert [list(row.captions) for row in source._rows] == [["x"]] and source[0]["series"].tolist() == [0.5, 1, 2, 3]
    assert all(name in caplog.text for name in ("1.csv", "more.csv", "names.tsv"))
    (folder / "captions.jsonl").unlink()
    (folder / "0.txt").write_text("beside")
    assert read(folder) == {"0.png": ["beside"]}
    (folder / "0.txt").unlink()
    with pytest.raises(UserError, match=r"1.csv:2: this line names no picture"):
        read(folder)


# ---- texts beside pictures


def test_texts_beside_pictures_in_shards_and_of_any_suffix(tmp_path, caplog):
    kinds = ("jpg", "Jpg", "JPEG", "jfif", "png", "webp", "bmp", "tiff", "gif", "avif", "jp2", "ppm", "tga")
    for shard in ("00000", "deep/00001"):
        for i, kind in enumerate(kinds):
            made = picture(tmp_path / shard / f"{i:04d}.{'jpg' if kind in ('Jpg', 'jfif') else kind}", i)
            made = made.rename(made.with_suffix(f".{kind}"))
            made.with_suffix(".txt").write_text(f"{shard} {kind}")
            dump(made.with_suffix(".json"), {"caption": "of the downloader", "status": "success", "image": "x"})
        dump(tmp_path / f"{shard}_stats.json", {"count": len(kinds)})
        (tmp_path / shard / "notes.txt").write_text("no picture")
    with caplog.at_level(logging.INFO):
        found = read(tmp_path)
    assert found == {
        f"{shard}/{i:04d}.{kind}": [f"{shard} {kind}"] for shard in ("00000", "deep/00001") for i, kind in enumerate(kinds)
    }
    assert "2 texts have no picture" in caplog.text and "notes.txt" in caplog.text
    assert read(tmp_path / "00000" / "0003.txt") == {"0003.jfif": ["00000 jfif"]}


def test_texts_beside_pictures_get_splits_by_their_folders_alone(tmp_path):
    for name in ("train/0/a.png", "val/test.png", "test/a.png"):
        picture(tmp_path / name).with_suffix(".txt").write_text(name)
    for split, name in (("train", "train/0/a.png"), ("val", "val/test.png"), ("test", "test/a.png")):
        assert read(tmp_path, split=split) == {name: [name]}
    shutil.move(tmp_path / "val" / "test.txt", tmp_path / "val" / "test.caption")
    assert read(tmp_path, split="val") == {"val/test.png": ["val/test.png"]}


# ---- what is held out


def listed(folder, count, split="train"):
    for i in range(count):
        picture(folder / f"{i}.png")
    lines(folder / "captions.jsonl", [{"image": f"{i}.png", "caption": "x", "split": split} for i in range(count)])
    return {name: {row.name for row in Captions(path=folder, split=name)._rows} for name in ("train", "val")}


@pytest.mark.parametrize("count", [10, 12, 30, 200])
def test_of_training_examples_alone_a_share_is_held_out(tmp_path, count):
    found = listed(tmp_path, count)
    assert not found["train"] & found["val"] and len(found["train"] | found["val"]) == count
    assert 1 <= len(found["val"]) <= max(3, 0.12 * count)
    assert len(Captions(path=tmp_path, val_fraction=0)) == count
    with pytest.raises(UserError, match=r"no example in split 'test'; listed there: train \(\d+\), val \(\d"):
        Captions(path=tmp_path, split="test")
    with pytest.raises(UserError, match="val_fraction=1"):
        Captions(path=tmp_path, val_fraction=1)


def test_what_is_held_out_does_not_depend_on_the_others_nor_is_it_where_there_is_val(tmp_path):
    many, fewer = listed(tmp_path / "a", 200)["val"], listed(tmp_path / "b", 120)["val"]
    assert {name for name in many if int(name[:-4]) < 120} == fewer
    lines(tmp_path / "b" / "captions.jsonl", [
        {"image": f"{i}.png", "caption": "x", "split": "dev" if i == 7 else "train"} for i in range(120)
    ])  # fmt: skip
    assert len(Captions(path=tmp_path / "b")) == 119 and len(Captions(path=tmp_path / "b", split="val")) == 1


def test_from_ten_pictures_on_one_at_least_is_val():
    shares = (0.95, 0.05, 0)
    drawn = [[f"{n}/{i}.png" for i in range(10)] for n in range(50)]
    by_chance = [sum(hashed_split(key, shares) == "val" for key in keys) for keys in drawn]
    assert by_chance.count(0) > 10
    for keys, count in zip(drawn, by_chance, strict=True):
        assert parted(keys, shares).count("val") == max(count, 1)
        assert parted(keys[:9], shares) == [hashed_split(key, shares) for key in keys[:9]]
    assert set(parted(drawn[0], (1, 0, 0))) == {"train"}

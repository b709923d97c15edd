"""Data as people bring them: unpacked zips, exports of pandas and hubs, shards of other tools; and what is told where they do
not fit."""

import gzip
import io
import re
import shutil

import pytest
from PIL import Image

from tests.data.test_shards import encoded, table, tar, write
from tests.data.written import dump, lines, picture
from xmodal_jax.data.formats import FORMATS, REFUSED_SUFFIXES, SUFFIXES
from xmodal_jax.data.images import decode_image
from xmodal_jax.data.sources.captions import Captions
from xmodal_jax.data.sources.coco import CocoCaptions
from xmodal_jax.data.sources.columns import Parquet
from xmodal_jax.data.sources.contained import shards
from xmodal_jax.data.sources.flickr import Flickr
from xmodal_jax.data.sources.hub import Hub
from xmodal_jax.data.sources.places import is_picture, pictures_of
from xmodal_jax.data.sources.questions import Questions
from xmodal_jax.data.sources.webdataset import WebDataset
from xmodal_jax.errors import UserError

pa = pytest.importorskip("pyarrow")
GZIP = gzip.compress(b"image,caption\n", mtime=0)
ALL = {"split_fractions": (1, 0, 0), "val_fraction": 0, "size": 4}


def told(source):
    """{name: captions, or the answers to its questions}"""
    found = {row.name: list(row.captions) for row in source._rows}
    answers = {row.name: [one["answers"] for one in row.extra["questions"]] for row in source._rows if "questions" in row.extra}
    return found | answers


@pytest.fixture
def folder(tmp_path):
    for i in range(3):
        picture(tmp_path / f"{i}.png", 10 * i)
    return tmp_path


# ---- what a zip leaves behind


def as_table(root):
    (root / "captions.csv").write_text("image,caption\n0.png,a\n1.png,b\n")
    return lambda: Captions(path=root, **ALL)


def as_texts(root):
    for i in range(3):
        (root / f"{i}.txt").write_text(f"text {i}")
    return lambda: Captions(path=root, **ALL)


def as_lists_in_folders(root):
    (root / "train").mkdir()
    lines(root / "train" / "metadata.jsonl", [{"file_name": "../0.png", "text": "a"}])
    return lambda: Captions(path=root, **ALL)


def as_tokens(root):
    (root / "text").mkdir()
    (root / "text" / "Flickr8k.token.txt").write_text("0.png#0\ta\n1.png#0\tb\n")
    (root / "text" / "Flickr_8k.trainImages.txt").write_text("0.png\n1.png\n")
    return lambda: Flickr(path=root, **ALL)


def as_coco(root):
    images = [{"id": str(i), "file_name": f"{i}.png"} for i in range(2)]  # numbers as texts
    dump(root / "annotations" / "captions_train2017.json", {
        "images": images, "annotations": [{"image_id": i, "caption": f"caption {i}"} for i in range(2)]
    })  # fmt: skip
    return lambda: CocoCaptions(annotations=root, images=root, **ALL)


def as_questions(root):
    lines(root / "train.jsonl", [{"image": "0.png", "question": "q?", "answer": "a"}])
    return lambda: Questions(path=root, **ALL)


def as_shards(root):
    tar(root / "shards" / "0.TAR", [("0.png", encoded(0)), ("0.txt", b"a"), ("__MACOSX/._0.png", b"x"), ("._0.txt", b"\0")])
    return lambda: WebDataset(path=root / "shards", **ALL)


def as_parquet(root):
    write(root / "tables" / "0.parquet", table([(0, "a"), (1, "b")]))
    return lambda: Parquet(path=root / "tables", **ALL)


@pytest.mark.parametrize(
    "make", [as_table, as_texts, as_lists_in_folders, as_tokens, as_coco, as_questions, as_shards, as_parquet]
)
def test_what_macos_packs_beside_each_file_is_none_of_the_data(folder, make):
    opened = make(folder)
    before = told(opened())
    for file in [file for file in folder.rglob("*") if file.is_file()]:
        for copy in (file.with_name(f"._{file.name}"), file.parent / "__MACOSX" / f"._{file.name}", file.parent / ".DS_Store"):
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(b"\0\5\x16\7\xff\xfe")
    assert told(opened()) == before and before
    assert pictures_of(str(folder)) == [str(folder / f"{i}.png") for i in range(3)]


# ---- suffixes


def test_suffixes_of_pictures_are_those_of_the_formats_that_are_read(folder):
    kinds = Image.registered_extensions()
    assert {kinds[suffix] for suffix in SUFFIXES if suffix in kinds} <= {*FORMATS, "MPO"}
    assert not any(map(is_picture, (*REFUSED_SUFFIXES, ".pdf", ".h5", ".mpg", ".wmf", ".ps", ".msp", ".txt", "")))
    for suffix in (".JPE", ".apng", ".Jfif"):
        buffer = io.BytesIO()
        Image.new("RGB", (4, 4), "red").save(buffer, kinds[suffix.lower()])
        assert is_picture(suffix) and decode_image(buffer.getvalue()).shape == (4, 4, 3)


def test_of_twins_those_are_taken_that_can_be_read(folder):
    for name in ("0.psd", "0.pdf", "7.heic"):
        (folder / name).write_bytes(b"8BPS")
    for stem in "07":
        (folder / f"{stem}.txt").write_text(stem)
    assert told(Captions(path=folder, **ALL)) == {"0.png": ["0"], "7.heic": ["7"]}  # which is refused when it is read
    with pytest.raises(UserError, match="no picture is in this folder; read are JPEG"):
        (folder / "other").mkdir()
        shutil.move(folder / "0.psd", folder / "other")
        pictures_of(str(folder / "other"))


# ---- tables and JSON


@pytest.mark.parametrize("coding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("mark", ["", "\ufeff", "\ufeff\ufeff"])
def test_codings_with_and_without_marks(folder, coding, mark):
    (folder / "a.csv").write_bytes((mark + "image,caption\n0.png,café\n").encode(coding))
    (folder / "0.txt").write_text("a text beside the picture is not taken where there is a list")
    assert told(Captions(path=folder, **ALL)) == {"0.png": ["café"]}


@pytest.mark.parametrize(
    ("text", "captions"),
    [
        ("image,caption\n0.png,a dog,\n1.png,b,,\n", {"0.png": ["a dog"], "1.png": ["b"]}),
        ("image,caption,,\n0.png,a dog,,\n,,,\n", {"0.png": ["a dog"]}),
        ("image,caption_2,caption_10,caption_1,x\n0.png,b,c,a,x\n", {"0.png": ["a", "b", "c"]}),
        ("image,caption1,caption2\n0.png,a,\n", {"0.png": ["a"]}),
        ("Image File,txt\n0.png,a\n", {"0.png": ["a"]}),
        ("img_path;file size;text\n.\\0.png;3;a\n", {".\\0.png": ["a"]}),
        ("image,caption\nfile://{root}/0%2Epng,a\n", {"file://{root}/0%2Epng": ["a"]}),
    ],
)
def test_tables_of_other_tools(folder, text, captions):
    (folder / "a.csv").write_text(text.replace("{root}", str(folder)))
    expected = {name.replace("{root}", str(folder)): texts for name, texts in captions.items()}
    assert told(Captions(path=folder, **ALL)) == expected


def test_a_zero_in_a_text_does_not_make_it_utf16(folder):
    (folder / "0.txt").write_text("\0a dog runs")
    assert told(Captions(path=folder, **ALL)) == {"0.png": ["\0a dog runs"]}


TWO = {"0.png": ["a"], "1.png": ["b"]}
ENTRIES = [{"image": "0.png", "caption": "a"}, {"image": "1.png", "caption": "b"}]


@pytest.mark.parametrize(
    "data",
    [
        {"image": ["0.png", "1.png"], "caption": ["a", "b"]},  # orient="list" of pandas
        {"columns": ["image", "caption"], "index": [0, 1], "data": [["0.png", "a"], ["1.png", "b"]]},  # "split"
        {"0": ENTRIES[0], "1": ENTRIES[1]},  # "index"
        {"schema": {"fields": []}, "data": ENTRIES},  # "table"
        {"0.png": {"caption": "a", "tags": "x"}, "1.png": {"caption": "b"}},
        [{"image": {"bytes": None, "path": "0.png"}, "text": "a"}, {"image": ["1.png"], "text": "b"}],
        {"train": ENTRIES, "test": [{"image": "2.png", "caption": "c"}]},
        [{"image": f"{i}.png", "sentences": [{"tokens": [text], "raw": text}]} for i, text in enumerate("ab")],
    ],
)
def test_json_of_other_tools(folder, data):
    dump(folder / "data.json", data)
    dump(folder / "config.json", {"model": "x", "tags": ["a", "b"]})  # names no picture
    assert told(Captions(path=folder, **ALL)) == TWO


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("captions.csv.gz", GZIP, "Unpack captions.csv.gz first"),
        ("pack.zip", b"PK\3\4", "Unpack pack.zip first"),
        ("captions.xlsx", b"PK\3\4", "Save captions.xlsx as CSV UTF-8"),
        ("captions.csv", b"PK\3\4\xff", r"captions.csv: this is a ZIP archive or a spreadsheet"),
        ("captions.csv", GZIP, "captions.csv: this is compressed by gzip"),
        ("captions.jsonl", b"PAR1\0", "data=parquet reads it"),
        ("a.json", b'{"images": [{"id": 1}], "annotations": [{"image_id": 1}]}', "in a.json.*data=coco reads such files"),
        ("train.jsonl", b'{"image": "0.png", "question": "q?", "answer": "a"}', "data=questions reads such files"),
        ("a.json", b'[{"image": "0.png", "conversations": []}]', "no pictures with captions are in a.json"),
        ("a.csv", b"image,caption\nhttps://x.org/0.png,a\n", "https://x.org/0.png is a URL, which is not fetched"),
        ("a.csv", b"image,caption\nC:\\me\\0.png,a\n", "0.png is a path of Windows"),
        ("a.csv", b"image,caption\n0.PNG,a\n", r"the picture 0.PNG is not there \(0.png is\)"),
        ("a.csv", b"image,caption\n\\no/0.png,a\n", "0.png is not there[.]"),
        ("a.csv", b"image,caption\n0,a\n", r"the picture 0 is not there \(0.png is\)"),
        ("a.jsonl", b'{"image": 7, "caption": "a"}', r"it has image, caption \(image is '7'\)"),
    ],
)
def test_what_cannot_be_read_is_told_with_what_would_be_right(folder, name, content, said):
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=said):
        Captions(path=folder, **ALL)


def test_pictures_lie_in_a_folder_images_of_either_case_and_in_those_of_their_split(tmp_path):
    for split, shade in (("train", 10), ("val", 20)):
        picture(tmp_path / "Images" / split / "0.png", shade)
        lines(tmp_path / f"{split}.jsonl", [{"image": "0.png", "caption": split, "question": "q?", "answer": split}])
    for kind in (Captions, Questions):
        found = {split: kind(path=tmp_path, split=split, size=4) for split in ("train", "val")}
        assert [(len(source), int(source[0]["image"].max())) for source in found.values()] == [(1, 10), (1, 20)]
    picture(tmp_path / "Images" / "0.png", 30)  # there most of them are at once
    with pytest.raises(UserError, match=r"val.jsonl:1: .* in split val, and above in train \(.*train.jsonl:1\)"):
        Captions(path=tmp_path)


# ---- questions


def test_a_picture_in_questions_of_two_splits_is_told_with_both_lines(folder, caplog):
    """Data sets do share pictures between splits of questions: it is a warning."""
    lines(folder / "train.jsonl", [{"image": "1.png", "question": "q?", "answer": "a"}, {"image": "0.png", "question": "q?"}])
    lines(folder / "val.jsonl", [{"image": "x/../0.png", "question": "q?", "answer": "a"}])
    (folder / "x").mkdir()
    Questions(path=folder, split="val")
    assert re.search(r"train.jsonl:2: the picture 0.png is in another split, too \(.*val.jsonl:1\)", caplog.text)


def test_answers_of_other_tools(folder):
    (folder / "Questions.csv").write_text(
        'image,question,answers\n0.png,q?,"[""yes"", ""no""]"\n0.png,q?,"[\'a, b\', \'c\']"\n0.png,q?,x|y\n0.png,q?,[unclear]\n'
    )
    assert told(Questions(path=folder, **ALL)) == {"0.png": [["yes", "no"], ["a, b", "c"], ["x", "y"], ["[unclear]"]]}
    (folder / "Questions.csv").unlink()
    answers = [{"answer": "a", "answer_confidence": "yes"}, {"answer": "b", "answer_confidence": "no"}]
    dump(folder / "train.json", [{"image": "0.png", "question": "q?", "answers": answers}])
    assert told(Questions(path=folder, **ALL)) == {"0.png": [["a", "b"]]}


# ---- shards and tables of hubs


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ([("1.JPG", "JPEG"), ("1.TXT", b"a")], {"0/1": ["a"]}),
        ([("1.0.png", 1), ("1.0.txt", b"a"), ("1.1.png", 2), ("1.1.txt", b"b")], {"0/1.0": ["a"], "0/1.1": ["b"]}),
        ([("1.left.png", 1), ("1.right.png", 2), ("1.txt", b"a")], {"0/1.left": ["a"], "0/1.right": ["a"]}),
        ([("1.mask.png", 9), ("1.png", 1), ("1.txt", b"a")], {"0/1": ["a"]}),
        ([("1.image.png", 1), ("1.caption.txt", b"a")], {"0/1.image": ["a"]}),
        ([("1.png", 1), ("1.de.txt", b"ein"), ("1.en.txt", b"a")], {"0/1": ["a"]}),
        ([("1.png", 1), ("1.json", b'["a", "b"]')], {"0/1": ["a", "b"]}),
        ([("1.png", 1), ("1.json", b'"a"')], {"0/1": ["a"]}),
        ([("1.png", 1), ("1.json", b'{"caption_1": "a", "caption_2": "b"}')], {"0/1": ["a", "b"]}),
        ([("1.png", 1), ("1.txt", "hé".encode("utf-16"))], {"0/1": ["hé"]}),
        ([("1.png", 1), ("1.txt", b"a"), ("1.png", 2), ("1.txt", b"b")], {"0/1": ["a"]}),
    ],
)
def test_members_as_other_tools_name_them(tmp_path, members, found):
    told_bytes = {"JPEG": encoded(1, "JPEG")} | {shade: encoded(shade) for shade in (1, 2, 9)}
    tar(tmp_path / "0.tar", [(name, told_bytes.get(data, data)) for name, data in members])
    source = WebDataset(path=tmp_path, **ALL)
    assert told(source) == found
    assert int(source[0]["image"].max()) == 1


def test_shards_without_captions_say_what_they_have(tmp_path):
    tar(tmp_path / "0.tar", [("1.png", encoded(1)), ("1.cls", b"3")])
    with pytest.raises(UserError, match=r"1 keys have a picture, 1 of these no caption. Expected: KEY.jpg with KEY.txt"):
        WebDataset(path=tmp_path, **ALL)


def test_patterns_of_shards(tmp_path):
    for name in ("a-0.tar", "a-1.tar", "b-0.tar", "[x].tar"):
        tar(tmp_path / name, [])
    for pattern, count in (("a-?.tar", 2), ("[ab]-0.tar", 2), ("{a,b}-0.tar", 2), ("{a,b}-{0..0}.tar", 2), ("[x].tar", 1)):
        assert len(shards(tmp_path / pattern, (".tar",))[1]) == count
    for place in ("https://x.org/{0..3}.tar", "gs://bucket/0.tar", "pipe:curl https://x.org/0.tar"):
        with pytest.raises(UserError, match="download them, or mount the bucket"):
            shards(place, (".tar",))
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "0.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(UserError, match=r"no \*.tar file here.* Unpack 0.tar.gz first"):
        shards(tmp_path / "packed", (".tar",))


def test_columns_as_hubs_hand_them_out(tmp_path):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    of = lambda shade: {"bytes": encoded(shade), "path": None}  # noqa: E731
    write(tmp_path / "lists.parquet", pa.table({"images": pa.array([[of(1)]], pa.list_(kind)), "txt": ["a"]}))
    write(tmp_path / "sound.parquet", pa.table({
        "audio": pa.array([{"bytes": b"RIFF", "path": None}], kind), "image": pa.array([of(2)], kind),
        "caption_0": ["b"], "caption_1": ["c"],
    }))  # fmt: skip
    nested = pa.array([{"raw": ["d", "e"], "sentid": [1, 2]}])
    write(tmp_path / "nested.parquet", pa.table({"image": pa.array([of(3)], kind), "sentences": nested}))
    write(tmp_path / "vectors.parquet", pa.table({"vector": [1.0]}))  # of something else
    source = Parquet(path=tmp_path, **ALL)
    assert told(source) == {"lists/0": ["a"], "nested/0": ["d", "e"], "sound/0": ["b", "c"]}
    assert [int(source[i]["image"].max()) for i in range(3)] == [1, 3, 2]


def test_columns_that_do_not_fit_are_told(tmp_path):
    for name, made, said in (
        ("url", pa.table({"url": ["http://x"], "text": ["a"]}), "no column of pictures is .* url, text.*not fetched"),
    ):
        write(tmp_path / name / "0.parquet", made)
        with pytest.raises(UserError, match=said):
            Parquet(path=tmp_path / name, **ALL)


def test_a_config_of_a_hubs_data_set_that_is_not_there_is_told(tmp_path):
    write(tmp_path / "datasets--org--name" / "snapshots" / "r1" / "en" / "train.parquet", table([(1, "a")]))
    assert len(Hub(name="org/name:en", path=tmp_path, **ALL)) == len(Hub(name="org/name", path=tmp_path, **ALL)) == 1
    with pytest.raises(UserError, match="there is no config 'fr' in this data set; its folders: en"):
        Hub(name="org/name:fr", path=tmp_path, **ALL)

"""Tar shards, parquet files and an installed cache of a hub: read in place, split, sharded and resumed as any source."""

import io
import json
import os
import pickle
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from tests.data.written import picture
from xmodal_jax.data.loader import Batches
from xmodal_jax.data.sources.captions import Captions
from xmodal_jax.data.sources.columns import Parquet
from xmodal_jax.data.sources.contained import shards
from xmodal_jax.data.sources.hub import Hub
from xmodal_jax.data.sources.webdataset import WebDataset
from xmodal_jax.errors import UserError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
ALL = {"split_fractions": (1, 0, 0)}


def encoded(shade, kind="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), (shade,) * 3).save(buffer, kind)
    return buffer.getvalue()


def tar(path, members, **how):
    """members: [(name, bytes)]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **how) as file:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def sample(i, key=None):
    return [(f"{key or f'{i:05d}'}.png", encoded(i)), (f"{key or f'{i:05d}'}.txt", f"caption {i}".encode())]


def contents(source):
    """{name: (captions, shade)}"""
    return {row.name: (list(row.captions), int(source[i]["image"][0, 0, 0])) for i, row in enumerate(source._rows)}


def table(rows, image="image", caption="caption", **more):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = [{"bytes": encoded(shade), "path": f"{shade}.png"} for shade, _ in rows]
    return pa.table({image: pa.array(images, kind), caption: [text for _, text in rows], **more})


def write(path, made, group=3):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(made, path, row_group_size=group)
    else:
        with pa.OSFile(os.fspath(path), "wb") as file, pa.ipc.new_stream(file, made.schema) as writer:
            writer.write_table(made, max_chunksize=group)
    return path


# ---- webdataset


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_shards(tmp_path, form):
    long = "folder/" + "x" * 120
    tar(tmp_path / "00000.tar", [m for i in range(4) for m in sample(i)], format=form)
    one = [(f"{long}.jpg", encoded(200, "JPEG")), (f"{long}.json", json.dumps({"caption": "long", "split": "train"}).encode())]
    tar(tmp_path / "00001.tar", [*one, *sample(1)] if form != tarfile.USTAR_FORMAT else sample(1), format=form)
    source = WebDataset(path=tmp_path, size=4, file_bytes=True, val_fraction=0, **ALL)
    found = contents(source)
    wanted = {f"00000/{i:05d}": ([f"caption {i}"], i) for i in range(4)} | {"00001/00001": (["caption 1"], 1)}
    assert {name: found[name] for name in wanted} == wanted and len(found) == 5 + (form != tarfile.USTAR_FORMAT)
    assert source[0]["image_file"] == encoded(0) and source[0]["id"] == f"{tmp_path.name}/00000/00000"
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source))[3]["image"], source[3]["image"])
    assert source.captions(1) == (["caption 1"], None, "en")


def test_members_of_a_shard(tmp_path):
    """Texts of several lines, of other suffixes, before the picture; keys without a picture or caption; links, devices."""
    members = [
        ("a.txt", b"one\ntwo\n"), ("a.jpg", encoded(10, "JPEG")), ("a.seg.png", encoded(99)),
        ("b.PNG", encoded(20)), ("b.caption", b"b b"), ("b.cls", b"3"),
        ("x/c.json", json.dumps({"Caption": ["json", None]}).encode()), ("x/c.webp", encoded(30, "WEBP")),
        ("d.txt", b"no picture"), ("e.png", encoded(40)), ("f.png", encoded(50)), ("f.txt", b" "),
        ("g.png", encoded(60)), ("g.json", b'{"caption": "not this"}'), ("g.txt", "이것".encode()),
    ]  # fmt: skip
    path = tar(tmp_path / "s.tar", members)
    with tarfile.open(path, "a") as file:
        odd = {"h.png": tarfile.SYMTYPE, "folder": tarfile.DIRTYPE, "i.png": tarfile.FIFOTYPE, "j.png": tarfile.CHRTYPE}
        for name, kind in odd.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            file.addfile(info)
    source = WebDataset(path=path, size=4, **ALL)
    texts = {name: captions for name, (captions, _) in contents(source).items()}
    assert texts == {"s/a": ["one", "two"], "s/b": ["b b"], "s/x/c": ["json"], "s/g": ["이것"]} and source.lone == 1
    assert [row.name for row in WebDataset(path=path, caption_field="caption", **ALL)._rows] == ["s/x/c", "s/g"]


def test_shards_by_pattern_split_and_errors(tmp_path):
    for i, name in enumerate(("train-000", "train-001", "val/000", "test-0")):
        tar(tmp_path / f"{name}.tar", sample(i))
    names = {
        split: [row.name for row in WebDataset(path=tmp_path, split=split, val_fraction=0)._rows]
        for split in ("train", "val", "test")
    }
    assert names == {"train": ["train-000/00000", "train-001/00001"], "val": ["val/000/00002"], "test": ["test-0/00003"]}
    for pattern in ("train-{000..001}.tar", "train-*.tar", "t*-00{0..1}.tar"):
        assert len(WebDataset(path=f"{tmp_path}/{pattern}", val_fraction=0)) == 2
    with pytest.raises(UserError, match=r"1 of 3 shards are not there, such as .*train-002.tar"):
        WebDataset(path=f"{tmp_path}/train-{{000..002}}.tar")
    for bad in (tmp_path / "none", f"{tmp_path}/none-*.tar"):
        with pytest.raises(UserError, match=r"there is no \*.tar file here|not there"):
            WebDataset(path=bad)
    tar(tmp_path / "l" / "out.tar", sample(1))
    (tmp_path / "in").mkdir()
    os.symlink(tmp_path / "l" / "out.tar", tmp_path / "in" / "x.tar")
    with pytest.raises(UserError, match="is a link out of"):
        shards(tmp_path / "in", (".tar",))


@pytest.mark.parametrize("damage", ["truncated", "header", "compressed", "text", "size", "empty"])
def test_a_damaged_shard_is_named(tmp_path, damage):
    path = tar(tmp_path / "s.tar", [m for i in range(4) for m in sample(i)])
    data = bytearray(path.read_bytes())
    if damage == "truncated":
        data = data[:1800]
    elif damage == "header":
        data[512 * 2 : 512 * 2 + 200] = b"\xff" * 200
    elif damage == "size":
        data[124:136] = b"77777777777\0"
    if damage == "compressed":
        with tarfile.open(path, "w:gz") as file:
            file.addfile(tarfile.TarInfo("a.png"))
    else:
        path.write_bytes({"text": b"hello", "empty": b""}.get(damage, bytes(data)))
    with pytest.raises(UserError, match="s.tar: (this is no whole .tar file|no example)"):
        WebDataset(path=path, **ALL)


# ---- parquet


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize("captions", ["text", "list", "objects", "array"])
def test_tables_of_a_hub(tmp_path, suffix, captions):
    form = {
        "text": lambda i: f"caption {i}", "list": lambda i: [f"caption {i}"],
        "objects": lambda i: [{"raw": f"caption {i}", "id": i}], "array": lambda i: {"text": f"caption {i}"},
    }[captions]  # fmt: skip
    for part in range(2):
        rows = [(10 * part + i, form(10 * part + i)) for i in range(8)]
        write(tmp_path / "data" / f"train-0000{part}-of-00002{suffix}", table(rows))
    source = Parquet(path=tmp_path, size=4, val_fraction=0, file_bytes=True)
    found = contents(source)
    assert found == {
        f"data/train-0000{p}-of-00002/{i}": ([f"caption {10 * p + i}"], 10 * p + i) for p in range(2) for i in range(8)
    }
    assert len(source._groups) == 4  # of six
    order = np.random.default_rng(0).permutation(16)
    assert [source[int(i)]["image_file"] == encoded(10 * (i // 8) + i % 8) for i in order] == [True] * 16
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source))[9]["image"], source[9]["image"])


def test_columns_are_found_and_splits_told(tmp_path):
    rows = [(i, [f"a {i}", None, " "]) for i in range(6)]
    splits = ["train", "train", "restval", "val", "test", "test"]
    write(tmp_path / "test.parquet", table(rows, "Image", "sentences", split=splits, label=list(range(6))))
    found = {split: Parquet(path=tmp_path, split=split, size=4) for split in ("train", "val", "test")}
    assert {split: [row.captions for row in source._rows] for split, source in found.items()} == {
        "train": [("a 0",), ("a 1",), ("a 2",)], "val": [("a 3",)], "test": [("a 4",), ("a 5",)],
    }  # fmt: skip
    binary = pa.table({"jpg": [encoded(7, "JPEG")], "Caption": ["x"], "other": [1], "words": ["own"]})
    write(tmp_path / "b" / "b.parquet", binary)
    assert contents(Parquet(path=tmp_path / "b", size=4, **ALL)) == {"b/0": (["x"], 7)}
    assert Parquet(path=tmp_path / "b", caption_field="words", image_field="JPG", **ALL).captions(0)[0] == ["own"]
    for settings, said in (
        ({"caption_field": "none"}, r"no column of captions \(none\).*it has jpg, Caption, other, words"),
        ({"image_field": "none"}, "no column of pictures none"),
    ):
        with pytest.raises(UserError, match=said):
            Parquet(path=tmp_path / "b", **settings)


def test_pictures_by_path_stay_below_the_folder(tmp_path):
    picture(tmp_path / "d" / "images" / "1.png", 9), picture(tmp_path / "secret.png", 99)
    for name, shade in (("images/1.png", 9), ("../secret.png", None), (str(tmp_path / "secret.png"), None)):
        write(tmp_path / "d" / "t.parquet", pa.table({"image": [name], "caption": ["x"]}))
        source = Parquet(path=tmp_path / "d", size=4, **ALL)
        if shade:
            assert (source[0]["image"] == shade).all()
        else:
            with pytest.raises(UserError, match="lies outside of .*allow_outside"):
                source[0]
            assert (Parquet(path=tmp_path / "d", size=4, allow_outside=True, **ALL)[0]["image"] == 99).all()


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_a_damaged_table_is_named(tmp_path, suffix):
    path = write(tmp_path / f"t{suffix}", table([(i, "x") for i in range(6)]))
    data = path.read_bytes()
    for bad in (b"", b"hello", data[: len(data) // 2], data[:100], b"\0" * 500):
        path.write_bytes(bad)
        with pytest.raises(UserError, match=rf"t{suffix}: this table (cannot be read|has no row)"):
            Parquet(path=path, **ALL)


# ---- an installed cache


def hub_cache(root):
    """A data set as `datasets` prepares it, one as it is downloaded, and one of shards."""
    for split, first in (("train", 0), ("validation", 40)):
        rows = [(first + i, f"caption {first + i}") for i in range(12)]
        made = root / "datasets" / "some___small_pairs" / "default" / "0.0.0" / "abc" / f"small_pairs-{split}.arrow"
        write(made, table(rows))
        blobs = root / "hub" / "datasets--Some--Other-pairs" / "blobs"
        blob = write(blobs / f"{split}.parquet", table(rows)).rename(blobs / split)
        link = blobs.parent / "snapshots" / "r1" / "data" / f"{split}-00000-of-00001.parquet"
        link.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(os.path.relpath(blob, link.parent), link)
    (blobs.parent / "refs").mkdir()
    (blobs.parent / "refs" / "main").write_text("r1")
    tar(root / "hub" / "datasets--some--tars" / "snapshots" / "r1" / "0.tar", sample(1))


@pytest.mark.parametrize("name", ["some/small_pairs", "Some/Small-Pairs", "some/small_pairs:default", "Some/Other-pairs"])
@pytest.mark.parametrize("given", [True, False])
def test_an_installed_data_set_by_name(tmp_path, name, given, monkeypatch):
    hub_cache(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / ("none" if given else "")))
    monkeypatch.delenv("HF_DATASETS_CACHE", raising=False), monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    path = tmp_path if given else None
    for split, first in (("train", 0), ("val", 40)):
        source = Hub(name=name, path=path, split=split, size=4)
        shades = [int(source[i]["image"][0, 0, 0]) for i in range(12)]
        assert len(source) == 12 and shades == list(range(first, first + 12)) and source[0]["captions"] == [f"caption {first}"]


def test_pictures_that_a_prepared_table_names_lie_in_the_cache(tmp_path):
    kept, outside = picture(tmp_path / "cache" / "hub" / "downloads" / "1.png", 7), picture(tmp_path / "2.png", 8)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for name, file in (("in", kept), ("out", outside)):
        images = pa.array([{"bytes": None, "path": str(file)}], kind)
        made = tmp_path / "cache" / "datasets" / f"a___{name}" / "default" / "0.0.0" / "abc" / "train.arrow"
        write(made, pa.table({"image": images, "text": ["x"]}))
    assert (Hub(name="a/in", path=tmp_path / "cache", size=4)[0]["image"] == 7).all()
    with pytest.raises(UserError, match="2.png lies outside of .*cache"):
        Hub(name="a/out", path=tmp_path / "cache", size=4)[0]
    assert (Hub(name="a/out", path=tmp_path / "cache", size=4, allow_outside=True)[0]["image"] == 8).all()


def test_what_is_not_installed_says_how(tmp_path):
    with pytest.raises(UserError, match=r"a/b: no such data set is installed in .*there: none.*load_dataset\('a/b'\)"):
        Hub(name="a/b", path=tmp_path)
    hub_cache(tmp_path)
    with pytest.raises(UserError, match="some/tars: its files in .*r1 are no tables.*data=webdataset,path="):
        Hub(name="some/tars", path=tmp_path)
    made = tmp_path / "datasets" / "some___small_pairs"
    shutil.copytree(made / "default", made / "other")
    with pytest.raises(UserError, match="give one of its configs as some/small_pairs:CONFIG; installed: default, other"):
        Hub(name="some/small_pairs", path=tmp_path)
    assert len(Hub(name="some/small_pairs:other", path=tmp_path)) == 12
    os.remove(tmp_path / "hub" / "datasets--Some--Other-pairs" / "blobs" / "train")
    os.remove(tmp_path / "hub" / "datasets--Some--Other-pairs" / "blobs" / "validation")
    with pytest.raises(UserError, match="no tables"):
        Hub(name="Some/Other-pairs", path=tmp_path)


def test_a_folder_of_shards_names_the_source_that_reads_it(tmp_path):
    tar(tmp_path / "a" / "0.tar", sample(1))
    write(tmp_path / "b" / "0.parquet", table([(1, "x")]))
    for folder, source in (("a", "webdataset"), ("b", "parquet")):
        with pytest.raises(UserError, match=f"no captions file .* files are read by data={source}"):
            Captions(path=tmp_path / folder)


# ---- order, processes, resuming


@pytest.mark.parametrize(
    ("kind", "processes", "with_loader"),
    [("tar", 4, False), ("parquet", 2, False)]
    + [pytest.param(kind, n, True, marks=pytest.mark.slow) for kind in ("tar", "parquet", "arrow") for n in (1, 2, 4)],
)
def test_order_is_that_of_seed_epoch_and_index_whoever_asks(tmp_path, kind, processes, with_loader):
    if kind == "tar":
        for part in range(3):
            tar(tmp_path / f"{part}.tar", [m for i in range(7) for m in sample(10 * part + i)])
        source = WebDataset(path=tmp_path, size=4, **ALL)
    else:
        for part in range(3):
            rows = [(10 * part + i, f"caption {10 * part + i}") for i in range(7)]
            write(tmp_path / f"{part}.{kind}", table(rows))
        source = Parquet(path=tmp_path, size=4, **ALL)

    def make(example, position):
        assert int(example["captions"][0].split()[1]) == example["image"][0, 0, 0]
        return {"image": example["image"], "position": np.int32(position)}

    def shades(batches):
        return [batch["image"][:, 0, 0, 0].tolist() for batch in batches]

    whole = Batches(source, make, 8, seed=3)
    wanted = shades(whole[step] for step in range(6))  # more than two epochs
    assert len({shade for batch in wanted for shade in batch}) == 21 and wanted[0] != wanted[3]
    rows = np.split(np.arange(8), processes)
    for first in (0, 4):  # from the beginning, and gone on with by a new process
        again = Batches(pickle.loads(pickle.dumps(source)), make, 8, seed=3)
        loaded = [again.iterate(first, rows=own) for own in rows] if with_loader else []
        for step in range(first, 6):
            indices = again.indices(step)
            parts = [next(part) for part in loaded] or [again.assemble(indices, step, own) for own in rows]
            joined = [shade for part in shades(parts) for shade in part]
            assert joined == wanted[step]

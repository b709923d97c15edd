"""Regions as detectors hand them out: each format true to its quirks, and what is broken in it."""

import base64
import pickle

import h5py
import numpy as np
import pytest

from xmodal_jax.data.region_files import RegionFile
from xmodal_jax.errors import UserError

F, W, H = 5, 40, 20


def coded(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


@pytest.fixture
def drawn(rng):
    """Boxes in pixels, features, classes and how sure they are, of two pictures of 3 and 2 regions."""
    out = {}
    for name, count in (("COCO_val2014_000000000042", 3), ("COCO_val2014_000000000007", 2)):
        corner = rng.random((count, 2)) * [W / 2, H / 2]
        boxes = np.concatenate([corner, corner + 1 + rng.random((count, 2)) * 9], 1).astype(np.float32)
        sure = rng.permutation(count).astype(np.float32) / 10
        out[name] = boxes, rng.normal(size=(count, F)).astype(np.float32), rng.integers(0, 1600, count), sure
    return out


def bottom_up(folder, drawn):
    lines = [
        "\t".join([str(int(name[-12:])), str(W), str(H), str(len(boxes)), coded(boxes), coded(features)])
        for name, (boxes, features, _, _) in drawn.items()
    ]
    (folder / "a.tsv").write_text("\n".join(lines) + "\n")
    return folder / "a.tsv"


def lxmert(folder, drawn):
    lines = [
        "\t".join([
            name, str(H), str(W), coded(classes), coded(sure), coded(classes + 1), coded(sure), str(len(boxes)), coded(boxes),
            coded(features),
        ])
        for name, (boxes, features, classes, sure) in drawn.items()
    ]  # fmt: skip
    (folder / "b.tsv").write_text("\r\n".join(lines))
    return folder / "b.tsv"


def uniter(folder, drawn):
    for name, (boxes, features, classes, sure) in drawn.items():
        norm = boxes / [W, H, W, H]
        more = np.stack([norm[:, 2] - norm[:, 0], norm[:, 3] - norm[:, 1]], 1)
        soft = np.full((len(boxes), 1601), 1e-4, np.float16)
        soft[np.arange(len(boxes)), classes] = 0.9
        np.savez(
            folder / f"{name}.npz", norm_bb=np.concatenate([norm, more, more.prod(1, keepdims=True)], 1).astype(np.float16),
            features=features.astype(np.float16), conf=sure, soft_labels=soft,
        )  # fmt: skip
    return folder


def pytorch(folder, drawn):
    for name, (boxes, features, _, _) in drawn.items():
        np.savez(folder / f"{name}.npz", x=features, bbox=boxes, num_bbox=len(boxes), image_w=W, image_h=H)
    return folder


def vl_t5(folder, drawn):
    with h5py.File(folder / "c.h5", "w") as file:
        for name, (boxes, features, classes, sure) in drawn.items():
            group = file.create_group(name)
            for key, value in {
                "features": features, "boxes": boxes, "obj_id": classes, "obj_conf": sure, "attr_id": classes + 1,
                "img_w": W, "img_h": H,
            }.items():  # fmt: skip
                group[key] = value
    return folder / "c.h5"


@pytest.mark.parametrize("write", [bottom_up, lxmert, uniter, pytorch, vl_t5], ids=lambda write: write.__name__)
def test_every_format_gives_what_was_written(tmp_path, drawn, write):
    """Surest first where that is told; in worker processes too."""
    found = pickle.loads(pickle.dumps(RegionFile(write(tmp_path, drawn))))
    assert found.width == F and found.has_classes == (write in (lxmert, uniter, vl_t5))
    assert not found.missing([f"val2014/{name}.jpg" for name in drawn]) and found.missing(["43.jpg"]) == ["43.jpg"]
    for name, (boxes, features, classes, sure) in drawn.items():
        order = np.argsort(-sure) if found.has_classes else np.arange(len(boxes))
        given = found.found(f"captions/val2014/{name}.jpg")
        close = {"rtol": 2e-3, "atol": 2e-3} if write is uniter else {"rtol": 1e-6}
        np.testing.assert_allclose(given.boxes, (boxes / [W, H, W, H])[order], **close)
        np.testing.assert_allclose(given.features, features[order], **close)
        assert given.classes is None if not found.has_classes else np.array_equal(given.classes, classes[order])
        assert found.has_attributes == (write in (lxmert, vl_t5))
        assert given.attributes is None if not found.has_attributes else np.array_equal(given.attributes, classes[order] + 1)


def test_what_is_broken_says_where(tmp_path, drawn):
    path = bottom_up(tmp_path, drawn)
    with pytest.raises(UserError, match="holds no regions of 43.jpg: it knows 42, 7"):
        RegionFile(path).found("43.jpg")
    path.write_text(path.read_text().replace("\t40\t", "\t0\t"))
    with pytest.raises(UserError, match="a.tsv, 42: the boxes are in pixels"):
        RegionFile(path)
    path.write_text("1\t2\t3\n")
    with pytest.raises(UserError, match="a.tsv:1: 3 columns; bottom-up attention has 6"):
        RegionFile(path)
    path.write_text("42\t40\t20\t2\tAAAA\tAAAA\n")
    with pytest.raises(UserError, match="the regions of 42 cannot be read"):
        RegionFile(path)
    for name, told in (("d.bin", "read from a .tsv"), ("e.h5", "no file of HDF5")):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(UserError, match=told):
            RegionFile(tmp_path / name)
    empty = tmp_path / "none"
    empty.mkdir()
    with pytest.raises(UserError, match="holds the regions of no picture"):
        RegionFile(empty)
    for arrays, told in (
        ({"x": np.zeros((2, 3))}, "are needed"),
        ({"x": np.zeros((2, 3)), "norm_bb": np.zeros((1, 4))}, "do not belong together"),
        ({"x": np.full((1, 3), np.nan), "norm_bb": np.zeros((1, 4))}, "not finite"),
        ({"x": np.zeros((1, 3)), "norm_bb": np.zeros((1, 4)), "obj_id": np.zeros(2)}, "2 classes of 1 regions"),
    ):
        np.savez(empty / "1.npz", **arrays)
        with pytest.raises(UserError, match=told):
            RegionFile(empty)

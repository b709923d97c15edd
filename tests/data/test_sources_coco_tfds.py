"""COCO's annotation files, and data sets prepared by tensorflow-datasets."""

import io
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from xmodal_jax.data.sources.coco import CocoCaptions
from xmodal_jax.data.sources.tfds import TFDS, prepared_folder
from xmodal_jax.errors import UserError


@pytest.fixture(name="coco")
def small_coco(tmp_path):
    (tmp_path / "val2017").mkdir()
    pictures = [{"id": 10 + i, "file_name": f"{i}.jpg", "width": 20, "height": 10} for i in range(4)]
    for picture in pictures:
        Image.new("RGB", (20, 10), "green").save(tmp_path / "val2017" / picture["file_name"])
    captions = [{"id": i, "image_id": 10 + i % 3, "caption": f" caption {i}\n"} for i in range(6)]
    (tmp_path / "captions_val2017.json").write_text(json.dumps({"images": pictures, "annotations": captions}))
    boxes = [{"image_id": 10, "category_id": 1, "bbox": [0, 0, 10, 5], "iscrowd": 0}]
    boxes += [{"image_id": 10, "category_id": 2, "bbox": [x, 0, 5, 10], "iscrowd": x // 10} for x in (0, 5, 10)]
    instances = {
        "images": pictures,
        "annotations": boxes,
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
    }
    (tmp_path / "instances_val2017.json").write_text(json.dumps(instances))
    return tmp_path


def test_coco_captions_with_boxes(coco):
    source = CocoCaptions(
        annotations=coco / "captions_val2017.json",
        images=coco / "val2017",
        instances=coco / "instances_val2017.json",
        split="val",
        size=8,
    )
    assert len(source) == 3  # the fourth picture has no caption
    example = source[0]
    assert example["id"] == "captions_val2017/0.jpg" and example["captions"] == ["caption 0", "caption 3"]
    assert [(thing["name"], thing["box"]) for thing in example["objects"]] == [
        ("dog", [0, 0, 0.5, 0.5]),
        ("cat", [0, 0, 0.25, 1]),
        ("cat", [0.25, 0, 0.5, 1]),
    ]
    assert example["phrases"] == [{"phrase": "dog", "box": [0, 0, 0.5, 0.5]}]
    assert "objects" not in source[1] and pickle.loads(pickle.dumps(source))[1]["image"].shape == (8, 8, 3)


def test_karpathy_form(coco):
    images = [{"imgid": 0, "filename": "0.jpg", "split": "test", "sentences": [{"raw": "a dog"}]}]
    images += [{"imgid": 1, "filename": "1.jpg", "split": "restval", "sentences": [{"raw": "a cat"}]}]
    (coco / "dataset.json").write_text(json.dumps({"images": images}))
    for split, caption in (("test", "a dog"), ("train", "a cat")):
        source = CocoCaptions(annotations=coco / "dataset.json", images=coco / "val2017", split=split)
        assert [source[i]["captions"] for i in range(len(source))] == [[caption]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "COCO's format"),
        ('{"images": [{"id": 1}]}', "lacks 'filename'"),
        ('{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 1, "bbox": []}]}', "lacks 'caption'"),
        ('{"images": [], "annotations": []}', "no caption"),
    ],
)
def test_coco_errors(coco, text, says):
    (coco / "bad.json").write_text(text)
    with pytest.raises(UserError, match=r"bad\.json: .*" + says):
        CocoCaptions(annotations=coco / "bad.json", images=coco / "val2017")


def test_coco_errors_of_places(coco):
    with pytest.raises(UserError, match="no such annotation file"):
        CocoCaptions(annotations=coco / "none.json", images=coco / "val2017")
    with pytest.raises(UserError, match="no such folder"):
        CocoCaptions(annotations=coco / "captions_val2017.json", images=coco / "none")
    with pytest.raises(UserError, match=r"no example in split 'train'.*val \(3\)"):
        CocoCaptions(annotations=coco / "captions_val2017.json", images=coco / "val2017")
    (coco / "val2017" / "0.jpg").unlink()
    source = CocoCaptions(annotations=coco / "captions_val2017.json", images=coco / "val2017", split="val")
    assert len(source) == 2 and source.missing == 1


@pytest.fixture(name="prepared", scope="module")
def prepared_data(tmp_path_factory):
    """Two tiny data sets prepared without TensorFlow: array_record files, pictures given as encoded bytes."""
    tfds = pytest.importorskip("tensorflow_datasets")
    features = tfds.features

    def jpeg(i):
        buffer = io.BytesIO()
        Image.new("RGB", (20, 10), (0, 40 * i, 0)).save(buffer, "PNG")
        buffer.seek(0)
        return buffer

    class TinyCoco(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        counts = {"train": 5, "validation": 2}

        def _info(self):
            captions = features.Sequence({"id": np.int64, "text": features.Text()})
            return tfds.core.DatasetInfo(
                builder=self,
                features=features.FeaturesDict({"image": features.Image(shape=(None, None, 3)), "captions": captions}),
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(count) for split, count in self.counts.items()}

        def _generate_examples(self, count):
            for i in range(count):
                texts = [{"id": i, "text": f"caption {i}"}, {"id": i, "text": "배"}]
                yield i, {"image": jpeg(i), "captions": texts}

    class TinyLabels(TinyCoco):
        VERSION = tfds.core.Version("1.0.0")
        counts = {"train": 40}

        def _info(self):
            label = features.ClassLabel(names=["hot_dog", "cat"])
            return tfds.core.DatasetInfo(
                builder=self,
                features=features.FeaturesDict({"picture": features.Image(shape=(None, None, 3)), "label": label}),
            )

        def _generate_examples(self, count):
            for i in range(count):
                yield i, {"picture": jpeg(i % 6), "label": i % 2}

    folder = tmp_path_factory.mktemp("tfds")
    for builder in (TinyCoco, TinyLabels):
        made = builder(data_dir=folder, file_format="array_record")
        made.download_and_prepare()
    return folder


def test_tfds_with_nested_captions(prepared):
    source = TFDS(name="tiny_coco", data_dir=prepared, size=8, file_bytes=True)
    assert len(source) == 5 and len(TFDS(name="tiny_coco", data_dir=prepared, split="val")) == 2
    greens = set()
    for i in range(5):
        example = source[i]
        number = int(example["captions"][0].split()[1])
        assert example["captions"] == [f"caption {number}", "배"] and source.captions(i) == (
            example["captions"],
            None,
            "en",
        )
        assert (example["image"] == [0, 40 * number, 0]).all() and example["image"].shape == (8, 8, 3)
        assert example["image_file"][:4] == b"\x89PNG"
        greens.add(number)
    assert greens == set(range(5)) and source[3]["id"] == "tiny_coco/train/3"
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source))[2]["image"], source[2]["image"])


def test_tfds_with_labels_and_one_split(prepared):
    sources = [
        TFDS(name="tiny_labels", data_dir=prepared, split=s, split_fractions=(0.6, 0.2, 0.2)) for s in ("train", "val", "test")
    ]
    ids = [row for source in sources for row in source._rows]
    assert sorted(ids) == list(range(40))
    assert {source[0]["captions"][0] for source in sources} <= {"hot dog", "cat"}


def test_tfds_errors(prepared, tmp_path):
    with pytest.raises(UserError, match=r"prepared there: tiny_coco, tiny_labels.*download_and_prepare"):
        TFDS(name="coco_captions", data_dir=prepared)
    with pytest.raises(UserError, match="nothing is prepared there"):
        TFDS(name="coco_captions", data_dir=tmp_path / "none")
    with pytest.raises(UserError, match="no split 'test'; the data set has train, validation"):
        TFDS(name="tiny_coco", data_dir=prepared, split="test")
    with pytest.raises(UserError, match="no feature 'sentence'; the features are"):
        TFDS(name="tiny_coco", data_dir=prepared, caption_feature="sentence")
    with pytest.raises(UserError, match="no image feature"):
        TFDS(name="tiny_coco", data_dir=prepared, image_feature="picture")


def test_tfrecord_data_says_how_to_prepare_it(prepared, tmp_path):
    folder = tmp_path / "tiny_coco" / "1.0.0"
    folder.mkdir(parents=True)
    for path in (prepared / "tiny_coco" / "1.0.0").iterdir():
        data = path.read_bytes()
        name = path.name.replace("array_record", "tfrecord")
        (folder / name).write_bytes(data.replace(b'"array_record"', b'"tfrecord"') if name.endswith(".json") else data)
    with pytest.raises(UserError, match=r"tfrecord, which only TensorFlow reads.*array_record"):
        TFDS(name="tiny_coco", data_dir=tmp_path)


def test_the_newest_version_is_taken(tmp_path):
    for version in ("1.0.0", "1.10.0", "1.9.0"):
        (tmp_path / "x" / version).mkdir(parents=True)
        (tmp_path / "x" / version / "dataset_info.json").write_text("{}")
    assert prepared_folder("x", tmp_path).name == "1.10.0"
    assert prepared_folder("x:1.9.0", tmp_path).name == "1.9.0"
    with pytest.raises(UserError, match="cannot read this folder"):
        TFDS(name="x", data_dir=tmp_path)

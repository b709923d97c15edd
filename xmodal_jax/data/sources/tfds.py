"""Data sets prepared by tensorflow-datasets, read without TensorFlow (array_record files only)."""

from __future__ import annotations

import os
from pathlib import Path

from xmodal_jax.data.images import ImageError, decode_image
from xmodal_jax.data.sources.image_text import ImageTextSource
from xmodal_jax.data.sources.splits import FRACTIONS, canonical_split, check_fractions, check_split, hashed_split
from xmodal_jax.errors import UserError
from xmodal_jax.spelling import spelled

CAPTION_FEATURES = ("captions", "caption", "texts", "text", "sentences", "sentence", "description", "title", "label")
_PREPARE = (
    "Prepare it once, where TensorFlow is installed if its pictures need it: tfds.builder({name!r}, data_dir=..., "
    "file_format='array_record').download_and_prepare(); the prepared folder can be copied."
)


class TFDS(ImageTextSource):
    """A prepared tensorflow-datasets data set with an image and captions, text or a class label.

    name: as in tfds, "coco_captions", "coco_captions/2014" or "coco_captions/2014:1.1.0". data_dir: where it was
    prepared (default $TFDS_DATA_DIR, then ~/tensorflow_datasets). split: train, val or test; a data set with one
    split only is parted by a hash of the positions in `split_fractions`. image_feature, caption_feature: names, if
    the usual ones do not find them; "captions/text" names a nested feature. A class label becomes the caption: its
    class name. Reading record i is pure random access. The rest: see `ImageTextSource`.
    """

    def __init__(
        self,
        *,
        name: str,
        split: str = "train",
        data_dir: str | os.PathLike | None = None,
        image_feature: str | None = None,
        caption_feature: str | None = None,
        split_fractions: tuple[float, float, float] = FRACTIONS,
        **reading,
    ):
        check_split(split)
        tfds = _import()
        folder = prepared_folder(name, data_dir)
        try:
            builder = tfds.builder_from_directory(folder)
        except Exception as error:
            raise UserError(
                f"{folder}: tensorflow-datasets cannot read this folder ({error}). {_PREPARE.format(name=name)}"
            ) from None
        kind = builder.info.file_format
        if kind is None or kind.value not in ("array_record", "parquet"):
            raise UserError(
                f"{folder}: this data set was prepared as {getattr(kind, 'value', kind)}, which only TensorFlow reads. "
                f"{_PREPARE.format(name=name)}"
            )
        features = builder.info.features
        self.image_feature = image_feature or next(
            (key for key, feature in features.items() if isinstance(feature, tfds.features.Image)), None
        )
        if self.image_feature not in features:
            raise UserError(
                f"{name}: no image feature {self.image_feature or ''}; the features are {', '.join(features)}. Give "
                "image_feature."
            )
        self.caption_path = _caption_path(tfds, name, features, caption_feature)
        found = {canonical_split(key): key for key in builder.info.splits if canonical_split(key)}
        only = next(iter(builder.info.splits)) if len(builder.info.splits) == 1 else None
        if only is None and split not in found:
            raise UserError(f"{name}: no split {split!r}; the data set has {', '.join(builder.info.splits)}.")
        self._data = builder.as_data_source(only or found[split], decoders={self.image_feature: tfds.decode.SkipDecoding()})
        leaf = features[self.caption_path[0]]
        self._classes = list(leaf.names) if isinstance(leaf, tfds.features.ClassLabel) else None
        rows = list(range(len(self._data)))
        if only:
            fractions = check_fractions(split_fractions)
            rows = [i for i in rows if hashed_split(f"{builder.info.full_name}/{i}", fractions) == split]
        if not rows:
            raise UserError(f"{name}: split {split!r} is empty ({len(self._data)} records in {only or found[split]!r}).")
        super().__init__(rows, builder.info.name, **reading)
        self.split, self._version = split, str(builder.info.version)

    def captions(self, i: int) -> tuple[list[str], None, str]:
        return self._texts(self._data[self._rows[i]]), None, self.lang

    def record(self, i: int) -> tuple[list, list[str]]:
        """Prepared data are known by name and version; their texts are not read for it."""
        return [self.name, self.split, self._version, self._rows[i]], []

    def _load(self, i: int) -> dict:
        record = self._data[self._rows[i]]
        data, label = record[self.image_feature], f"{self.name}/{self.split}/{self._rows[i]}"
        texts = self._texts(record)
        if not texts:
            raise ImageError(f"{label}: this record has no caption.")
        example = {
            "id": label,
            "image": decode_image(data, self.size, self.mode, name=label),
            "captions": texts,
            "lang": self.lang,
        }
        if self.file_bytes:
            example["image_file"] = bytes(data)
        return example

    def _texts(self, record: dict) -> list[str]:
        value = record
        for key in self.caption_path:
            value = [entry[key] for entry in value] if isinstance(value, (list, tuple)) else value[key]
        if self._classes is not None:
            return [self._classes[int(value)].replace("_", " ")]
        values = [value] if isinstance(value, (str, bytes)) else list(value)
        texts = [text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text) for text in values]
        return [" ".join(spelled(text).split()) for text in texts if text.strip()]


def _import():
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise UserError(
            f"tensorflow-datasets is needed for this source ({error}): pip install tensorflow-datasets (TensorFlow "
            "itself is not needed)."
        ) from None
    return tensorflow_datasets


def prepared_folder(name: str, data_dir: str | os.PathLike | None = None) -> Path:
    """The version folder of a prepared data set, the newest if none is named; UserError if there is none."""
    root = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    base = root / name.replace(":", "/")
    found = [path.parent for path in base.rglob("dataset_info.json")] if base.is_dir() else []
    if not found:
        have = (
            sorted({path.relative_to(root).parts[0] for path in root.glob("*/**/dataset_info.json")}) if root.is_dir() else []
        )
        what = f"prepared there: {', '.join(have)}" if have else "nothing is prepared there"
        raise UserError(f"{name}: no prepared data set in {base} ({what}). {_PREPARE.format(name=name)}")
    return max(found, key=lambda path: ([int(part) if part.isdigit() else -1 for part in path.name.split(".")], str(path)))


def _caption_path(tfds, name: str, features, wanted: str | None) -> tuple[str, ...]:
    """Where the captions are: ("caption",), or ("captions", "text") for coco_captions' nested form."""
    if wanted is not None:
        path = tuple(wanted.split("/")) if wanted not in features else (wanted,)
        if path[0] not in features:
            raise UserError(f"{name}: no feature {wanted!r}; the features are {', '.join(features)}.")
        return path
    for key in CAPTION_FEATURES:
        if key not in features:
            continue
        inner = getattr(features[key], "feature", features[key])  # of a Sequence
        if not hasattr(inner, "keys"):
            return (key,)
        nested = next((leaf for leaf in ("text", "raw", "caption", "sentence") if leaf in inner), None)
        if nested:
            return key, nested
    raise UserError(
        f"{name}: no captions, text or label feature; the features are {', '.join(features)}. Give caption_feature."
    )

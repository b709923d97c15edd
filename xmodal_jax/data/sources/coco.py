"""COCO's annotation format: one JSON file with `images` and `annotations`, the pictures in a folder."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from xmodal_jax.data.sources.boxes import object_extras
from xmodal_jax.data.sources.image_text import Row
from xmodal_jax.data.sources.listing import Folder, ListedPictures
from xmodal_jax.data.sources.records import load_json
from xmodal_jax.data.sources.splits import FRACTIONS, canonical_split, check_fractions, check_split, hashed_split
from xmodal_jax.errors import UserError


class CocoCaptions(ListedPictures):
    """Captions in COCO's format (captions_train2017.json; Karpathy's dataset_coco.json with `sentences` is understood
    as well).

    annotations: the captions file. images: the folder of pictures. instances: an instances file, for boxes
    (`objects`; `phrases` for the categories that occur once). split: kept if the file states splits image by image,
    or is for one split by its name ("captions_val2017.json"); other files are split by a hash of the file name in
    `split_fractions`. The rest: see `ImageTextSource`.
    """

    def __init__(
        self,
        *,
        annotations: str | os.PathLike,
        images: str | os.PathLike,
        split: str = "train",
        mode: str = "resize",
        instances: str | os.PathLike | None = None,
        split_fractions: tuple[float, float, float] = FRACTIONS,
        **reading,
    ):
        check_split(split)
        path, folder = Path(annotations), Path(images)
        if not folder.is_dir():
            raise UserError(f"{folder}: there is no such folder of pictures (images=).")
        fractions = check_fractions(split_fractions)
        pictures, captions = _read_captions(path)
        boxes = _read_instances(Path(instances)) if instances else {}
        by_name = next((canonical_split(part) for part in reversed(path.stem.split("_")) if canonical_split(part)), None)
        listed = []
        for key, picture in pictures.items():
            if captions.get(key):
                name = picture["file_name"]
                file = f"{picture['filepath']}/{name}" if picture.get("filepath") else name
                where = canonical_split(picture["split"]) if "split" in picture else by_name
                extra = object_extras(boxes.get(key, []), mode)
                listed.append(Row(name, file, where or hashed_split(name, fractions), path, captions[key], extra))
        super().__init__(listed, Folder(folder).find, split, path, path.stem, mode=mode, **reading)


def _load(path: Path, *lists: str) -> dict:
    if not path.is_file():
        raise UserError(f"{path}: there is no such annotation file.")
    return load_json(path, dict, f"COCO's format, an object with the lists {' and '.join(lists)}", lists)


def _read_captions(path: Path) -> tuple[dict, dict[int, list[str]]]:
    """(image id -> image record, image id -> captions)."""
    data = _load(path, "images")
    pictures, captions = {}, {}
    try:
        for picture in data["images"]:
            key = picture["id"] if "id" in picture else picture["imgid"]
            pictures[key] = {**picture, "file_name": picture.get("file_name") or picture["filename"]}
            captions[key] = [" ".join(sentence["raw"].split()) for sentence in picture.get("sentences", ())]
        for annotation in data.get("annotations", ()):
            text = " ".join(annotation["caption"].split())
            if text:
                captions.setdefault(annotation["image_id"], []).append(text)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: an entry lacks {error}. Expected: images with id and file_name, annotations with image_id and "
            "caption (for boxes alone pass the file as instances=)."
        ) from None
    if not any(captions.values()):
        raise UserError(f"{path}: there is no caption in this file; annotations with image_id and caption are expected.")
    return pictures, captions


def _read_instances(path: Path) -> dict[int, list[dict]]:
    """image id -> objects with boxes in pixels; crowds are left out."""
    data = _load(path, "images", "annotations", "categories")
    try:
        names = {category["id"]: category["name"] for category in data["categories"]}
        sizes = {picture["id"]: (picture["width"], picture["height"]) for picture in data["images"]}
        counts = Counter((a["image_id"], a["category_id"]) for a in data["annotations"])
        boxes: dict[int, list[dict]] = {}
        for annotation in data["annotations"]:
            if annotation.get("iscrowd"):
                continue
            key, (x, y, w, h) = annotation["image_id"], annotation["bbox"]
            boxes.setdefault(key, []).append(
                {
                    "name": names[annotation["category_id"]],
                    "box": [x, y, x + w, y + h],
                    "width": sizes[key][0],
                    "height": sizes[key][1],
                    "unique": counts[key, annotation["category_id"]] == 1,
                }
            )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: an entry lacks or has a wrong {error}. Expected: COCO's instances format (bbox [x, y, width, "
            "height], category_id, image_id)."
        ) from None
    return boxes

"""COCO's annotation format: one JSON file with `images` and `annotations`, the pictures in a folder."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

from absl import logging

from xmodal_jax.data.sources.boxes import object_extras
from xmodal_jax.data.sources.image_text import Row
from xmodal_jax.data.sources.listing import ListedPictures, Listing, picture_name, stated_split
from xmodal_jax.data.sources.places import Base, given_path, visible
from xmodal_jax.data.sources.records import load_json
from xmodal_jax.data.sources.splits import (
    FRACTIONS,
    SHARE,
    SPLITS,
    canonical_split,
    check_fractions,
    check_split,
    check_val_fraction,
    hash_order,
    split_of_name,
    words_of_split,
)
from xmodal_jax.data.sources.texts import texts_of
from xmodal_jax.errors import UserError, printable

_FORM = "COCO's format, an object with the lists"
_ENTRY = '{"image": "val2014/1.jpg", "caption": "a dog runs"}'


class CocoCaptions(ListedPictures):
    """Captions in COCO's format (captions_train2017.json; Karpathy's dataset_coco.json with `sentences` and BLIP's lists
    coco_karpathy_train.json are understood as well).

    annotations: the captions file, or the folder with it. images: the folder of pictures, or of the folders with them.
    instances: an instances file, for boxes (`objects`; `phrases` for the categories that occur once). split: kept if the file
    states splits image by image. A file for one split by its name ("captions_train2017.json") is read with those of the other
    splits that lie beside it ("captions_val2017.json"), their pictures in folders called alike; where there is none for val, a
    share `val_fraction` of the training pictures is. Other files are split by a hash of the place in `split_fractions`.
    limits: most pairs of picture and caption in train, val and test (0: all), drawn by a hash; where there is no test, it is
    taken from what is left of val. The rest: see `ImageTextSource`.
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
        val_fraction: float = SHARE,
        limits: tuple[int, int, int] = (0, 0, 0),
        **reading,
    ):
        check_split(split)
        path, folder = annotation_file(given_path(annotations)), given_path(images)
        if not folder.is_dir():
            raise UserError(f"{folder}: there is no such folder of pictures (images=).")
        fractions, share = check_fractions(split_fractions), check_val_fraction(val_fraction)
        boxes = _read_instances(given_path(instances)) if instances else {}
        files = beside(path)
        is_part = canonical_split(folder.name) is not None and len(files) > 1
        listings = []
        for stated, file in files.items():
            rows = _read_captions(file, stated, boxes, mode)
            listings.append(Listing(rows, picture_bases(folder, file, stated, is_part, rows)))
        if not any(row.captions for listing in listings for row in listing.rows):
            raise UserError(f"{path}: there is no caption in this file; annotations with image_id and caption are expected.")
        self.limits, self._asked = check_limits(limits), split
        tested = "test" in files or any(row.split in (None, "test") for listing in listings for row in listing.rows)
        self._is_rest = split == "test" and limits[1] > 0 and not tested
        root = folder.parent if is_part else folder
        where = "val" if self._is_rest else split
        super().__init__(listings, root, where, path, path.stem, fractions, share, mode=mode, **reading)

    def _chosen(self, rows: list[Row]) -> list[Row]:
        if not any(self.limits):
            return rows
        limits, rows = dict(zip(SPLITS, self.limits, strict=True)), hash_order(rows, lambda row: row.name)
        if self._is_rest:
            rows = rows[len(_first_pairs(rows, limits["val"])) :]
        return _first_pairs(rows, limits[self._asked])


def check_limits(limits) -> tuple[int, int, int]:
    if len(limits) != 3 or min(limits) < 0:
        raise UserError(f"limits={limits!r}: three numbers of pairs (train, val, test; 0: all) are expected.")
    return tuple(limits)


def _first_pairs(rows: list[Row], limit: int) -> list[Row]:
    """The first rows with `limit` captions together; the last one may keep a part of its own. 0: all."""
    taken, left = [], limit
    for row in rows:
        if limit and left <= 0:
            break
        row.captions = row.captions[:left] if limit else row.captions
        left -= len(row.captions)
        taken.append(row)
    return taken


def annotation_file(path: Path) -> Path:
    """The file of captions, given as such or by its folder: the one for train, where there are several."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"{path}: there is no such annotation file.")
    there = visible(path.glob("*.json"), path) or visible(path.glob("annotations/*.json"), path)
    found = [file for file in there if re.match(r"captions|dataset|.*karpathy", file.name)]
    chosen = [file for file in found if split_of_name(file.stem) == "train"] or found
    if len(chosen) != 1:
        there = ", ".join(file.name for file in chosen or there[:10]) or "no JSON file"
        raise UserError(
            f"{path}: give one annotation file of captions, such as captions_train2017.json, as path; here: {there}."
        )
    return chosen[0]


def beside(path: Path) -> dict[str | None, Path]:
    """{split: file}: a file for one split by its name, and those for the others that are called alike; {None: file} else."""
    stated = split_of_name(path.stem)
    if stated is None:
        return {None: path}
    files = {stated: path}
    parts = re.split(r"([\s_.-]+)", path.stem)
    at = max(number for number, part in enumerate(parts) if canonical_split(part) == stated)
    year = re.search(r"\d*$", parts[at])[0]
    for split in SPLITS:
        names = ("".join((*parts[:at], word + year, *parts[at + 1 :])) for word in words_of_split(split))
        other = next((file for name in names if (file := path.with_name(name + path.suffix)).is_file()), None)
        if other is not None:
            files.setdefault(split, other)
    return files


def picture_bases(folder: Path, file: Path, split: str | None, is_part: bool, rows: list[Row]) -> list[tuple[Base, ...]]:
    """Alternatives of where the pictures of a file are: in the folder, or in a folder of a split's name in it or beside it."""
    parts = re.split(r"[\s_.-]+", file.stem)
    part = next((part for part in reversed(parts) if split and canonical_split(part) == split), None)
    roots = [folder.parent, folder] if is_part and part else [folder]
    places = [root / part for root in roots if part and (root / part).is_dir()]
    if not is_part or canonical_split(folder.name) == split:
        places.insert(0, folder)
    bare = lambda name: name.rsplit("/", 1)[-1]  # noqa: E731 - Karpathy tells the folder apart from the name
    spellings = (None, bare) if any("bare" in row.extra for row in rows) else (None,)
    for row in rows:
        row.extra.pop("bare", None)
    return [(Base(place, spell),) for place in places or [folder] for spell in spellings]


def _read_captions(path: Path, stated: str | None, boxes: dict, mode: str) -> list[Row]:
    """A row a picture; the numbers of null and empty captions, and of those without a picture, are logged."""
    data = load_json(path, (dict, list), f"{_FORM} images and annotations, or a list of objects such as {_ENTRY}")
    rows: dict = {}
    without = orphans = 0
    entries = data if isinstance(data, list) else data.get("images")
    if not isinstance(entries, list) or data == []:
        raise UserError(f"{path}: this is not {_FORM} images and annotations.")
    try:
        for number, picture in enumerate(entries):
            at = f"{path}: image {number}"
            if isinstance(data, list):
                name, captions = picture_name(picture), picture["caption"]
                key = name = name if name is not None else picture["image"]
            else:
                key = str(picture["id"] if "id" in picture else picture["imgid"])  # some write numbers as texts
                name = picture.get("file_name") or picture["filename"]
                captions = [sentence["raw"] for sentence in picture.get("sentences", ())]
            texts, empty = texts_of(captions, at, _ENTRY) if captions != [] else ([], 0)
            without += empty
            if key in rows:
                if rows[key].name != name:
                    raise UserError(f"{at}: its id {key} is that of {rows[key].name} too.")
                rows[key].captions.extend(texts)
                continue
            file = f"{picture['filepath']}/{name}" if picture.get("filepath") else name
            extra = object_extras(boxes.get(str(key), []), mode) | ({"bare": True} if picture.get("filepath") else {})
            rows[key] = Row(name, file, stated_split(picture, at) or stated, at, texts, extra)
        for annotation in data.get("annotations", ()) if isinstance(data, dict) else ():
            texts, empty = texts_of(annotation["caption"], f"{path}: annotation of image {annotation['image_id']}", _ENTRY)
            without += empty
            if str(annotation["image_id"]) in rows:
                rows[str(annotation["image_id"])].captions.extend(texts)
            else:
                orphans += 1
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: an entry lacks {error}. Expected: images with id and file_name, annotations with image_id and "
            "caption (for boxes alone pass the file as instances=)."
        ) from None
    for count, what in (
        (without, "empty captions (null, NaN, blank)"),
        (orphans, "captions of pictures that it does not list"),
    ):
        if count:
            logging.info("%s: %d %s are left out.", printable(path), count, what)
    return list(rows.values())


def _read_instances(path: Path) -> dict[str, list[dict]]:
    """image id -> objects with boxes in pixels; crowds are left out."""
    lists = ("images", "annotations", "categories")
    data = load_json(path, dict, f"{_FORM} {' and '.join(lists)}", lists)
    try:
        names = {category["id"]: category["name"] for category in data["categories"]}
        sizes = {picture["id"]: (picture["width"], picture["height"]) for picture in data["images"]}
        counts = Counter((a["image_id"], a["category_id"]) for a in data["annotations"])
        boxes: dict[str, list[dict]] = {}
        for annotation in data["annotations"]:
            if annotation.get("iscrowd"):
                continue
            key, (x, y, w, h) = annotation["image_id"], annotation["bbox"]
            boxes.setdefault(str(key), []).append(
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

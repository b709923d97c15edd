"""What a detector found in pictures, read from the files in which that is handed out: boxes, features, classes.

A .tsv of bottom-up attention (Anderson et al., 2018) or of LXMERT; a folder of .npz, UNITER's or those of
bottom-up-attention.pytorch; an .h5 with a group for each picture, VL-T5's (library h5py). Only names and places are read at
first, a picture's regions when they are asked for.
"""

import base64
import dataclasses
import os
import re
import struct
import threading
import zipfile
import zlib

import numpy as np

from xmodal_jax.errors import UserError
from xmodal_jax.files import at_home

BOTTOM_UP = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
LXMERT = (
    "img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf", "num_boxes", "boxes", "features",
)  # fmt: skip
# What the same thing is called: of UNITER, of bottom-up-attention.pytorch, of VL-T5.
FEATURES, BOXES = ("features", "x"), ("norm_bb", "boxes", "bbox")
SOFT, HARD, SURE = ("soft_labels",), ("obj_id", "objects_id"), ("conf", "obj_conf", "objects_conf")
LIKE = ("attr_id", "attrs_id")
SIZES = (("image_w", "image_h"), ("img_w", "img_h"))
UNREADABLE = (  # what numpy, zip files, base64 and HDF5 say of broken bytes
    OSError, ValueError, LookupError, EOFError, RuntimeError, TypeError, MemoryError, struct.error, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip
ONE_AT_A_TIME = threading.Lock()  # of threads in h5py
CLASSES, ATTRIBUTES = 1601, 401  # of Visual Genome, with the background's, which these detectors know


@dataclasses.dataclass(frozen=True)
class Found:
    """In one picture: boxes [n, 4] x0 y0 x1 y1 in 0..1, features [n, F], and numbers of classes [n] and of attributes [n], or
    None; surest first."""

    boxes: np.ndarray
    features: np.ndarray
    classes: np.ndarray | None = None
    attributes: np.ndarray | None = None


class BrokenRegions(UserError):
    """What a file holds of one picture cannot be used."""


class RegionFile:
    """found(name) -> Found. names: of its pictures; width: F; has_classes, has_attributes.

    A picture's name is looked up as it is and without its first folders, then without its suffix, then by the number at its end
    alone (COCO's): COCO_val2014_000000000042.jpg is 42 where the file says so. Raises UserError for a file of no such format
    and a picture that it does not hold, BrokenRegions for one whose arrays cannot be read or do not belong together.
    """

    def __init__(self, path):
        self.path = at_home(path)
        if os.path.isdir(self.path):
            self._places, self._read = npz_folder(self.path), self._of_npz
        elif self.path.endswith(".tsv"):
            self._places, self._read = tsv_lines(self.path), self._of_tsv
        elif self.path.endswith((".h5", ".hdf5")):
            self._places, self._read = h5_groups(self.path), self._of_h5
        else:
            raise UserError(f"{self.path}: regions are read from a .tsv, an .h5 or a folder of .npz.")
        if not self._places:
            raise UserError(f"{self.path} holds the regions of no picture.")
        first = self._first()
        self.width = first.features.shape[1]
        self.has_classes, self.has_attributes = first.classes is not None, first.attributes is not None

    @property
    def names(self):
        return self._places.keys()

    def key(self, name):
        """What the file calls a picture, or None."""
        parts = name.split("/")
        whole = ["/".join(parts[first:]) for first in range(len(parts))]
        stems = [os.path.splitext(part)[0] for part in whole]
        number = re.search(r"\d+$", stems[-1])
        tried = (*whole, *stems, *([number[0], str(int(number[0]))] if number else []))
        return next((key for key in tried if key in self._places), None)

    def found(self, name):
        key = self.key(name)
        if key is None:
            raise UserError(f"{self.path} holds no regions of {name}: it knows {', '.join(list(self._places)[:3])}, ...")
        try:
            return made(self._read(self._places[key]), f"{self.path}, {key}")
        except UNREADABLE as error:
            raise BrokenRegions(
                f"{self.path}: the regions of {key} cannot be read ({type(error).__name__}: {error})."
            ) from error

    def _first(self):
        """Regions of the first picture of which they can be read."""
        broken = None
        for key in self._places:
            try:
                return self.found(key)
            except BrokenRegions as error:
                broken = broken or error
        raise broken

    def missing(self, names):
        """Of these pictures, those that it does not hold."""
        return [name for name in names if self.key(name) is None]

    def _of_tsv(self, place):
        with open(self.path, "rb") as file:
            file.seek(place)
            values = file.readline().rstrip(b"\r\n").split(b"\t")
        given = dict(zip(LXMERT if len(values) == len(LXMERT) else BOTTOM_UP, values, strict=True))
        count = int(given["num_boxes"])
        out = {name: int(given[name]) for pair in SIZES for name in pair if name in given}
        kinds = {"boxes": np.float32, "features": np.float32, "objects_conf": np.float32}
        kinds |= dict.fromkeys(("objects_id", "attrs_id"), np.int64)
        for name, kind in kinds.items():
            if name in given:
                out[name] = np.frombuffer(base64.b64decode(given[name]), kind)
        return out | {"boxes": out["boxes"].reshape(count, 4), "features": out["features"].reshape(count, -1)}

    def _of_npz(self, place):
        with np.load(place, allow_pickle=False) as file:
            wanted = {*FEATURES, *BOXES, *SOFT, *HARD, *LIKE, *SURE, *(name for pair in SIZES for name in pair)}
            return {name: file[name] for name in file.files if name in wanted}

    def _of_h5(self, place):
        with ONE_AT_A_TIME, opened_h5(self.path) as file:
            return {name: np.asarray(value) for name, value in file[place].items()}


def made(given, where):
    """`Found` of the arrays of a picture. BrokenRegions where some are missing, or not of as many regions."""

    def of(names):
        return next((given[name] for name in names if name in given), None)

    features, boxes, scores = of(FEATURES), of(BOXES), of(SOFT)
    if features is None or boxes is None:
        raise BrokenRegions(f"{where}: features ({' or '.join(FEATURES)}) and boxes ({' or '.join(BOXES)}) are needed.")
    classes = of(HARD) if scores is None else np.asarray(scores).argmax(-1)
    if features.ndim != 2 or boxes.ndim != 2 or boxes.shape[1] < 4 or len(boxes) != len(features):
        raise BrokenRegions(f"{where}: features {features.shape} and boxes {boxes.shape} do not belong together.")
    for numbers, what in ((classes, "classes"), (of(LIKE), "attributes")):
        if numbers is not None and len(numbers) != len(features):
            raise BrokenRegions(f"{where}: {len(numbers)} {what} of {len(features)} regions.")
    boxes = boxes[:, :4].astype(np.float32)
    if "norm_bb" not in given:
        size = next(([float(given[w]), float(given[h])] for w, h in SIZES if w in given and h in given), None)
        if size is None or min(size) <= 0:
            raise BrokenRegions(f"{where}: the boxes are in pixels, and the picture's width and height are not given.")
        boxes = boxes / np.array(size * 2, np.float32)
    order = np.arange(len(boxes)) if (sure := of(SURE)) is None else np.argsort(-np.asarray(sure), kind="stable")
    if not np.isfinite(features).all() or not np.isfinite(boxes).all():
        raise BrokenRegions(f"{where}: features or boxes are not finite numbers.")
    told = (None if numbers is None else np.asarray(numbers)[order].astype(np.int32) for numbers in (classes, of(LIKE)))
    return Found(np.clip(boxes, 0, 1)[order], np.asarray(features, np.float32)[order], *told)


def npz_folder(folder):
    """{name: file}"""
    return {
        name.removesuffix(".npz"): os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(".npz")
    }


def tsv_lines(path):
    """{name: where its line begins}"""
    places, place = {}, 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            columns = line.count(b"\t") + 1
            if line.strip() and columns not in (len(BOTTOM_UP), len(LXMERT)):
                raise UserError(
                    f"{path}:{number}: {columns} columns; bottom-up attention has {len(BOTTOM_UP)} ({', '.join(BOTTOM_UP)}), "
                    f"LXMERT {len(LXMERT)}."
                )
            if line.strip():
                places[line[: line.index(b"\t")].decode("utf-8", "replace")] = place
            place += len(line)
    return places


def h5_groups(path):
    """{name: group}"""
    with opened_h5(path) as file:
        try:
            return {name: name for name in file}
        except UNREADABLE as error:
            raise UserError(f"{path}: the pictures in it cannot be listed ({error}).") from error


def opened_h5(path):
    try:
        import h5py
    except ImportError:
        raise UserError(f'{path}: h5py reads it, which is not here: pip install "xmodal_jax[regions]".') from None
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path} is no file of HDF5 ({error}).") from error

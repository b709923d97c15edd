"""Flickr8k and Flickr30k as their authors hand them out: a file of captions, lists of the splits, a folder of pictures."""

from __future__ import annotations

import os
import re
from pathlib import Path

from xmodal_jax.data.sources.image_text import Row
from xmodal_jax.data.sources.listing import Folder, ListedPictures
from xmodal_jax.data.sources.records import utf8
from xmodal_jax.data.sources.splits import FRACTIONS, canonical_split, check_fractions, check_split, hashed_split
from xmodal_jax.errors import UserError

TOKENS = ("*.token", "*.token.txt", "results.csv", "captions.txt")
NUMBERED = re.compile(r"^(?P<name>[^#|,\t]+?\.\w+)\s*(?:#\d+\s*\t|\|\s*\d+\s*\||,)\s*(?P<caption>.*)$")
LIST = re.compile(r"(train|dev|val|test)", re.IGNORECASE)


class Flickr(ListedPictures):
    """path: a folder with `Flickr8k.token.txt`, `results_20130124.token`, `results.csv` or `captions.txt` (lines
    `NAME.jpg#0<tab>caption`, `NAME.jpg| 0| caption` or `NAME.jpg,caption`), or that file; the pictures lie in it or in a folder
    below. Lists such as `Flickr_8k.trainImages.txt` or `train.txt` give the splits; without them a hash of the name does.

    Karpathy's dataset_flickr8k.json and dataset_flickr30k.json are read by data=coco. The rest: see `ImageTextSource`.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike,
        split: str = "train",
        split_fractions: tuple[float, float, float] = FRACTIONS,
        **reading,
    ):
        check_split(split)
        root = Path(path)
        file = token_file(root)
        root = file.parent
        fractions, lists = check_fractions(split_fractions), split_lists(root)
        finder = Folder(root, *(folder for folder in sorted(root.iterdir()) if folder.is_dir()))
        listed = [
            Row(name, name, lists.get(name) if lists else hashed_split(name, fractions), file, captions)
            for name, captions in read_captions(file).items()
        ]
        super().__init__(listed, finder.find, split, file, root.name, **reading)


def token_file(path: Path) -> Path:
    """The file of captions in a folder, or the file itself."""
    if path.is_file():
        return path
    for pattern in TOKENS:
        found = sorted(path.glob(pattern)) + sorted(path.glob(f"*/{pattern}"))
        if found:
            return found[0]
    raise UserError(f"{path}: no file of captions ({', '.join(TOKENS)}) is in this folder.")


def read_captions(file: Path) -> dict[str, list[str]]:
    """{picture: its captions in order}; a line of another form is a UserError that names it."""
    captions: dict[str, list[str]] = {}
    for number, line in enumerate(file.read_text("utf-8-sig", errors="replace").splitlines(), 1):
        match = NUMBERED.match(line)
        if match and match["caption"].strip():
            captions.setdefault(match["name"].strip(), []).append(" ".join(match["caption"].strip().strip('"').split()))
        elif line.strip() and number > 1 and not re.match(r"^\S+\.\w+\s*[#|,]", line):  # headers, empty captions pass
            raise UserError(f"{file}:{number}: {line[:60]!r} is no line of the form NAME.jpg#0<tab>caption.")
    return captions


def split_lists(root: Path) -> dict[str, str]:
    """{picture: split} by the lists of names beside the captions; names may lack their suffix."""
    out = {}
    for file in sorted(root.glob("*.txt")):
        word = LIST.search(file.stem)
        if word is None or ".token" in file.name:
            continue
        with utf8(file):
            names = file.read_text("utf-8-sig").split()
        out |= {name if "." in name else f"{name}.jpg": canonical_split(word[1]) for name in names}
    return out

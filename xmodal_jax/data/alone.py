"""Texts and pictures by themselves, of which a share of a fused model's examples is made (UNIMO, FLAVA, SimVLM, VL-BERT)."""

import os
from pathlib import Path

from absl import logging

from xmodal_jax.data.images import SUFFIXES, ImageError, picture_of
from xmodal_jax.data.sources.places import names_below
from xmodal_jax.data.sources.records import read_text
from xmodal_jax.data.sources.tables import LINE_ENDS
from xmodal_jax.errors import UserError, printable
from xmodal_jax.files import at_home


def files_of(place, suffixes, what):
    """The file, or the files of such suffixes in a folder and below it, in order. UserError where there is none."""
    path = at_home(place)
    if os.path.isfile(path):
        return [path]
    found = [os.path.join(folder, name) for folder, names in names_below(path).items() for name in names]
    found = [file for file in found if os.path.splitext(file)[1].lower() in suffixes and os.path.isfile(file)]
    if not found:
        raise UserError(f"{place}: there is no {what} here ({', '.join(suffixes)}).")
    return found


class Texts:
    """The lines of a text file, or of the .txt files of a folder, that say something."""

    def __init__(self, place):
        self.files = files_of(place, (".txt",), "text")
        self.lines = [line.strip() for file in self.files for line in LINE_ENDS.split(read_text(Path(file))) if line.strip()]
        if not self.lines:
            raise UserError(f"{place}: there is no line of text in it.")

    def __len__(self):
        return len(self.lines)

    def __getitem__(self, number):
        return self.lines[number]


class Pictures:
    """Of a folder: `take(number, size, mode)` is one of them, uint8 [size, size, 3]; in place of one that cannot be decoded,
    which is told once, the next one. UserError where none can be."""

    def __init__(self, place):
        self.place, self.files, self.broken = place, files_of(place, SUFFIXES, "picture"), set()

    def __len__(self):
        return len(self.files)

    def take(self, number, size, mode):
        for step in range(len(self.files)):
            file = self.files[(number + step) % len(self.files)]
            try:
                return picture_of(file, size, mode)
            except ImageError as error:
                if file not in self.broken:
                    self.broken.add(file)
                    logging.warning("a picture is skipped (%d so far). %s", len(self.broken), printable(error))
        raise UserError(f"{self.place}: not one of its {len(self.files)} pictures can be decoded.")

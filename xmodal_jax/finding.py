"""Search of a folder of photos from Python: open a model with its fingerprint, index, query, tell classes.

from xmodal_jax.finding import Finder
finder = Finder("runs/search")
finder.index("my_photos")
finder.query("a squirrel is eating an acorn", top=4)  # [Found(path, score, box), ...]
"""

import hashlib
import os

from absl import logging

from xmodal_jax.errors import UserError
from xmodal_jax.index import photos
from xmodal_jax.index.query import LEAST, Found, Searcher, locate
from xmodal_jax.index.store import Store
from xmodal_jax.interop.processing import read_json
from xmodal_jax.systems import restore


class Finder:
    """A model that searches photos.

    Args:
      place: folder of a run, or of a whole model, or its name on the hub. index: folder of the index, by default one in the
        run's folder for each folder of photos.
    Attributes:
      least: the score from which an object counts as found: what the run's last evaluation chose, else the usual.
    """

    def __init__(self, place, index=None):
        self.model = restore.load(place)
        self.model.need("embed_images")
        self.weights, self.indexes, self.given = photos.fingerprint(self.model.params), indexes_of(place), index
        self.least = least_of(place)

    def index(self, folder):
        """Bring the index of a folder in step with it -> (Store, `photos.Update`)."""
        return photos.update(self.place_of(folder), folder, self.model, self.weights)

    def query(self, text="", picture=None, folder=None, **limits):
        """[Found] by words, or by a picture; folder: of photos, by default that indexed last; limits: of `Searcher.ranked`."""
        searcher = Searcher(Store(self.place_of(folder)), self.model, self.weights, self.least)
        return searcher.by_picture(picture, **limits) if picture else searcher.by_text(text, **limits)

    def in_picture(self, path, phrase):
        """The object that a phrase means in one picture, a `Found`."""
        self.model.as_example(path)  # a broken one is told
        ((score, box),) = locate(self.model, [path], phrase, self.least)
        return Found(path, score, box)

    def classify(self, folder, labels, prompts=("{}",)):
        """Yields (path, [(label, probability), ...]) of every photo; one that cannot be read is named and passed over."""
        names = list(photos.files_of(folder))
        for first in range(0, len(names), photos.BATCH):
            examples = {}
            for name in names[first : first + photos.BATCH]:
                try:
                    examples[os.path.join(folder, name)] = self.model.as_example(os.path.join(folder, name))
                except UserError as error:
                    logging.warning("passed over: %s", error)
            if examples:
                yield from zip(examples, self.model.classify(list(examples.values()), labels, prompts), strict=True)

    def place_of(self, folder=None):
        """Where the index of a folder of photos lies; without one, of the folder indexed last."""
        return self.given or place_of(self.indexes, folder)


def indexes_of(place):
    """Where the indexes of a model lie: in a run's folder; of a whole model below runs/."""
    own = place if os.path.isdir(os.path.join(place, "checkpoints")) else None
    return os.path.join(own or os.path.join("runs", f"search-{os.path.basename(os.path.normpath(place))}"), "index")


def place_of(indexes, folder=None):
    """The index of a folder of photos; without one, the newest. Raises UserError where there is none."""
    if folder is not None:
        real = os.path.realpath(folder)
        return os.path.join(indexes, f"{os.path.basename(real)}-{hashlib.sha256(os.fsencode(real)).hexdigest()[:8]}")
    made = [entry.path for entry in os.scandir(indexes) if entry.is_dir()] if os.path.isdir(indexes) else []
    if not made:
        raise UserError(f"{indexes}: nothing was indexed yet: python -m xmodal_jax.search index --workdir=... --photos=FOLDER")
    return max(made, key=os.path.getmtime)


def least_of(place):
    """See `Finder.least`."""
    return read_json(place, "results.json").get("refer/threshold", LEAST)

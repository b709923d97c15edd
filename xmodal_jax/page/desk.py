"""What the page's routes do, without the web: photos by name, queries, objects in a photo, corrections and their undoing.

One thread uses the models: what two users ask is done one after the other.
"""

import base64
import dataclasses
import functools
import hashlib
import io
import os
import shutil
import threading
import time

import numpy as np
from PIL import Image

from xmodal_jax.data.images import decode_image, size_of
from xmodal_jax.draw.heatmap import resized
from xmodal_jax.errors import UserError
from xmodal_jax.index import photos
from xmodal_jax.index.query import LEAST, Searcher, locate
from xmodal_jax.page import learning

LONGEST = 1024  # pixels of a photo that is opened
THUMBNAIL = 320
SHOWN = 24  # photos of an answer, where no other number is asked for
MOST = 200
TEXT = 2000  # characters of a query


@dataclasses.dataclass
class Served:
    """A model that the page offers. name: of its button; size: bytes of its parameters; least: see `query.locate`."""

    name: str
    model: object
    least: float = LEAST
    before: list = dataclasses.field(default_factory=list)  # parameters before each correction

    @functools.cached_property
    def weights(self):
        """The fingerprint of its parameters."""
        return photos.fingerprint(self.model.params)

    @property
    def size(self):
        """Bytes of its parameters."""
        return photos.size(self.model.params)

    def replace(self, params):
        """Use other parameters from now on."""
        self.model.params = params
        self.__dict__.pop("weights", None)


class Desk:
    """Searches one folder of photos with one of several models.

    Args:
      folder: of the photos; place: folder of the indexes, one for each model. served: [Served], the first one is used first.
      captioner, answerer: models with `caption` and `answer`, or None.
    """

    def __init__(self, folder, place, served, captioner=None, answerer=None):
        self.folder, self.place = os.path.realpath(folder), place
        self.served = {one.name: one for one in served}
        self.captioner, self.answerer = captioner, answerer
        self.lock = threading.RLock()
        self._searchers, self._names = {}, {}

    def searcher(self, name=None):
        """The `Searcher` of a model; its index is brought in step with the folder when it is first used."""
        one = self.one(name)
        if one.weights not in self._searchers:
            self.update(one)
        return self._searchers[one.weights]

    def one(self, name=None):
        """A served model by its name, the first where none is given."""
        if name in (None, ""):
            return next(iter(self.served.values()))
        if name not in self.served:
            raise UserError(f"There is no model {name!r} here.")
        return self.served[name]

    def update(self, one):
        """Bring a model's index in step with the folder."""
        where = os.path.join(self.place, one.weights[:16])
        store, done = photos.update(where, self.folder, one.model, one.weights)
        self._searchers[one.weights] = Searcher(store, one.model, one.weights, one.least)
        return done

    def name_of(self, path):
        """What the page calls a photo: nothing of its path."""
        name = hashlib.sha256(os.fsencode(os.path.relpath(path, self.folder))).hexdigest()[:20]
        self._names[name] = path
        return name

    def path_of(self, name):
        """The photo of a name that the page was given; UserError where there is none, or it left the folder."""
        path = self._names.get(name)
        if path is None:  # of a page that was open before the server started
            with self.lock:
                self._names |= {self.name_of(found): found for found in self.all_paths()}
            path = self._names.get(name)
        if path is None or not os.path.isfile(path) or not photos.is_within(self.folder, path):
            raise UserError("This photo is not there any more.")
        return path

    def all_paths(self):
        """Paths of all photos of the first model's index."""
        searcher = self.searcher()
        return [searcher.path(row) for row in searcher.store.rows.values()]

    def about(self):
        """What the page shows before the first query."""
        with self.lock:
            models = [{"name": one.name, "bytes": one.size} for one in self.served.values()]
            return {
                "photos": len(self.searcher().store), "models": models, "captions": self.captioner is not None,
                "answers": self.answerer is not None,
            }  # fmt: skip

    def jpeg(self, name, longest=LONGEST):
        """A photo as the bytes of a JPEG, made anew: nothing of the file's own is passed on."""
        return encoded(self.path_of(name), longest)

    def query(self, text="", like=None, picture=None, model=None, top=SHOWN, percent=None, threshold=None):
        """By words, a photo, or an upload's bytes -> {"found": [of `told`], "took_ms", "photos", "model"}."""
        start = time.perf_counter()
        if len(text) > TEXT:
            raise UserError(f"The query has {len(text)} characters; {TEXT} are the most.")
        limits = {"top": min(top or SHOWN, MOST), "percent": percent, "threshold": threshold}
        with self.lock:
            searcher = self.searcher(model)
            if picture is not None or like:
                found = searcher.by_picture(self.path_of(like) if like else picture, **limits)
            else:
                found = searcher.by_text(text, **limits)
        return {
            "found": [self.told(one) for one in found], "took_ms": 1e3 * (time.perf_counter() - start),
            "photos": len(searcher.store), "model": self.one(model).name,
        }  # fmt: skip

    def told(self, one):
        """A found photo as the page reads it; its box in shares of its width and height."""
        box = None
        if one.box is not None:
            box = [float(x) / side for x, side in zip(one.box, size_of(one.path) * 2, strict=True)]
        return {"name": self.name_of(one.path), "title": shown(os.path.basename(one.path)), "score": one.score, "box": box}

    def look(self, name, text, model=None):
        """What a phrase means in one photo: {"box" or null, "score", "words": [{"word", "map"}]}; map: a PNG to lay over it."""
        path, one = self.path_of(name), self.one(model)
        if not text.strip() or len(text) > TEXT:
            raise UserError("Say what to look for in the photo.")
        with self.lock:
            example = one.model.as_example(path)
            out = {"box": None, "score": None, "words": []}
            if getattr(one.model, "refers", False):
                ((score, box),) = locate(one.model, [path], text, one.least)
                sides = size_of(path) * 2
                out |= {"score": score, "box": box and [x / side for x, side in zip(box, sides, strict=True)]}
            if getattr(one.model, "refers", False) or getattr(one.model, "attends", False):
                out["words"] = [{"word": word, "map": layer(grid)} for word, grid in one.model.word_maps(example, text)]
        return out

    def learn(self, text, right, wrong, model=None):
        """Correct a model by photos that are right or wrong for a query, and index the folder anew -> {"corrections": how many
        the model has taken}. UserError where nothing is marked."""
        if not (right or wrong):
            raise UserError("Mark photos as right or wrong first.")
        if not text.strip() or len(text) > TEXT:
            raise UserError("Corrections are of a query in words.")
        with self.lock:
            one = self.one(model)
            marked = {self.path_of(name) for name in (*right, *wrong)}
            found = [hit.path for hit in self.searcher(model).by_text(text, top=SHOWN)]
            others = np.random.default_rng(0).permutation(sorted(set(self.all_paths()) - marked - {*found}))[: learning.REST]
            rest = [path for path in (*found, *others) if path not in marked][: learning.REST]
            given = ([self.path_of(name) for name in names] for names in (right, wrong))
            params = learning.corrected(one.model, text, *given, rest)
            one.before.append(one.model.params)
            one.replace(params)
            self.update(one)
            return {"corrections": len(one.before)}

    def undo(self, model=None):
        """Take the last correction back: the parameters and the index are those of before."""
        with self.lock:
            one = self.one(model)
            if not one.before:
                raise UserError("There is no correction to take back.")
            self._searchers.pop(one.weights, None)
            shutil.rmtree(os.path.join(self.place, one.weights[:16]), ignore_errors=True)
            one.replace(one.before.pop())
            self.update(one)
            return {"corrections": len(one.before)}

    def keep(self, model=None):
        """Write a corrected model as a whole model into a folder of its own -> {"folder"}."""
        with self.lock:
            one = self.one(model)
            folder = os.path.join(self.place, f"corrected-{one.weights[:8]}")
            one.model.save_pretrained(folder)
            return {"folder": folder}

    def tell(self, name, question=""):
        """A caption of a photo, or the answer to a question about it."""
        path = self.path_of(name)
        with self.lock:
            if question.strip():
                if self.answerer is None:
                    raise UserError("No run that answers questions was given (--ask=DIR).")
                return {"text": self.answerer.answer(path, question[:TEXT])}
            if self.captioner is None:
                raise UserError("No run that writes captions was given (--caption=DIR).")
            return {"text": self.captioner.caption(path)}


def encoded(path, longest):
    """A picture file as the bytes of a JPEG, its longer side at most so many pixels."""
    picture = decode_image(path)
    if max(picture.shape[:2]) > longest:
        picture = resized(picture, longest, Image.Resampling.LANCZOS)
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=85)
    return out.getvalue()


def layer(grid):
    """Weights [h, w] as a data URI of a PNG: the more transparent the less there is."""
    peak = max(float(grid.max()), 1e-9)
    strength = np.clip(grid / peak, 0, 1)
    pixels = np.zeros((*grid.shape, 4), np.uint8)
    pixels[..., :3] = 255, 140, 0
    pixels[..., 3] = (200 * strength).astype(np.uint8)
    picture, out = Image.fromarray(pixels).resize((256, 256), Image.Resampling.BICUBIC), io.BytesIO()
    picture.save(out, "PNG")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def shown(name):
    """A file's name as text: what is no text of its encoding is replaced."""
    return os.fsencode(name).decode("utf-8", "replace")

"""Which photos of an index a text or a picture means: the best N, the best x percent, all above a threshold, or all of it."""

import contextlib
import dataclasses
import math
import os

import numpy as np

from xmodal_jax.data.images import size_of
from xmodal_jax.errors import UserError
from xmodal_jax.index.nearest import Nearest

TOP = 4  # photos where nothing is asked for
RERANKED = 100  # photos that are looked at again, word by word
PART = 64  # photos compared or looked at at a time
LEAST = 0.5  # score from which an object counts as found, where none was chosen on held-out pictures


@dataclasses.dataclass(frozen=True)
class Found:
    """path: of the photo; score: -1..1, the cosine of its vector and the query's, or the mean of that and of the
    attended similarity where the model attends; box: x0, y0, x1, y1 in pixels, or None."""

    path: str
    score: float
    box: tuple | None = None


def locate(model, paths, phrase, least=LEAST):
    """The object that a phrase means in each photo: [(score, box)], box x0, y0, x1, y1 in pixels of the photo as it is shown,
    or None where the score, 1 - the probability that there is none, is below `least` or the photo cannot be read."""
    out = [(0.0, None)] * len(paths)
    examples = {}
    for number, path in enumerate(paths):
        with contextlib.suppress(UserError):
            examples[number] = model.as_example(path), size_of(path)
    numbers = list(examples)
    for first in range(0, len(numbers), PART):
        part = numbers[first : first + PART]
        scores, boxes, _ = model.located([examples[number][0] for number in part], [phrase] * len(part))
        for number, score, box in zip(part, scores, boxes, strict=True):
            pixels = tuple(round(float(share) * side, 1) for share, side in zip(box, examples[number][1] * 2, strict=True))
            out[number] = float(score), pixels if score >= least else None
    return out


class Searcher:
    """Searches the photos of an index with the model that encoded them; `least`: see `locate`.

    Raises UserError where the index is of other weights: `weights` is the `photos.fingerprint` of this model's.
    """

    def __init__(self, store, model, weights, least=LEAST):
        self.store, self.model, self.nearest, self.weights, self.least = store, model, Nearest(store), weights, least
        self._check()

    def _check(self):
        if self.store.head["weights"] != self.weights:
            raise UserError(
                f"{self.store.folder}: this index was made by a model with other weights than this one's: index the photos "
                "again (python -m xmodal_jax.search index)."
            )

    def by_text(self, text, **chosen):
        """-> [Found], best first; chosen: of `ranked`. Raises UserError for an empty text."""
        if not text.strip():
            raise UserError("The query is empty: say what the photo shows.")
        words = self.model.words([text]) if "regions" in self.store.fields else None
        found = self.ranked(self.model.embed_texts(text), words, **chosen)
        if not getattr(self.model, "refers", False):
            return found
        boxes = locate(self.model, [one.path for one in found], text, self.least)
        return [dataclasses.replace(one, box=box) for one, (_, box) in zip(found, boxes, strict=True)]

    def by_picture(self, picture, **chosen):
        """The photos most like a picture, a path, its bytes or an array."""
        return self.ranked(self.model.embed_images(picture), **chosen)

    def ranked(self, vector, words=None, top=None, percent=None, threshold=None):
        """[Found] that are among the best `top`, among the best `percent` of all, and not below `threshold`, as far as given.

        Where nothing is given, the best TOP. Photos that are gone from the folder since are left out. words: of the query's
        text, with which the best RERANKED by their vectors (or all that are asked for) are put in order anew.
        """
        if self.store.refresh():
            self._check()
        count = len(self.store)
        limits = [count if top is None else top, count if percent is None else math.ceil(count * percent / 100)]
        most = TOP if (top, percent, threshold) == (None, None, None) else min(limits)
        wanted = most
        while True:  # more each time where some are gone
            rows, scores = self.scored(vector, words, wanted)
            found = [(path, score) for row, score in zip(rows, scores, strict=True) if os.path.isfile(path := self.path(row))]
            if len(found) >= most or len(rows) < wanted:
                break
            wanted += 2 * (most - len(found))
        return [Found(path, float(score)) for path, score in found[:most] if threshold is None or score >= threshold]

    def scored(self, vector, words, count):
        """(rows, scores) of the best `count` or more."""
        if words is None:
            return self.nearest(vector, count)
        rows, scores = self.nearest(vector, max(count, RERANKED))
        parts = [self.store.get("regions", rows[first : first + PART]) for first in range(0, len(rows), PART)]
        attended = [self.model.attended(*words, part)[0] for part in parts]
        scores = (scores + np.concatenate([np.zeros(0, np.float32), *attended])) / 2
        order = np.argsort(-scores, kind="stable")
        return rows[order], scores[order]

    def path(self, row):
        """Where the photo of a row lies."""
        return os.path.join(self.store.head["photos"], self.store.key(row))

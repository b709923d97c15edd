"""Which photos of an index a text or a picture means: the best N, the best x percent, all above a threshold, or all of it."""

import dataclasses
import math
import os

from xmodal_jax.errors import UserError
from xmodal_jax.index.nearest import Nearest

TOP = 4  # photos where nothing is asked for


@dataclasses.dataclass(frozen=True)
class Found:
    """path: of the photo; score: cosine of its vector and the query's; box: x0, y0, x1, y1 in pixels, or None."""

    path: str
    score: float
    box: tuple | None = None


class Searcher:
    """Searches the photos of an index with the model that encoded them.

    Raises UserError where the index is of other weights: `weights` is the `photos.fingerprint` of this model's.
    """

    def __init__(self, store, model, weights):
        self.store, self.model, self.nearest, self.weights = store, model, Nearest(store), weights
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
        return self.ranked(self.model.embed_texts(text), **chosen)

    def by_picture(self, picture, **chosen):
        """The photos most like a picture, a path, its bytes or an array."""
        return self.ranked(self.model.embed_images(picture), **chosen)

    def ranked(self, vector, top=None, percent=None, threshold=None):
        """[Found] that are among the best `top`, among the best `percent` of all, and not below `threshold`, as far as given.

        Where nothing is given, the best TOP. Photos that are gone from the folder since are left out.
        """
        if self.store.refresh():
            self._check()
        count = len(self.store)
        limits = [count if top is None else top, count if percent is None else math.ceil(count * percent / 100)]
        if top is None and percent is None and threshold is None:
            limits = [TOP]
        found = []
        wanted = min(limits)
        while True:  # a little more each time where some are gone
            rows, scores = self.nearest(vector, wanted)
            paths = [self.path(row) for row in rows]
            found = [(path, float(score)) for path, score in zip(paths, scores, strict=True) if os.path.isfile(path)]
            if len(found) >= min(limits) or len(rows) < wanted:
                break
            wanted += 2 * (min(limits) - len(found))
        return [Found(path, score) for path, score in found[: min(limits)] if threshold is None or score >= threshold]

    def path(self, row):
        """Where the photo of a row lies."""
        return os.path.join(self.store.head["photos"], self.store.key(row))

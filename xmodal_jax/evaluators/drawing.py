"""What a model draws from held-out captions, beside the pictures that they tell of."""

import numpy as np

from xmodal_jax.data.images import picture_of
from xmodal_jax.draw.blocks import Candidate, Sample
from xmodal_jax.errors import UserError
from xmodal_jax.evaluators.held_out import drawn, parts

CELLS = 8  # of a side, in which pictures are compared


class DrawingEvaluator:
    """Metrics: drawing/own_nearer, the share of the drawn pictures that are nearer to the caption's own picture than to another
    one, over all of these (chance 0.5), by the squared distance of the mean colours of 8 x 8 parts; drawing/count.

    Args:
      count: held-out pictures, of each of which one caption is drawn; rows: at once; samples: for the report; temperature,
        steps: of `draw`.
    """

    def __init__(self, recipe, count=64, rows=32, samples=8, temperature=1.0, steps=None):
        if getattr(recipe.maker, "centroids", None) is None:
            raise UserError("config.evaluators.drawing draws by numbers of patches: config.examples.codes.")
        examples = [recipe.held_out[i] for i in drawn(recipe.held_out, count)]
        self.texts = [example["captions"][0] for example in examples]
        self.rows, self.shown, self.settings = rows, samples, {"temperature": temperature, "steps": steps}
        self.pictures = [picture_of(example, recipe.config.examples.image_size) for example in examples]

    def run(self, predictor):
        pictures = np.concatenate([predictor.draw(part, **self.settings) for part in parts(self.texts, self.rows)])
        distance = ((coarse(pictures)[:, None] - coarse(self.pictures)[None]) ** 2).sum(-1)  # [drawn, pictures]
        right = distance.diagonal()[:, None]
        others = ~np.eye(len(distance), dtype=bool)
        nearer = np.where(right == distance, 0.5, right < distance)[others].mean()
        samples = []
        for text, picture, true in list(zip(self.texts, pictures, self.pictures, strict=True))[: self.shown]:
            pair = (Candidate("drawn", image=picture), Candidate("the picture it tells of", image=true, right=True))
            samples.append(Sample("retrieval", text=text, candidates=pair))
        return {"drawing/own_nearer": float(nearer), "drawing/count": len(pictures)}, samples


def coarse(pictures):
    """Square pictures uint8 [H, H, 3], each of a multiple of 8 pixels -> mean colours of their parts, [B, 8 8 3] in 0..1."""
    cut = [picture.reshape(CELLS, len(picture) // CELLS, CELLS, -1, 3).mean((1, 3)).ravel() for picture in pictures]
    return np.stack(cut) / 255

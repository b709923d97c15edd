"""How much of its attention each modality gives to the other, layer by layer (Xue et al., 2021, "Probing inter-modality")."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from xmodal_jax.errors import UserError
from xmodal_jax.evaluators.held_out import drawn, parts
from xmodal_jax.models.verbs import Verbs, offers
from xmodal_jax.objectives.attention_maps import of_one_stream
from xmodal_jax.objectives.inputs import see
from xmodal_jax.objectives.views import caption

ONE_STREAM = "config.evaluators.flow looks at models whose texts and pictures meet in one stream."


class FlowEvaluator:
    """Of models of one stream, on held-out pairs as they are: with A_ij the share that token i attends to token j, mean over
    heads,
        flow/words_to_image/LAYER = mean over real words i of sum over image tokens j of A_ij,
        flow/image_to_words/LAYER the other way round, flow/between the mean of both over all layers.
    flow/even: what it would be if all tokens were attended to alike. Layers are counted from 1.

    Args:
      count: held-out pairs, 0: all.
    """

    def __init__(self, recipe, count=64, rows=32):
        if not offers(recipe.model, "fuse") or not hasattr(recipe.maker, "over"):
            raise UserError(ONE_STREAM)
        maker = recipe.maker.over(recipe.held_out)
        made = [maker(recipe.held_out[i], i) for i in drawn(recipe.held_out, count)]
        self.batches = [{name: np.stack([row[name] for row in part]) for name in part[0]} for part in parts(made, rows)]

    def run(self, predictor):
        found = [jax.device_get(self.computed(predictor.model)(predictor.params, batch)) for batch in self.batches]
        sums, counts = zip(*found, strict=True)
        results = {}
        (to_image, to_words, even), (words, places) = summed(sums), summed(counts)
        for name, total, count in (("words_to_image", to_image, words), ("image_to_words", to_words, places)):
            results |= {f"flow/{name}/{layer}": float(value) for layer, value in enumerate(total / count, 1)}
        results["flow/between"] = float(np.mean([to_image / words, to_words / places]))
        results["flow/even"] = float((even[0] / words + even[1] / places) / 2)
        return results, []

    @functools.lru_cache(maxsize=1)  # noqa: B019 one model a run
    def computed(self, model):
        def compute(params, batch):
            verbs = Verbs(model, params)
            text, image = caption(verbs, batch), see(verbs, batch)
            weights = of_one_stream(verbs, text, image)
            if weights is None:
                raise UserError(ONE_STREAM)
            weights = weights.mean(2)  # [L, B, M, M]
            T, words, places = text.mask.shape[1], text.mask, image.mask
            to_image = (weights[:, :, :T, T:].sum(-1) * words).sum((1, 2))  # [L]
            to_words = (weights[:, :, T:, :T].sum(-1) * places).sum((1, 2))
            share = places.sum(1) / (words.sum(1) + places.sum(1))  # of image tokens in each pair
            even = jnp.stack([(share * words.sum(1)).sum(), ((1 - share) * places.sum(1)).sum()])
            return (to_image, to_words, even), (words.sum(), places.sum())

        return jax.jit(compute)


def summed(found):
    """Tuples of arrays, one of each batch -> their sums, kind by kind."""
    return [np.sum(kind, axis=0) for kind in zip(*found, strict=True)]

"""Masked-byte and masked-word accuracy on held-out examples with the right, a wrong and no image; next-byte loss."""

import jax
import numpy as np

from xmodal_jax.data.examples import FILL
from xmodal_jax.evaluators.held_out import drawn
from xmodal_jax.models.verbs import Verbs
from xmodal_jax.objectives.language import masked_words


class MaskedEvaluator:
    """Metrics: masked/{right,wrong,no}_image/{word,byte,loss} over `count` held-out examples."""

    def __init__(self, recipe, count=256, rows=64):
        make, source = recipe.maker, recipe.held_out
        numbers = drawn(source, count)
        held_out = [make(source[numbers[i % len(numbers)]], i) for i in range(min(count or len(source), 4 * len(source)))]
        held_out = [row for row in held_out if row["task"] == FILL and row["second_length"] > 0]
        self.batches = []
        for start in range(0, len(held_out), rows):
            part = held_out[start : start + rows]
            weight = len(part)
            part = part + [dict(part[-1], task=np.int32(-1))] * (rows - weight)  # padding rows belong to no task
            batch = {key: np.stack([row[key] for row in part]) for key in part[0]}
            turn = np.roll(np.arange(weight), 1) if weight > 1 else np.arange(1)
            self.batches.append((batch, np.concatenate([turn, np.arange(weight, rows)])))
        self.run_batch = jax.jit(lambda params, batch: masked_words(Verbs(recipe.model, params), batch, None, {}))

    def run(self, predictor):
        sums = {}
        for batch, turn in self.batches:
            versions = {
                "right_image": batch,
                "wrong_image": batch | {key: batch[key][turn] for key in ("second", "second_length")},
                "no_image": batch | {"second_length": np.zeros_like(batch["second_length"])},
            }
            for name, version in versions.items():
                loss, metrics = self.run_batch(predictor.params, version)
                parts = {"loss": loss, "byte": metrics["masked_byte"], "word": metrics["masked_word"]}
                for key, value in jax.device_get(parts).items():
                    total = sums.setdefault(f"masked/{name}/{key}", [0.0, 0.0])
                    total[0] += float(value.total)
                    total[1] += float(value.weight)
        return {name: total / max(weight, 1e-8) for name, (total, weight) in sums.items()}, []

"""Every objective of a run on held-out pairs: with the right picture, with another one's, and with none."""

import functools

import jax
import numpy as np

from xmodal_jax.errors import UserError
from xmodal_jax.evaluators.held_out import drawn, lower_end, parts
from xmodal_jax.models.pixels import GREY
from xmodal_jax.models.verbs import Verbs
from xmodal_jax.objectives import OBJECTIVES

TURNS = 10
SIDES = {"image": {"image", "image_second", "region_features"}, "caption": {"caption", "caption_length"}}  # arrays of a batch


class ObjectivesEvaluator:
    """Metrics, for each objective NAME of the run: objectives/NAME/loss and objectives/NAME/METRIC (that of training), with the
    right picture. Of objectives that tell classes also /wrong (the picture is another pair's), /none (it is grey), both of the
    same masks (of `next_codes` the text is another's, or empty); /gain and /gain_low, the mean of right - wrong and the lower
    end of its 95 % interval, over portions of the pairs; /chance, the share of the commonest class, which is the best guess
    that is always the same (of those that compare rows, one of a portion's); /count.

    Args:
      count: held-out pairs, 0: all; rows: of a portion, the batch in which contrastive losses compare.
      predictions: where an objective that tells classes has fewer of the pairs, but some (few regions are masked, a row is
        drawn for another objective), they are masked and drawn anew, up to TURNS times. A pair's turns stay in one portion.
    """

    def __init__(self, recipe, count=512, rows=32, predictions=500):
        self.objectives = {name: own for name, own in recipe.objectives.items() if own.get("weight", 1.0)}
        if not hasattr(recipe.maker, "over"):
            raise UserError("config.evaluators.objectives evaluates composed models (configs/zoo.py, configs/search.py).")
        maker = recipe.maker.over(recipe.held_out)
        pairs = parts(drawn(recipe.held_out, count), rows)
        pairs = [part for part in pairs if len(part) == rows] or pairs
        told = [name for name in self.objectives if OBJECTIVES[name].labels]
        self.batches = []  # of the first turn, of the second, ...
        for turn in range(TURNS):
            first = turn * len(recipe.held_out)
            for part in pairs:
                made = [maker(recipe.held_out[i], first + i) for i in part]
                self.batches.append({name: np.stack([row[name] for row in made]) for name in made[0]})
            if not any(0 < len(self.labels(name)) < predictions for name in told):
                break
        self.portions = [range(number, len(self.batches), len(pairs)) for number in range(len(pairs))]

    def labels(self, name):
        """The classes that an objective has to tell."""
        found = [np.ravel(OBJECTIVES[name].labels(batch, self.objectives[name])) for batch in self.batches]
        found = np.concatenate(found)
        return found[found >= 0]

    def run(self, predictor):
        evaluate = functools.partial(self.evaluate, predictor)
        right = [evaluate(batch) for batch in self.batches]
        told = [name for name in self.objectives if OBJECTIVES[name].labels]
        sides = {OBJECTIVES[name].told_by for name in told} - {""}
        shown = {"right": right}
        for kind, change in (("wrong", swapped), ("none", without)):
            shown[kind] = [self.changed(evaluate, change, sides, batch) for batch in self.batches]
        results = {}
        for name in self.objectives:
            losses, metrics = zip(*(found[name] for found in right), strict=True)
            results[f"{name}/loss"] = pooled(losses)
            for metric in metrics[0]:
                results[f"{name}/{metric}"] = pooled([found[metric] for found in metrics])
            if OBJECTIVES[name].compare and f"{name}_right" in metrics[0]:
                results[f"{name}/chance"] = 1 / len(self.batches[0]["image"])
        for name in told:
            labels = self.labels(name)
            results[f"{name}/chance"] = np.bincount(labels).max() / len(labels) if len(labels) else np.nan
            results[f"{name}/count"] = len(labels)
            if not OBJECTIVES[name].told_by:
                continue
            of = {side: [found[name][1][f"{name}_right"] for found in kind] for side, kind in shown.items()}
            results[f"{name}/wrong"], results[f"{name}/none"] = pooled(of["wrong"]), pooled(of["none"])
            gains = [
                pooled([of["right"][i] for i in portion]) - pooled([of["wrong"][i] for i in portion])
                for portion in self.portions
            ]
            results[f"{name}/gain"], results[f"{name}/gain_low"] = np.mean(gains), lower_end(gains)
        return {f"objectives/{name}": float(value) for name, value in results.items()}, []

    def changed(self, evaluate, change, sides, batch):
        """What `evaluate` gives of a batch of which another side is changed for each objective."""
        found = {side: evaluate(change(batch, side)) for side in sides}
        return {name: found[OBJECTIVES[name].told_by][name] for name in self.objectives if OBJECTIVES[name].told_by in found}

    def evaluate(self, predictor, batch):
        """{objective: (loss, {metric: ...})}, each (total, weight)."""
        return jax.device_get(self.computed(predictor.model)(predictor.params, batch))

    @functools.lru_cache(maxsize=1)  # noqa: B019 one model a run
    def computed(self, model):
        def compute(params, batch):
            verbs, key = Verbs(model, params), jax.random.PRNGKey(0)
            return {name: OBJECTIVES[name](verbs, batch, key, own) for name, own in self.objectives.items()}

        return jax.jit(compute)


def swapped(batch, side):
    """The same with the pictures, or the captions, of other pairs."""
    return batch | {name: np.roll(batch[name], 1, axis=0) for name in SIDES[side] & batch.keys()}


def without(batch, side):
    """The same with grey pictures, or empty captions."""
    if side == "image":
        grey = {name: np.full_like(batch[name], GREY) for name in SIDES[side] & batch.keys()}
        return batch | grey | {name: np.zeros_like(batch[name]) for name in {"region_features"} & grey.keys()}
    ends = np.take_along_axis(batch["caption"], batch["caption_length"][:, None], axis=1)
    empty = np.where(np.arange(batch["caption"].shape[1]) == 0, batch["caption"], ends)
    return batch | {"caption": empty, "caption_length": np.ones_like(batch["caption_length"])}


def pooled(found):
    return sum(float(total) for total, _ in found) / max(sum(float(weight) for _, weight in found), 1e-8)

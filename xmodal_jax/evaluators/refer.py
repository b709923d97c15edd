"""Phrases that mean one object of a held-out picture, or none: is the object found, and is what is not there recognised?"""

import collections

import numpy as np

from xmodal_jax.draw.blocks import Sample
from xmodal_jax.draw.boxed import boxed
from xmodal_jax.evaluators.held_out import drawn, parts
from xmodal_jax.metrics.boxes import best_threshold, overlap

Asked = collections.namedtuple("Asked", "example phrase box settled")  # box None: it means nothing there


class ReferEvaluator:
    """Metrics: refer/accuracy_50, of phrases that mean an object those that are found and whose box has an IoU of at least 1/2
    with its own; refer/accuracy_50/NAME by what settles the phrase, where the source tells; refer/mean_iou (0 for what is not
    found); refer/absent_right, of as many phrases that mean nothing there those that are not found; refer/threshold, of the
    score, chosen on the val split; refer/phrases.

    Beside them what needs no model, where pictures have several boxes: refer/largest_box and refer/random_box, accuracy@0.5 of
    the largest box of the picture, and of any.

    Args:
      count: held-out pictures, 0: all.
    """

    def __init__(self, recipe, count=256, rows=64, samples=6):
        self.asked = phrases_of(recipe.held_out, count)
        self.asked_of_val = phrases_of(recipe.open_split("val"), count)
        self.rows, self.shown = rows, samples

    def run(self, predictor):
        there = np.array([one.box is not None for one in self.asked], bool)
        if not there.any():
            return {}, []
        scores, boxes = self.located(predictor, self.asked)
        of_val = np.array([one.box is not None for one in self.asked_of_val], bool)
        scores_of_val, _ = self.located(predictor, self.asked_of_val)
        threshold = best_threshold(scores_of_val[of_val], scores_of_val[~of_val])
        found = scores >= threshold
        own = np.array([one.box or [0.0] * 4 for one in self.asked])
        ious = np.where(there & found, overlap(boxes, own), 0.0)
        right = np.where(there, ious >= 0.5, ~found)
        results = {
            "accuracy_50": right[there].mean(), "mean_iou": ious[there].mean(), "threshold": threshold, "phrases": there.sum()
        }  # fmt: skip
        if not there.all():
            results["absent_right"] = right[~there].mean()
        settled = np.array([one.settled or "" for one in self.asked])
        for name in sorted({*settled[there]} - {""}):
            results[f"accuracy_50/{name}"] = right[there & (settled == name)].mean()
        results |= self.guesses()
        results = {f"refer/{name}": float(value) for name, value in results.items()}
        return results, self.samples(scores, boxes, found, right)

    def located(self, predictor, asked):
        """(scores [phrases], boxes [phrases, 4])."""
        found = [
            predictor.located([one.example for one in part], [one.phrase for one in part]) for part in parts(asked, self.rows)
        ]
        scores, boxes, _ = (np.concatenate(values) for values in zip(*found, strict=True)) if found else [np.zeros((0, 4))] * 3
        return scores, boxes

    def guesses(self):
        """Accuracy@0.5 of the picture's largest box, and of one drawn from all, where there are several."""
        largest, anyone = [], []
        for one in self.asked:
            if one.box is None:
                continue
            others = np.array([thing["box"] for thing in one.example.get("objects", ())] or [one.box])
            hits = overlap(others, np.array(one.box)) >= 0.5
            largest.append(hits[(others[:, 2:] - others[:, :2]).prod(-1).argmax()])
            anyone.append(hits.mean())
        told = any(len(one.example.get("objects", ())) > 1 for one in self.asked)
        return {"largest_box": np.mean(largest), "random_box": np.mean(anyone)} if told else {}

    def samples(self, scores, boxes, found, right):
        """What was right and what was wrong in turn, of different pictures."""
        order = [np.flatnonzero(right == kind).tolist() for kind in (False, True)]
        chosen, seen = [], set()
        while len(chosen) < self.shown and any(order):
            for numbers in order:
                while numbers and self.asked[numbers[0]].example["id"] in seen:
                    numbers.pop(0)
                if numbers and len(chosen) < self.shown:
                    chosen.append(numbers.pop(0))
                    seen.add(self.asked[chosen[-1]].example["id"])
        out = []
        for i in chosen:
            example, phrase, box, settled = self.asked[i]
            drawing = [(box, None)] * (box is not None) + [(boxes[i], bool(right[i]))] * bool(found[i])
            out.append(
                Sample(
                    "answer",
                    image=boxed(example["image"], drawing),
                    question=phrase,
                    answer=f"{'found' if found[i] else 'not there'} ({scores[i]:.2f})",
                    truth="there (blue)" if box is not None else "not there",
                    correct=bool(right[i]),
                    note=f"settled by its {settled}" if settled else "",
                    lang=example["lang"],
                    id=example["id"],
                )
            )
        return out


def phrases_of(source, count):
    """[Asked] of drawn pictures: all phrases that mean an object, and as many that mean none."""
    rng, asked = np.random.default_rng(0), []
    for i in drawn(source, count):
        example = source[i]
        true, false = example.get("phrases") or [], list(example.get("absent") or [])
        asked += [Asked(example, one["phrase"], list(one["box"]), one.get("settled")) for one in true]
        chosen = rng.permutation(len(false))[: len(true)]
        asked += [Asked(example, false[number], None, None) for number in chosen]
    return asked

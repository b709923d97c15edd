"""Does the image settle the word? Accuracy of an ambiguous word's sense with the right, a wrong, a swapped and no image.

Claims 5-7 and the point of the whole system. Source: spec "What must hold"; the metrics' names are stable.
"""

import numpy as np

from xmodal_jax.decoding.byte_predictor import expressions
from xmodal_jax.draw.blocks import Condition, Sample
from xmodal_jax.errors import UserError

CONDITIONS = {
    "right_image": "image",
    "wrong_image": "wrong_image",
    "no_image": None,
    "swapped_follows": "swapped_image",
}


def even(texts, association):
    """An association [rows, T, K] that is the same everywhere."""
    del texts
    there = association.sum(-1, keepdims=True) > 0
    return (there * np.full_like(association, 1 / association.shape[-1])).astype(np.float32)


class SenseEvaluator:
    """On the held-out source's sense items; nothing where the source has none, or the second modality is no image.

    Metrics, shares in 0..1: right_image; wrong_image (a picture that shows none of the senses); no_image;
    swapped_follows (the swapped picture's sense is chosen); association_uniform (the right picture, all of it associated with
    every byte alike); chance (mean of 1 / senses); each per language too; items. gain, right_image - chance.

    Args:
      count: items, 0: all. words: words of which right_image, no_image, chance and items are told apart too, as
        sense_accuracy/WORD/..., and those of each of their senses, by its id.
    """

    name = "sense_accuracy"

    def __init__(self, recipe, count=256, rows=64, samples=12, words=()):
        self.inventories, self.rows, self.shown, self.words = recipe.maker.inventories, rows, samples, tuple(words)
        made = self.made(recipe.held_out, count or None, recipe.config.seed) if recipe.maker.config.second == "image" else []
        self.items = [item for item in map(self._with_expressions, made) if item]

    def made(self, source, count, seed):
        """The items that a source has."""
        return source.sense_items(count, seed) if hasattr(source, "sense_items") else []

    def _with_expressions(self, item):
        inventory = self.inventories.get(item["lang"])
        known = [sense for sense in inventory.senses(item["word"]) if sense.id in item["senses"]] if inventory else []
        found = expressions(known, item["word"])
        if len(known) < 2 or not all(found):
            return None  # a sense without a word of its own cannot be scored
        return item | {"senses": [sense.id for sense in known], "expressions": found, "known": known}

    def run(self, predictor):
        if not self.items:
            return {}, []
        truth = [item["senses"].index(item["sense"]) for item in self.items]
        swapped = [item["senses"].index(item["swapped_sense"]) for item in self.items]
        right, probabilities = {}, {}
        for name, field in CONDITIONS.items():
            probabilities[name] = self._probabilities(predictor, field)
            wanted = swapped if name == "swapped_follows" else truth
            right[name] = self._right(probabilities[name], wanted)
        right["association_uniform"] = self._right(self._probabilities(predictor, "image", even), truth)
        right["chance"] = np.array([1 / len(item["senses"]) for item in self.items])
        results = {name: float(values.mean()) for name, values in right.items()}
        langs = np.array([item["lang"] for item in self.items])
        for lang in sorted(set(langs)) if len(set(langs)) > 1 else ():
            results |= {f"{name}/{lang}": float(values[langs == lang].mean()) for name, values in right.items()}
        results |= {"items": len(self.items), "gain": results["right_image"] - results["chance"]}
        results |= self._by_word(right)
        return {f"{self.name}/{name}": value for name, value in results.items()}, self._samples(predictor, right, probabilities)

    def _by_word(self, right):
        """Metrics of `self.words` and of each of their senses."""
        found = {}
        for word in self.words:
            parts = {word: np.array([item["word"] == word for item in self.items])}
            for item in self.items:
                if item["word"] == word:
                    parts[item["sense"]] = parts[word] & np.array([other["sense"] == item["sense"] for other in self.items])
            for part, chosen in parts.items():
                found[f"{part}/items"] = int(chosen.sum())
                for name in ("right_image", "no_image", "chance") if chosen.any() else ():
                    found[f"{part}/{name}"] = float(right[name][chosen].mean())
        return found

    def _right(self, probabilities, wanted):
        return np.array([p.argmax() == w for p, w in zip(probabilities, wanted, strict=True)])

    def _probabilities(self, predictor, field, associate=None):
        out = []
        for start in range(0, len(self.items), self.rows):
            part = self.items[start : start + self.rows]
            out += predictor.sense_probabilities([item[field] if field else None for item in part], part, associate)
        return out

    def _samples(self, predictor, right, probabilities):
        """As many failures as successes, while there are any."""
        good = right["right_image"] & right["swapped_follows"]
        order = np.concatenate([np.flatnonzero(~good)[: self.shown // 2], np.flatnonzero(good)])[: self.shown]
        return [self._sample(predictor, self.items[i], {n: p[i] for n, p in probabilities.items()}) for i in sorted(order)]

    def _sample(self, predictor, item, probabilities):
        names = [sense.id for sense in item["known"]]

        def condition(label, name, image, expected):
            heat = None
            if image is not None:
                heat = predictor.associate_blank(image, item["text"], item["span"])
            picture = image if isinstance(image, np.ndarray) and image.ndim == 3 else None
            return Condition(label, probabilities[name], picture, expected, heat if picture is not None else None)

        return Sample(
            "sense",
            image=item["image"] if isinstance(item["image"], np.ndarray) else None,
            text=item["text"],
            spans=(item["span"],),
            truth=item["sense"],
            answer=names[int(probabilities["right_image"].argmax())],
            correct=bool(names[int(probabilities["right_image"].argmax())] == item["sense"]),
            lang=item["lang"],
            senses=names,
            glosses={sense.id: sense.gloss for sense in item["known"]},
            conditions=(
                condition("right image", "right_image", item["image"], item["sense"]),
                condition("swapped image", "swapped_follows", item["swapped_image"], item["swapped_sense"]),
                condition("no image", "no_image", None, None),
            ),
        )


class UnseenSenseEvaluator(SenseEvaluator):
    """The same items, their pictures drawn in a style that no training picture has: metrics sense_unseen/*, as above."""

    name = "sense_unseen"

    def __init__(self, recipe, count=256, rows=64, samples=6, style="sketch"):
        if style in getattr(recipe.held_out, "styles", ()):
            trained = ", ".join(recipe.held_out.styles)
            raise UserError(f"config.evaluators.sense_unseen.style={style!r} is trained on: config.data.styles has {trained}.")
        self.style = style
        super().__init__(recipe, count, rows, samples)

    def made(self, source, count, seed):
        return source.in_style(self.style).sense_items(count, seed) if hasattr(source, "in_style") else []


class EmojiSenseEvaluator(SenseEvaluator):
    """The scenes' things as emoji, from a folder of noto-emoji's pictures, if any: metrics sense_emoji/*, as above."""

    name = "sense_emoji"

    def __init__(self, recipe, path="", rows=64, samples=6):
        self.path = path
        super().__init__(recipe, 0, rows, samples)

    def made(self, source, count, seed):
        return source.emoji_items(self.path) if self.path and hasattr(source, "emoji_items") else []

"""Senses that a model picks, told apart by word and by sense."""

import types

import numpy as np

from xmodal_jax.data.senses.inventory import Sense, TableInventory
from xmodal_jax.evaluators.sense import SenseEvaluator

TABLE = {
    "bat": (Sense("club", "", ("stick",)), Sense("animal", "", ("flyer",))),
    "bank": (Sense("river", "", ("shore",)), Sense("money", "", ("lender",))),
}


class Source:
    def sense_items(self, count, seed):
        del seed

        def item(word, sense, swapped):
            image = np.full((2, 2, 3), 10 * len(sense), np.uint8)
            pictures = {"image": image, "swapped_image": image, "wrong_image": image}
            senses = tuple(one.id for one in TABLE[word])
            return pictures | {"text": word, "span": (0, len(word)), "word": word, "lang": "en", "senses": senses,
                               "sense": sense, "swapped_sense": swapped}  # fmt: skip

        made = [item("bat", "club", "animal"), item("bat", "animal", "club"), item("bank", "money", "river")]
        return made[:count]


class First:
    """A predictor that takes every word in its first sense."""

    def sense_probabilities(self, seconds, items, associate=None):
        del seconds, associate
        return [np.array([0.9, 0.1]) for _ in items]

    def associate_blank(self, image, text, span):
        del image, text, span
        return np.full(4, 0.25)


def found(**settings):
    maker = types.SimpleNamespace(inventories={"en": TableInventory(TABLE, "en")}, config=types.SimpleNamespace(second="image"))
    recipe = types.SimpleNamespace(maker=maker, held_out=Source(), config=types.SimpleNamespace(seed=0))
    return SenseEvaluator(recipe, **settings).run(First())[0]


def test_words_are_told_apart_by_sense():
    results = found(words=("bat", "bank", "crane"))
    assert results["sense_accuracy/right_image"] == 1 / 3 and results["sense_accuracy/items"] == 3
    assert np.isclose(results["sense_accuracy/gain"], 1 / 3 - 1 / 2)
    assert results["sense_accuracy/bat/right_image"] == 0.5 == results["sense_accuracy/bat/chance"]
    assert (results["sense_accuracy/club/right_image"], results["sense_accuracy/animal/right_image"]) == (1, 0)
    assert (results["sense_accuracy/bat/items"], results["sense_accuracy/animal/items"]) == (2, 1)
    assert results["sense_accuracy/bank/right_image"] == 0 and results["sense_accuracy/money/items"] == 1
    assert results["sense_accuracy/crane/items"] == 0 and "sense_accuracy/crane/chance" not in results


def test_as_many_items_as_are_asked_for():
    assert found(count=2)["sense_accuracy/items"] == 2 and found(count=0)["sense_accuracy/items"] == 3
    assert not [name for name in found() if "bat" in name]

"""Words' maps against boxes, and words under changed associations, worked out by hand."""

import types

import numpy as np
import pytest

from xmodal_jax.data import bytes as byte_ids
from xmodal_jax.data.masking import mask_text
from xmodal_jax.data.senses.inventory import Sense, TableInventory
from xmodal_jax.errors import UserError
from xmodal_jax.evaluators.grounding import GroundingEvaluator, called, expressions, looked, named_in, two_things
from xmodal_jax.evaluators.sense import even

TEXT = "a cat by a car"


def example(text=TEXT, mentions=((2, 5, "cat"), (11, 14, "car")), things=("cat", "car")):
    boxes = {"cat": (0, 0, 0.5, 0.5), "car": (0.5, 0.25, 1, 1), "dog": (0, 0, 1, 1)}
    objects = [{"name": name, "box": boxes[name]} for name in things]
    return {"image": np.zeros((4, 4, 3), np.uint8), "captions": [text], "mentions": [list(mentions)], "objects": objects}


def recipe(image_bytes, source):
    config = types.SimpleNamespace(second="image", image_bytes=image_bytes, text_length=20)
    return types.SimpleNamespace(maker=types.SimpleNamespace(inventories={}, config=config), held_out=source)


def test_which_captions_name_two_things():
    found = two_things(example(), 20)
    assert found["words"] == ["cat", "car"] and found["bytes"] == [(2, 5), (11, 14)]
    np.testing.assert_array_equal(found["boxes"], [(0, 0, 0.5, 0.5), (0.5, 0.25, 1, 1)])
    assert two_things(example(), 14) is None  # too long
    assert two_things(example(things=("cat", "car", "car")), 20) is None  # which car?
    assert two_things(example(mentions=((2, 5, "cat"),)), 20) is None
    assert two_things(example(mentions=((2, 5, "cat"), (2, 5, "cat"), (11, 14, "car"))), 20) is None
    coloured = two_things(example("a red cat by a car", ((2, 5, "is.red"), (6, 9, "cat"), (15, 18, "car"))), 20)
    assert coloured["words"] == ["cat", "car"]  # what a thing is like is no third thing
    assert two_things(example(things=("cat", "car")) | {"mentions": None}, 20)["bytes"] == [(2, 5), (11, 14)]  # by their names
    heard = two_things(example() | {"audio_object": 1}, 20, heard=True)
    assert heard["asked"] == (1,) and found["asked"] == (0, 1)
    assert two_things(example(things=("cat", "car", "dog")) | {"audio_object": 2}, 20, heard=True) is None
    korean = two_things(example("배와 차", ((0, 1, "cat"), (3, 4, "car"))), 20)
    assert korean["bytes"] == [(0, 3), (7, 10)]


def test_where_a_text_has_the_names_of_boxes():
    names = ("dining table", "bus", "car")
    assert named_in("Two Buses and a dining table.", names) == [(4, 9, "bus"), (16, 28, "dining table")]
    assert named_in("a busy cartoon, dining tables", names) == [(16, 29, "dining table")]


def test_what_both_things_are_called():
    def sense(key, synonyms, hypernyms, hyponyms=()):
        return Sense(key, "", tuple(synonyms), tuple(hypernyms), tuple(hyponyms))

    table = {
        "cat": (sense("cat", ["puss"], ["animal"]),),
        "bat": (sense("bat.club", ["club"], ["stick"]), sense("bat.animal", ["flyer"], ["animal"])),
        "animal": (sense("kind.animal", [], [], ["cat", "bat"]),),
    }
    inventory = TableInventory(table, "en")
    assert expressions(inventory, "bat", "bat.animal") == ["bat", "flyer", "animal"]
    assert expressions(inventory, "animal", "cat") == ["animal", "cat", "puss"]
    assert expressions(inventory, "thing", "thing") == ["thing"] == expressions(None, "thing", "x")
    item = {"lang": "en", "words": ["animal", "bat"], "names": ["cat", "bat.animal"]}
    assert called(item, {"en": inventory}) == [["animal", "cat", "puss"], ["bat", "flyer"]]


def test_maps_against_boxes():
    """A grid of 2 x 2: the cat in one patch, the car in the right column, of whose upper patch it has three quarters."""
    maps = np.array([[[0.7, 0.1, 0.1, 0.1], [0.4, 0.3, 0.0, 0.3]]])
    found = looked(maps, [{"boxes": np.array([(0, 0, 0.5, 0.5), (0.5, 0.25, 1, 1)])}])
    area = np.array([1, 1.5]) / 4
    assert found["own_over_other"] == 0.5  # .7 > .15 / 1.5; (.15 + .3) / 1.5 < .4
    assert found["pointing"] == 0.5 and found["area"] == pytest.approx(area.mean())
    assert found["mass_over_area"] == pytest.approx(np.mean([0.7 / area[0], (0.3 * 0.5 + 0.3) / area[1]]))
    assert found["word_correlation"] == pytest.approx(np.corrcoef(*maps[0])[0, 1])
    assert looked(np.full((1, 2, 4), 0.25), [{"boxes": np.array([(0, 0, 1, 1)] * 2)}])["word_correlation"] == 1


class Seeing:
    """A predictor whose words follow what their gap is associated with: column 0 is the cat's, column 1 the car's."""

    examples = types.SimpleNamespace(text_length=20)
    model = types.SimpleNamespace(text_window=1)
    where = 0  # from the gap on

    def sense_probabilities(self, pictures, items, associate=None):
        out = []
        texts = [mask_text(item["text"], [item["span"]]) for item in items]
        association = np.zeros((len(items), 20, 2), np.float32)
        for row, ids in enumerate(texts):
            words = byte_ids.decode_text(np.where(ids >= byte_ids.FIRST_SENTINEL, 35, ids))
            association[row, : len(ids)] = 0.5
            for word, column in (("cat", 0), ("car", 1)):
                if word in words:
                    at = words.index(word)
                    association[row, at : at + 3] = np.eye(2)[column]
            asked = np.flatnonzero(ids >= byte_ids.FIRST_SENTINEL) + self.where
            association[row, asked] = (0.6, 0.4) if "cat" not in words else (0.4, 0.6)
        if associate is not None:
            association = associate(texts, association)
        for row, (ids, item) in enumerate(zip(texts, items, strict=True)):
            weights = association[row, np.flatnonzero(ids >= byte_ids.FIRST_SENTINEL) + self.where].mean(0)
            own = item["expressions"][0][0] == "car"
            out.append(np.array([weights[int(own)], weights[1 - int(own)] + 1e-6]))
        return out


def test_words_follow_the_association_of_their_gap():
    source = [example(), example("a car by a cat", ((2, 5, "car"), (11, 14, "cat")))]
    judge = GroundingEvaluator(recipe("raw", source), count=0)
    right, uniform, moved, gap_moved = judge.answers(Seeing(), judge.items)
    assert right.all() and not uniform.any() and moved.all() and gap_moved.all()

    class Beside(Seeing):
        """Whose words follow what the byte before their gap is associated with."""

        where = -1

    right, _, moved, gap_moved = judge.answers(Beside(), judge.items)
    assert right.all() and moved.all() and not gap_moved.any()


def test_an_even_association():
    given = np.array([[[0.2, 0.8], [0.0, 0.0]]])
    np.testing.assert_array_equal(even(None, given), [[[0.5, 0.5], [0.0, 0.0]]])


def test_files_and_sounds_have_words_but_no_maps():
    source = [example(), example("a car by a cat", ((2, 5, "car"), (11, 14, "cat")))]
    of_files = GroundingEvaluator(recipe("file", source), count=0).run(Seeing())[0]
    assert of_files == {"grounding/right": 1, "grounding/association_uniform": 0, "grounding/moved_follows": 1,
                        "grounding/gap_moved_follows": 1, "grounding/captions": 2}  # fmt: skip
    heard = recipe("raw", [one | {"audio_object": 1} for one in source])
    heard.maker.config.second = "audio"
    judge = GroundingEvaluator(heard, count=0)
    assert judge.run(Seeing())[0] == {"grounding/right": 1, "grounding/association_uniform": 0, "grounding/captions": 2}
    assert [item["asked"] for item in judge.items] == [(1,), (0,)]  # the car of both
    heard.maker.config.second = "series"
    with pytest.raises(UserError, match="beside pictures or sounds"):
        GroundingEvaluator(heard)

"""Evaluators on a few examples with given vectors, small enough to be worked out by hand."""

import types

import numpy as np
import pytest

from xmodal_jax.evaluators.captioning import CaptioningEvaluator
from xmodal_jax.evaluators.generation import GenerationEvaluator
from xmodal_jax.evaluators.latent import LatentEvaluator
from xmodal_jax.evaluators.refer import ReferEvaluator
from xmodal_jax.evaluators.retrieval import RetrievalEvaluator


class Source(list):
    """Examples with their captions."""

    def captions(self, i):
        return self[i]["captions"], "en"


def examples(*captions):
    return Source({"id": str(i), "image": i, "captions": texts, "lang": "en"} for i, texts in enumerate(captions))


def recipe(held_out, train=()):
    return types.SimpleNamespace(held_out=held_out, train=train, config=types.SimpleNamespace(seed=0))


class Given:
    """A predictor that knows the vector of every picture and text, and (mu, log variance) of every picture."""

    def __init__(self, images=(), texts=None, latents=None):
        self.images, self.texts, self.moments = np.array(images), texts, latents

    def pooled(self, seconds=None, texts=None):
        left = None if seconds is None else np.stack([self.images[example["image"]] for example in seconds])
        return left, None if texts is None else np.stack([np.array(self.texts[text]) for text in texts])

    def latents(self, seconds):
        numbers = [example["image"] for example in seconds]
        return self.moments and tuple(part[numbers] for part in self.moments)


def test_a_dual_encoder_tells_the_training_caption_that_is_nearest():
    """Six captions on a half circle, three pictures between them; a portion of the search holds four captions."""
    angles = {"far left": 180, "left": 140, "upper left": 100, "upper right": 75, "right": 40, "far right": 0}

    def on_circle(degrees):
        return np.cos(np.radians(degrees)), np.sin(np.radians(degrees))

    train = examples(*([text] for text in angles))
    held_out = examples(["right"], ["far left"], ["upper left"])
    predictor = Given([on_circle(degrees) for degrees in (38, 165, 95)], {t: on_circle(a) for t, a in angles.items()})
    judge = CaptioningEvaluator(recipe(held_out, train), rows=1, choose_by="retrieve")
    results, samples = judge.run(predictor)
    assert {sample.id: sample.answer for sample in samples} == {"0": "right", "1": "far left", "2": "upper left"}
    assert results["captioning/rougeL"] == pytest.approx(1) and results["captioning/words"] == pytest.approx(5 / 3)


def test_answers_are_counted_by_the_type_of_their_question_beside_answers_without_eyes():
    """Two pictures, two questions each; three annotators who agree are enough, two are two thirds."""

    def ask(question, of, *answers):
        return {"question": question, "answers": list(answers), "type": of}

    class Asked(Source):
        def captions(self, i):
            return (*super().captions(i)[:1], None, "en")

        def questions(self, i):
            return self[i]["questions"]

    asked = [
        [ask("how many?", "count", *["one"] * 10), ask("is it red?", "exists", *["yes"] * 8, *["yeah"] * 2)],
        [ask("how many?", "count", *["two"] * 10), ask("is it red?", "exists", *["no"] * 10)],
    ]
    source = Asked(one | {"questions": own} for one, own in zip(examples(["a dog"], ["two dogs"]), asked, strict=True))
    said = {("how many?", 0): "one", ("is it red?", 0): "yeah", ("how many?", 1): "one", ("is it red?", 1): "no"}

    class Writer:
        def write_answers(self, seconds, prompts):
            return [[said[prompt, second["image"]]] for prompt, second in zip(prompts, seconds, strict=True)]

        def write_captions(self, seconds, lang):
            assert lang == "en"
            return [["a dog"]] * len(seconds)

        def relation(self, example):
            return None, None

    results, samples = GenerationEvaluator(recipe(source, source)).run(Writer())
    told = {name.removeprefix("generation/"): value for name, value in results.items()}
    assert told["answer_accuracy"] == pytest.approx((1 + 2 / 3 + 0 + 1) / 4)
    assert told["answer_accuracy/count"] == 0.5 and told["answer_accuracy/exists"] == pytest.approx(5 / 6)
    assert told["caption_exact"] == 0.5 and 0 < told["answer/frequent"] < 1
    assert [sample.correct for sample in samples if sample.question] == [True, False]


def test_the_gap_is_the_distance_between_the_centroids_of_both_modalities():
    held_out = examples(["a", "b", "b"], ["c"])
    images = [(1.0, 0.0, 0.0), (0.6, 0.8, 0.0)]  # centroid .8, .4, 0
    texts = {"a": (0.0, 0.0, 1.0), "b": (0.0, 0.6, 0.8), "c": (0.0, 0.6, -0.8)}  # centroid 0, .4, 1 / 3: "b" counts once
    found, _ = RetrievalEvaluator(recipe(held_out), rows=2).run(Given(images, texts))
    assert found["retrieval/gap"] == pytest.approx((0.8**2 + 1 / 9) ** 0.5)
    same = Given(images[:1] * 2, dict.fromkeys("abc", images[0]))
    assert RetrievalEvaluator(recipe(held_out), rows=2).run(same)[0]["retrieval/gap"] == 0


def test_mean_recall_counts_captions_as_they_are_listed_and_a_pictures_own_alone():
    """Three pictures and five captions: at 5 and 10 all are found, at 1 a third and three fifths."""
    held_out = examples(["a", "b"], ["a"], ["c", "c"])
    vectors = {"a": (1.0, 0.0), "b": (0.0, 1.0), "c": (0.6, 0.8)}  # of the pictures too
    found, _ = RetrievalEvaluator(recipe(held_out), rows=2).run(Given(list(vectors.values()), vectors))
    # drawn in any order; the first picture's "a" ties with the second's, its "b" and the second's "a" are nearest to others
    assert found["retrieval/mean_recall"] == pytest.approx(100 * (1 / 3 + 3 / 5 + 4) / 6)
    # both pictures' "a" are hits of both, and "c" counts once
    assert found["retrieval/mean_recall_equal"] == pytest.approx(100 * (2 / 3 + 3 / 4 + 4) / 6)
    assert (found["retrieval/i2t_r1"], found["retrieval/t2i_r1"]) == (pytest.approx(2 / 3), 3 / 4)


def test_a_unit_is_active_where_its_mean_varies_from_picture_to_picture():
    """Two tokens, four units each; every unit's mean is at its level minus or plus its swing in half of the pictures each."""
    swing = np.array([[0.0, 0.09, 0.11, 2.0], [0.0, 0.0, 0.0, 0.0]])  # [n, Z]: variances 0, .0081, .0121, 4: two of 8 above .01
    level = np.array([[0.0, 0.0, 0.0, 0.0], [5.0, 0.0, 0.0, 0.0]])  # far from the prior, but the same for all pictures
    mu = level + swing * np.array([-1, 1, 1, -1])[:, None, None]
    log_variance = np.broadcast_to(np.log([1.0, 1.0, 1.0, 0.25]), mu.shape)
    held_out = examples(["a"], ["b"], ["c"], ["d"])
    found, _ = LatentEvaluator(recipe(held_out), rows=3).run(Given(latents=(mu, log_variance)))
    narrow = -0.5 * (1 + np.log(0.25) - 0.25)
    nats = np.array([[0, 0.0081 / 2, 0.0121 / 2, 2 + narrow], [12.5, 0, 0, narrow]])
    assert found["latent/active_units"] == 2 / 8
    assert found["latent/kl"] == pytest.approx(nats.sum() / 2)
    assert found["latent/collapsed"] == 2 / 4  # the second and third units, over both tokens
    assert LatentEvaluator(recipe(held_out)).run(Given()) == ({}, [])


class Attending(Given):
    """One that knows the attended similarity of every text and picture as well."""

    attends = True

    def __init__(self, images, texts, table):
        super().__init__(images, texts)
        self.table, self.number = np.array(table), {text: n for n, text in enumerate(texts)}

    def seen(self, pictures):
        return {"vector": self.pooled(pictures)[0], "regions": np.array([[[picture["image"]]] for picture in pictures])}

    def words(self, texts):
        return np.array([[[self.number[text]]] for text in texts]), np.ones((len(texts), 1))

    def attended(self, words, importance, regions):
        return self.table[np.ix_(words[:, 0, 0], regions[:, 0, 0])]


@pytest.mark.parametrize(("count", "i2t", "t2i"), [(1, 1 / 3, 2 / 3), (2, 1.0, 1.0), (3, 1.0, 1.0)])
def test_the_best_by_vectors_are_put_in_order_by_both_similarities(count, i2t, t2i):
    """Cosines of pictures and their captions a, b, c: only c is nearest to its own; attended similarity is of the own alone."""
    vectors = np.array([[0.6, 0.7, 0.1], [0.5, 0.4, 0.2], [0.3, 0.2, 0.9]])  # pictures by texts, as products with the axes
    predictor = Attending(vectors, {"a": [1, 0, 0], "b": [0, 1, 0], "c": [0, 0, 1]}, 0.9 * np.eye(3))
    given = recipe(examples(["a"], ["b"], ["c"]))
    results, _ = RetrievalEvaluator(given, rows=2, reranked=count).run(predictor)
    # Pictures: a's best two are b, a; b's a, b; c's c, a. Texts: a's best two pictures are 0, 1; b's 0, 1; c's 2, 1.
    assert (results["retrieval/i2t_r1"], results["retrieval/t2i_r1"]) == pytest.approx((i2t, t2i))
    alone, _ = RetrievalEvaluator(given, rows=2).run(Given(vectors, predictor.texts))
    assert results["retrieval/mean_recall_vectors"] == pytest.approx(alone["retrieval/mean_recall"])
    assert "retrieval/mean_recall_vectors" not in alone


class Finder:
    """A predictor that knows the score and the box of every phrase of every picture."""

    def __init__(self, told):
        self.told = told

    def located(self, pictures, phrases):
        found = [self.told[example["id"], phrase] for example, phrase in zip(pictures, phrases, strict=True)]
        return np.array([score for score, _ in found]), np.array([box for _, box in found]), np.zeros((len(found), 1, 1))


def test_phrases_are_found_with_their_box_or_recognised_as_absent():
    left, right, large = [0, 0, 0.5, 1], [0.5, 0, 1, 1], [0, 0, 1, 1]
    picture = np.zeros((8, 8, 3), np.uint8)

    def example(name, boxes, phrases, absent):
        return {"id": name, "image": picture, "lang": "en", "objects": [{"box": box} for box in boxes], "absent": absent,
                "phrases": [{"phrase": text, "box": box, "settled": settled} for text, box, settled in phrases]}  # fmt: skip

    test = [
        example("a", [left, large], [("cat", left, "name"), ("big", large, "size")], ["dog", "cow"]),
        example("b", [right], [("red", right, "color")], ["hen"]), example("c", [left], [], ["cow"]),
    ]  # fmt: skip
    val = [example("v", [left], [("cat", left, "name")], ["dog"])]
    told = {
        ("v", "cat"): (0.9, left), ("v", "dog"): (0.3, left),  # so that the threshold lies at 0.6
        ("a", "cat"): (0.7, [0, 0, 0.5, 0.6]),  # IoU 0.6
        ("a", "big"): (0.8, left),  # IoU 0.5
        ("a", "dog"): (0.5, left), ("a", "cow"): (0.61, left),  # the second is wrong
        ("b", "red"): (0.59, right),  # not found
        ("b", "hen"): (0.0, right),
    }  # fmt: skip
    given = types.SimpleNamespace(held_out=test, open_split=lambda name: {"val": val}[name])
    results, samples = ReferEvaluator(given, count=0, rows=2).run(Finder(told))
    expected = {
        "accuracy_50": 2 / 3, "mean_iou": 1.1 / 3, "absent_right": 2 / 3, "threshold": 0.6, "phrases": 3, "accuracy_50/name": 1,
        "accuracy_50/size": 1, "accuracy_50/color": 0, "largest_box": 2 / 3 + 1 / 3, "random_box": (2 / 2 + 2 / 2 + 1) / 3,
    }  # fmt: skip
    assert results == pytest.approx({f"refer/{name}": value for name, value in expected.items()})
    assert [sample.correct for sample in samples] == [False, True]

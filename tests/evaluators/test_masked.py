"""Masked words beside baselines that see no picture, worked out by hand."""

import types

import numpy as np
import pytest

from xmodal_jax.errors import UserError
from xmodal_jax.evaluators.masked import MaskedEvaluator, Neighbours, around, asked, read_words, write_words


def example(i, text, *mentions):
    return {"id": str(i), "image": i, "captions": [text], "mentions": [list(mentions)], "lang": "en"}


MAKER = types.SimpleNamespace(inventories={})


def test_which_words_are_asked():
    """One that stands there once, beside a picture that does not show its thing."""
    examples = [
        example(0, "a cat by a car", (2, 5, "cat")), example(1, "cat, a CAT", (0, 3, "cat")),
        example(2, "a red car", (6, 9, "car")), example(3, "a cat", (2, 5, "cat")),
    ]  # fmt: skip
    items = asked(examples, MAKER)
    assert [item["word"] for item in items] == ["cat", "car", "cat"]
    assert [item["wrong"]["id"] for item in items] == ["2", "3", "2"]
    assert [item["text"][slice(*item["span"])] for item in items] == ["cat", "car", "cat"]


def test_neighbours():
    counts = Neighbours()
    for text, start, end in (("a big cat runs", 6, 9), ("a big dog sits", 6, 9), ("a big dog barks", 6, 9), ("the Cow", 4, 7)):
        counts.add("en", text, start, end)
    assert around("a big cat runs", 6, 9) == ("big", "runs") and around("cat", 0, 3) == ("", "")
    assert counts.told("en", "one big ___ runs", 8, 11) == {"frequency": "dog", "ngram": "cat"}
    assert counts.told("en", "one big ___ eats", 8, 11) == {"frequency": "dog", "ngram": "dog"}  # behind "big" alone
    assert counts.told("en", "so ___ sits", 3, 6) == {"frequency": "dog", "ngram": "dog"}
    assert counts.told("ko", "so ___ sits", 3, 6) == {"frequency": "", "ngram": ""}
    assert [counts.seen("en", word) for word in ("Dog", "cow", "hen")] == [2, 1, 0] and counts.seen("ko", "dog") == 0


class Writing:
    """Writes what the picture's number stands for, "dog" without one."""

    params = None

    def fill_batch(self, pictures, texts, spans):
        words = ["dog" if one is None else ("Cat", "car", "cat", "hat")[one["image"]] for one in pictures]
        return words, np.zeros(len(words))

    def fill_masked(self, pictures, ids, segments):
        """With a further text, also without a picture."""
        words = ["dog" if one is None and 1 not in kinds else "cat" for one, kinds in zip(pictures, segments, strict=True)]
        return words, np.zeros(len(ids))


def test_shares_and_intervals():
    judge = object.__new__(MaskedEvaluator)
    judge.rows, judge.batches = 3, []
    texts = [("a cat", (2, 5)), ("a car", (2, 5)), ("a cat", (2, 5)), ("a cow", (2, 5))]
    judge.items = [
        {
            "example": {"image": i},
            "wrong": {"image": (i + 1) % 4},
            "text": text,
            "span": span,
            "word": text[slice(*span)],
            "seen": seen,
        }
        for i, ((text, span), seen) in enumerate(zip(texts, (9, 8, 7, 0), strict=True))
    ]
    judge.baselines = {}
    results, _ = judge.run(Writing())
    assert results["masked/right_image/word"] == 0.75 and results["masked/no_image/word"] == 0
    gains = np.array([1, 1, 1, 0]) - np.array([0, 0, 0, 0])
    assert results["masked/wrong_image/word"] == 0 and results["masked/gain"] == 0.75
    assert results["masked/gain_low"] == pytest.approx(0.75 - 1.96 * gains.std(ddof=1) / 2)
    assert results["masked/words"] == 4
    assert (results["masked/right_image/rare_word"], results["masked/right_image/common_word"]) == (0.5, 1)
    assert (results["masked/no_image/rare_word"], results["masked/no_image/common_word"]) == (0, 0)
    assert not any("third" in name or "gloss" in name for name in results)
    for item, segment in zip(judge.items, (1, 0, 0, 1), strict=True):
        item["further"] = {"third": ([5], [segment])}
    results, _ = judge.run(Writing())
    assert results["masked/right_image/third/word"] == 0.5 and results["masked/no_image/third/word"] == 0.25
    assert results["masked/right_image/third/rare_word"] == 0.5 and results["masked/right_image/word"] == 0.75


def test_baselines_see_no_picture():
    judge = object.__new__(MaskedEvaluator)
    judge.items = [{"lang": "en", "text": "a big ___", "span": (6, 9), "word": word} for word in ("cat", "dog", "dog")]

    class Train(list):
        def captions(self, i):
            return [self[i]], [[(6, 9, "thing")]], "en"

    found = judge.blind(Train(["a big Dog", "a red cat", "one r cat", "two w cat"]), MAKER, 10)
    assert found == {"baseline/frequency": pytest.approx(1 / 3), "baseline/ngram": pytest.approx(2 / 3)}


def test_words_of_a_file_are_asked_whatever_the_rule_of_today(tmp_path):
    source = [
        {"id": "a", "captions": ["a big cat", "a dog"], "mentions": [[(6, 9, "cat")], [(2, 5, "dog")]], "lang": "en"},
        {"id": "b", "captions": ["a dog", "a cow"], "mentions": [[(2, 5, "dog")], [(2, 5, "cow")]], "lang": "en"},
        {"id": "c", "captions": ["a hen"], "mentions": [[(2, 5, "hen")]], "lang": "en"},
    ]
    path = tmp_path / "words.jsonl"
    write_words(path, asked(source, MAKER))
    given = read_words(path)
    assert list(given) == ["a", "b", "c"] and [i["span"] for i in asked(source, MAKER, given)] == [
        g[1:] for g in given.values()
    ]
    path.write_text('{"id": "a", "caption": 0, "start": 2, "end": 5}\n')
    (item,) = asked(source, MAKER, read_words(path))
    assert (item["word"], item["wrong"]["id"]) == ("big", "b")
    path.write_text('{"id": "a", "caption": 1, "start": 2, "end": 5}\n')
    assert asked(source, MAKER, read_words(path))[0]["wrong"]["id"] == "c"  # b has a dog too
    path.write_text('{"id": "a"}\n')
    with pytest.raises(UserError, match=":1: no line of words"):
        read_words(path)

"""Views of a pair: which words are masked and what stands in their place, and texts that are another picture's."""

import collections

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.data.pairs_of_three import CAPTIONS, FIRST, Source, maker
from xmodal_jax.data.pair_examples import IMAGE, PAIR, TEXT, PairExamples
from xmodal_jax.data.pairs import PairMaker
from xmodal_jax.data.patch_codes import nearest, patches
from xmodal_jax.data.tokenizers import MASK, learn_tokenizer
from xmodal_jax.data.word_masks import chosen_words
from xmodal_jax.errors import UserError


def pieces():
    """A tokeniser of WordPiece's kind: "house" is "ho ##us ##e"."""
    words = [
        "[PAD]",
        "[UNK]",
        "[MASK]",
        "[SEP]",
        "a",
        "red",
        "car",
        "st",
        "##op",
        "##s",
        "near",
        "the",
        "old",
        "ho",
        "##us",
        "##e",
        "today",
    ]
    inner = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **marks)


def test_what_is_masked_stands_in_the_labels_and_the_rest_stays():
    """Over many draws: the shares of mask token, of other words and of kept ones, and each word as often as the others."""
    made, places, kinds, example = (
        maker(masked="random", mask_share=0.3),
        collections.Counter(),
        collections.Counter(),
        Source()[0],
    )
    for position in range(1500):
        row = made(example, position)
        hidden, ids, there = row["masked"], row["caption"], row["masked_words"] >= 0
        chosen = row["masked_places"][there]
        assert len(chosen) == len({*chosen}) == round(0.3 * len(FIRST))
        np.testing.assert_array_equal(ids[chosen], row["masked_words"][there])
        others = np.delete(np.arange(len(ids)), chosen)
        np.testing.assert_array_equal(hidden[others], ids[others])
        assert chosen.min() >= 1 and chosen.max() < row["caption_length"]
        places.update(chosen.tolist())
        kinds.update(
            "mask" if hidden[i] == made.tokenizer.mask_token_id else "same" if hidden[i] == ids[i] else "other" for i in chosen
        )
    total = sum(kinds.values())
    assert set(places) == {*range(1, len(FIRST) + 1)}
    assert max(places.values()) < 1.3 * min(places.values())
    assert abs(kinds["mask"] / total - 0.8) < 0.04 and abs(kinds["same"] / total - 0.1) < 0.03


def test_the_closing_mark_is_masked_as_often_as_a_word():
    made, ends = maker(masked="random", mask_share=0.3, mask_end=True, retained=0.0, replaced=0.0), 0
    for position in range(600):
        row = made(Source()[0], position)
        there, end = row["masked_words"] >= 0, row["caption_length"]
        masked_end = end in row["masked_places"][there]
        assert masked_end == (row["masked"][end] == made.tokenizer.mask_token_id) and row["caption"][end] == made.end
        assert made.end not in row["masked_words"][there] or masked_end
        ends += masked_end
    assert 0.2 < ends / 600 < 0.4
    nothing = made.masked(*made.framed([]), np.random.default_rng(0))
    assert (nothing["masked_words"] == -1).all()  # an empty text has nothing to tell


@pytest.mark.parametrize("masked", ["whole_word", "span"])
def test_the_pieces_of_a_word_are_masked_together(masked):
    made, seen = maker(pieces(), masked=masked, mask_share=0.3, replaced=0.0, retained=0.0), set()
    words = [[1], [2], [3], [4, 5, 6], [7], [8], [9], [10, 11, 12], [13]]
    for position in range(200):
        row = made(Source()[0], position)
        chosen = {*row["masked_places"][row["masked_words"] >= 0].tolist()}
        assert chosen and all({*word} <= chosen or not {*word} & chosen for word in words if word[-1] <= row["caption_length"])
        seen |= chosen
    assert seen >= {4, 5, 6}


def test_spans_are_runs(rng):
    words, gaps = [[place] for place in range(100)], []
    for _ in range(200):
        chosen = sorted(chosen_words(words, "span", 30, 30, rng))
        assert len(chosen) == 30
        gaps.append(sum(b - a > 1 for a, b in zip(chosen, chosen[1:], strict=False)))
    apart = sorted(chosen_words(words, "random", 30, 30, rng))
    assert np.mean(gaps) < 12 < sum(b - a > 1 for a, b in zip(apart, apart[1:], strict=False))


def test_another_text_is_another_pictures_half_of_the_time():
    made, told = maker(other="text"), []
    for position in range(400):
        row = made(Source()[2], position)
        text = made.text(row["other"][1:])
        assert (text in CAPTIONS[2]) == bool(row["match"])
        assert row["other_length"] == len(text.split()) + 1
        told.append(int(row["match"]))
    assert abs(np.mean(told) - 0.5) < 0.1
    again = maker(other="text")(Source()[2], 3)
    np.testing.assert_array_equal(again["other"], made(Source()[2], 3)["other"])


def test_a_second_text_has_a_segment_of_its_own():
    """Tags, which are exchanged for another picture's; another caption, never the same."""
    made, end = maker(second="tags", other="text", masked="random", joint=True), 0
    for position in range(60):
        row = made(Source()[0], position)
        for name in ("caption", "other"):
            ids, types, length = row[name], row[f"{name}_types"], row[f"{name}_length"]
            (middle,) = np.flatnonzero(ids[1:length] == end) + 1
            assert (
                ids[0] == ids[length] == end
                and (types == ((np.arange(len(ids)) > middle) & (np.arange(len(ids)) <= length))).all()
            )
            told = made.text(ids[1:middle]), made.text(ids[middle + 1 : length])
            assert told[0] == CAPTIONS[0][0] and (told[1] == "car house") == (name == "caption" or row["match"] == 1)
        places = row["masked_places"][row["masked_words"] >= 0]
        np.testing.assert_array_equal(row["other"][places], row["masked_words"][row["masked_words"] >= 0])
        assert end not in row["other"][places]
    again = maker(second="caption")
    assert again.text(again(Source()[2], 0)["caption"][4:]) == ""
    both = {"id": "b", "image": np.zeros((8, 8, 3), np.uint8), "captions": ["a bird", "a cat"], "lang": "en"}
    for position in range(10):
        ids, length = (again(both, position)[name] for name in ("caption", "caption_length"))
        assert {again.text(ids[1:3]), again.text(ids[4:length])} == {"a bird", "a cat"}


def test_questions_take_the_place_of_captions():
    made, seen = maker(asked=0.5), collections.Counter()
    made = PairMaker(made.config, made.tokenizer, Source(), classes=made.classes, answers=("red", "2"))
    questions = [
        {"question": "two dogs", "answers": ["two", "2", "two"]},
        {"question": "a car", "answers": ["Red"]},
        {"question": "a cat", "answers": []},
    ]
    for position in range(300):
        row = made(Source()[0] | {"questions": questions}, position)
        text = made.text(row["caption"][1 : row["caption_length"]])
        seen[text, int(row["answer"])] += 1
    assert set(seen) == {(CAPTIONS[0][0], -1), ("two dogs", 1), ("a car", 0), ("a cat", -1)}
    assert abs(seen[CAPTIONS[0][0], -1] / 300 - 0.5) < 0.1
    assert made(Source()[0], 0)["answer"] == -1


def test_a_question_is_exchanged_for_a_question():
    """So that the kind of a text does not tell whether it is the picture's own; questions of the picture itself are none."""
    made = maker(asked=0.5, other="text")
    asked = [["two dogs", "a mat"], ["a cat"], []]
    made.source.questions = lambda i: [{"question": text, "answers": ["x"]} for text in asked[i]]
    seen = collections.Counter()
    for position in range(300):
        row = made(Source()[0] | {"questions": made.source.questions(0)}, position)
        texts = [made.text(row[name][1 : row[f"{name}_length"]]) for name in ("caption", "other")]
        seen[texts[0] in asked[0], int(row["match"])] += 1
        if row["match"] == 0:
            assert texts[1] == "a cat" if texts[0] in asked[0] else texts[1] in CAPTIONS[1] + CAPTIONS[2]
    assert min(seen.values()) > 50 and len(seen) == 4


@pytest.mark.parametrize("written", ["caption", "prefix", "denoise"])
def test_texts_that_are_written(written):
    made, seen = maker(written=written), set()
    for position in range(60):
        row = made(Source()[0], position)
        source, target = (made.tokenizer.decode(row[name][1 : row[f"{name}_length"]]).split() for name in ("source", "target"))
        assert row["source"][row["source_length"]] == row["target"][row["target_length"]] == made.end
        seen.add(len(source))
        if written == "prefix":
            assert source + target == FIRST
            continue
        assert target == FIRST and (written == "denoise" or not source)
        if written == "denoise":
            left = [word for word in source if word != MASK]
            assert source.count(MASK) == 1 or MASK + MASK not in "".join(source)
            assert len(left) == len(FIRST) - round(0.3 * len(FIRST)) and left == [word for word in FIRST if word in left]
    assert len(seen) == {"caption": 1, "prefix": len(FIRST), "denoise": 3}[written] or written == "denoise"


def test_the_kinds_of_vl_t5():
    """Each behind its prompt; what an example lacks is not asked."""
    vocabulary = [text for texts in CAPTIONS for text in texts]
    settings = {"written": "spans+answer+match+region+ground", "regions": 4}
    made = PairExamples(**settings)
    tokenizer = learn_tokenizer("words:1", [*vocabulary, *made.words, "what is this", "yes"])
    tokenizer.add_special_tokens({"mask_token": MASK})
    made, seen = maker(tokenizer, length=20, **settings), collections.defaultdict(set)
    example = Source()[0] | {"questions": [{"question": "what is this", "answers": ["yes", "yes"]}]}
    for position in range(300):
        row = made(example, position)
        source, target = (tokenizer.decode(row[name][1 : int(row[f"{name}_length"])]) for name in ("source", "target"))
        prompt, _, asked = source.partition(" : ")
        seen[prompt].add((asked, target))
    assert set(seen) == {"span prediction", "vqa", "image text match", "caption region", "visual grounding"}
    assert seen["vqa"] == {("what is this", "yes")}
    assert seen["caption region"] == {("region_0", "car"), ("region_1", "house")}
    assert seen["visual grounding"] == {("car", "region_0"), ("house", "region_1")}
    assert {target for _, target in seen["image text match"]} == {"true", "false"}
    assert all((asked == CAPTIONS[0][0]) == (target == "true") for asked, target in seen["image text match"])
    for asked, target in seen["span prediction"]:  # what is missing, put back, is the caption
        spans = iter(part.split() for part in target.split(MASK)[1:])
        whole = [word for piece in asked.split() for word in (next(spans) if piece == MASK else [piece])]
        assert whole == FIRST and MASK in asked
    bare = {tokenizer.decode(made(Source()[2], p)["source"][1:4]) for p in range(40)}
    assert all(not source.startswith(("vqa", "caption region", "visual")) for source in bare)


def test_second_views_and_numbers_of_patches(rng):
    centroids = rng.random((5, 4 * 4 * 3)).astype(np.float32)
    made = maker(views=2, brightness=0.5, codes=5, code_patch=4, code_share=0.0, regions=4)
    made.centroids, shares = centroids, set()
    example = Source()[0] | {"image": rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)}
    for position in range(60):
        row = made(example, position)
        assert not np.array_equal(row["image"], row["image_second"])
        first = row["caption"][1 : int(row["caption_length"])].tolist()
        second = row["caption_second"][1 : int(row["caption_second_length"])].tolist()
        assert first != second or len(first) == 1
        left = collections.Counter(first) - collections.Counter(second)
        assert sum(left.values()) == len(first) - len(second) <= 1
        np.testing.assert_array_equal(row["codes"], nearest(patches(row["image"], 4), centroids))
        assert row["codes_hidden"].any()
        shares.add(int(row["codes_hidden"].sum()))
        np.testing.assert_array_equal(row["boxes"], [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]])
    assert shares == {1, 2, 3, 4}
    made = maker(codes=5, code_patch=4, code_share=-1.0, cell_share=0.5)
    made.centroids = centroids
    rows = [made(example, position) for position in range(200)]
    assert all("codes_hidden" not in row for row in rows)
    there = [row["cell_place"] for row in rows if row["cell_place"] >= 0]
    assert 70 < len(there) < 130 and min(there) < 0.1 and 0.9 < max(there) < 1
    made = maker(views=2, brightness=0.5)
    held = made.over(Source())(example, 0)
    np.testing.assert_array_equal(held["image"], example["image"])
    assert not np.array_equal(held["image_second"], example["image"])


def test_texts_and_pictures_alone():
    """A text alone has no regions, a picture alone no words; neither is asked whether it is a pair."""
    made = maker(masked="random", other="text", text_alone=0.3, image_alone=0.2, regions=4, causal=0.5)
    rows = [made(Source()[position % 2], position) for position in range(1000)]
    counts = collections.Counter(int(row["alone"]) for row in rows)
    assert abs(counts[TEXT] / 1000 - 0.3) < 0.05 and abs(counts[IMAGE] / 1000 - 0.2) < 0.05
    assert abs(np.mean([row["causal"] for row in rows]) - 0.5) < 0.06
    for row in rows:
        assert (row["match"] >= 0) == (row["alone"] == PAIR)
        assert row["regions_there"].any() == row["regions_target"].any() == (row["alone"] != TEXT)
        assert (row["masked_words"] >= 0).any() == (row["caption_length"] > 1) == (row["alone"] != IMAGE)


def test_several_kinds_of_writing_are_drawn_in_turn():
    made, kinds = maker(written="caption+denoise"), collections.Counter()
    for position in range(200):
        row = made(Source()[0], position)
        kinds["caption" if row["source_length"] == 1 else "denoise"] += 1
        assert row["target_length"] == len(FIRST) + 1
    assert min(kinds.values()) > 70


def test_one_task_a_row():
    """As often as they are weighed; nothing else is done to the row."""
    made, tasks = maker(other="text", masked="random", joint=True, draw=(2, 1, 1), regions=4), collections.Counter()
    for position in range(300):
        row = made(Source()[1], position)
        masked, hidden = (row["masked"] != row["other"]).any(), row["regions_target"].any()
        counted = (row["masked_words"] >= 0).any()
        if row["match"] >= 0:
            tasks["match"] += 1
            assert not masked and not counted and not hidden
        else:
            tasks["words" if counted else "regions"] += 1
            assert counted != hidden and (counted or not masked)
            np.testing.assert_array_equal(row["other"], row["caption"])
    assert abs(tasks["match"] / 300 - 0.5) < 0.1 and abs(tasks["words"] / 300 - 0.25) < 0.1


def test_the_caption_does_not_depend_on_the_views():
    plain, full = maker(seed=4), maker(seed=4, masked="random", other="text")
    for position in range(5):
        np.testing.assert_array_equal(plain(Source()[0], position)["caption"], full(Source()[0], position)["caption"])
    assert {*plain.example_batch(2)} < {*full.example_batch(2)} == {*full(Source()[0], 0)}
    for name, array in full.example_batch(1).items():
        assert array[0].shape == np.shape(full(Source()[0], 0)[name]), name


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"masked": "some"}, "examples.masked='some': must be one of none, random"),
        ({"other": "sound"}, "examples.other"),
        ({"texts": "a.txt"}, "examples.texts are taken for a share of the examples: give examples.text_alone"),
        ({"pictures": "dir"}, "give examples.image_alone"),
        ({"mask_end": True}, "examples.mask_end is of a text by itself whose words are masked"),
        ({"mask_share": 0.0}, "mask_share"),
        ({"written": "caption+all"}, "examples.written='all': must be one of"),
        ({"text_alone": 0.7, "image_alone": 0.4}, "are shares of the examples"),
        ({"views": 3}, "examples.views=3"),
        ({"codes": 5, "code_patch": 3}, "must divide image_size=128"),
        ({"codes": 5, "code_patch": 4, "regions": 9}, "the regions are the 1024 patches"),
        ({"causal": 1.5}, "are shares of the examples"),
        ({"replaced": 0.7, "retained": 0.4}, "together at most 1"),
        ({"joint": True}, "it needs examples.masked and examples.other"),
        ({"joint": True, "masked": "span", "other": "text", "draw": (1, 2)}, "three weights"),
    ],
)
def test_mistakes_are_named(settings, told):
    with pytest.raises(UserError, match=told):
        PairExamples(**settings)


def test_held_out_pictures_are_not_changed(rng):
    made = maker(zoom=2.0, brightness=0.5)
    example = Source()[2] | {"image": rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)}
    assert any((made(example, position)["image"] != example["image"]).any() for position in range(5))
    for position in range(5):
        np.testing.assert_array_equal(made.over(Source())(example, position)["image"], example["image"])

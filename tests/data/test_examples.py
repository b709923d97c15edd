"""Rows for training made from the built-in scenes, read back from their arrays and held against the scenes."""

import collections
import pickle

import numpy as np
import pytest

from xmodal_jax.data import bytes as byte_ids
from xmodal_jax.data.byte_examples import ByteExamples
from xmodal_jax.data.bytes import cut, shift_right, with_end
from xmodal_jax.data.examples import (
    ANSWER,
    CAPTION,
    FILL,
    NAMES,
    ExampleMaker,
    bucket,
)
from xmodal_jax.data.masking import ATTRIBUTE
from xmodal_jax.data.sources.scenes import Scenes
from xmodal_jax.data.sources.scenes.drawing import COLORS
from xmodal_jax.errors import UserError

COUNT = 300
PARTICLES = ("", *"이가을를은는과와의", "이다", "도", "에")


@pytest.fixture(scope="module")
def examples():
    scenes = Scenes(size=16, count=COUNT, seed=5, fields=("image", "captions", "questions", "objects", "audio"))
    return [scenes[i] for i in range(COUNT)], {lang: scenes.inventory(lang) for lang in scenes.langs}


def config(**more):
    return ByteExamples(**{"image_size": 16, "patch": 4, **more})


def rows(examples, seed=3, start=0, **more):
    found, inventories = examples
    maker = ExampleMaker(config(**more), seed, inventories)
    return [(example, maker(example, start + position)) for position, example in enumerate(found)]


def string(ids):
    return bytes(i - 3 if 3 <= i < 259 else 32 for i in ids if i).decode(errors="replace")


def visible(row, segment):
    """The text of a segment with every mask and end mark as a space."""
    return string(row["text"][(row["segments"] == segment) & (row["text"] != 0)])


def answers(row):
    """The masked words of a fill row, in order."""
    words = []
    for i in row["target"][: list(row["target"]).index(1)]:
        if i >= 259:
            assert i - 259 == len(words)
            words.append([])
        else:
            words[-1].append(i)
    return [string(word) for word in words]


def stands_in(word, text, lang):
    """Whether the whole word stands in the text (Korean: with a particle at most)."""
    tokens = "".join(c if c.isalnum() else " " for c in text).split()
    if lang == "ko":
        return any(token.startswith(word) and token[len(word) :] in PARTICLES for token in tokens)
    return f" {word} " in f" {' '.join(tokens)} "


def test_further_texts_say_what_they_can_and_not_the_word(examples):
    """Behind a text whose word is masked: a third text, the word and its kin masked there, and its sense's gloss, as asked."""
    found, inventories = examples
    maker, kinds = ExampleMaker(config(text_length=160), 3, inventories), collections.Counter()
    for example in found[:40]:
        things = [one for one in example["mentions"][0] if not one[2].startswith(ATTRIBUTE)]
        for start, end, name in things[:1]:
            word = example["captions"][0][start:end]
            for third, gloss in ((False, False), (True, False), (False, True), (True, True)):
                given = example, 0, (start, end), third, gloss, np.random.default_rng(0)
                ids, segments = maker.beside_further(*given)
                row = {"text": ids, "segments": segments}
                assert len(ids) == len(segments) <= 160 and set(segments) <= {0, *[1] * third, *[2] * gloss}, name
                assert not any(word.lower() in visible(row, segment).lower().split() for segment in range(3))
                kinds.update({(third, gloss, int(segment)) for segment in set(segments)})
    assert kinds[True, True, 1] > 10 and kinds[True, True, 2] > 10 and kinds[False, True, 2] == kinds[True, True, 2]


def test_every_row_has_its_fixed_shapes_and_closes_what_it_asks(examples):
    spec = config()
    for _, row in rows(examples):
        assert {name: (value.shape, value.dtype) for name, value in row.items()} == {
            "text": ((spec.text_length,), np.int32), "segments": ((spec.text_length,), np.int32),
            "inputs": ((spec.target_length,), np.int32), "target": ((spec.target_length,), np.int32),
            "task": ((), np.int32), "caption": ((spec.caption_length,), np.int32),
            "second": ((768,), np.uint8), "second_length": ((), np.int32),
            "names": ((NAMES,), np.int32), "text_names": ((spec.text_length,), np.int32),
            "caption_names": ((spec.caption_length,), np.int32),
        }  # fmt: skip
        for name in ("text", "target", "caption"):
            used = row[name][row[name] != 0]
            assert used[-1] == byte_ids.END and not row[name][len(used) :].any(), name
        assert row["inputs"][0] == byte_ids.PAD
        np.testing.assert_array_equal(row["inputs"][1:], row["target"][:-1])


def test_claim_5_first_modality_the_answer_stands_in_no_visible_text(examples):
    fills = [(e, r) for e, r in rows(examples, third=1.0, gloss=0.0) if r["task"] == FILL]
    assert len(fills) > 150
    for example, row in fills:
        words = answers(row)
        assert words and all(words)
        for word in words:
            assert not stands_in(word, visible(row, 0) + " " + visible(row, 1), example["lang"]), (word, row)


def test_claim_7_the_masked_word_stands_in_no_gloss(examples):
    fills = [(e, r) for e, r in rows(examples, third=0.0, gloss=1.0) if (r["segments"] == 2).any()]
    assert len(fills) > 60
    for example, row in fills:
        (word,) = answers(row)
        gloss = row["text"][row["segments"] == 2]
        assert (gloss[gloss >= 259] == 259).all() and gloss[0] == 259, "the same symbol as in the caption, at its head"
        assert not stands_in(word, visible(row, 2), example["lang"])


def test_claim_7_no_answer_of_the_third_text_stands_in_the_gloss(examples):
    both = [(e, r) for e, r in rows(examples, third=1.0, gloss=1.0) if (r["segments"] == 2).any()]
    assert not [word for e, r in both for word in answers(r) if stands_in(word, visible(r, 2), e["lang"])]


def test_masked_words_put_back_give_the_captions(examples):
    for example, row in rows(examples, third=1.0, gloss=0.0):
        if row["task"] != FILL:
            continue
        words = answers(row)
        for segment in (0, 1):
            ids = row["text"][(row["segments"] == segment) & (row["text"] != 0)]
            if not ids.size:
                continue
            raw = b"".join(words[i - 259].encode() if i >= 259 else bytes([i - 3]) for i in ids[:-1])
            number = example["captions"].index(raw.decode())
            spans = {example["captions"][number][a:b]: name for a, b, name in example["mentions"][number]}
            masked = {spans[words[i - 259]] for i in ids if i >= 259}
            if segment == 0:
                assert len(masked) == 1, "mask_most=1: one thing"
                things = masked
            assert masked == things, "the third text masks the words of the same thing"


def test_bytes_of_named_words_and_gaps_are_told_what_they_name(examples):
    """In captions each byte of an entity, in masked texts each gap, the third text's too."""
    gaps = 0
    for example, row in rows(examples, third=1.0, gloss=0.0):
        texts = [with_end(text, 64) for text in example["captions"]]
        index = next(i for i, ids in enumerate(texts) if np.array_equal(byte_ids.fit(ids, 64)[0], row["caption"]))
        expected = np.full(64, -1)
        for start, end, name in example["mentions"][index]:
            first, last = (len(example["captions"][index][:at].encode()) for at in (start, end))
            expected[first:last] = bucket(name)
        np.testing.assert_array_equal(row["caption_names"], expected)
        named = row["text_names"] >= 0
        assert np.array_equal(named, row["text"] >= 259) or row["task"] != FILL
        assert row["task"] == FILL or not named.any()
        known = {bucket(name) for mentions in example["mentions"] for _, _, name in mentions}
        assert set(row["text_names"][named]) <= known
        gaps += named.sum()
    assert gaps > COUNT / 2


def test_what_things_are_like_is_masked_and_named_but_looked_for_nowhere():
    """Colours are gaps like others and stand among the names; neither their bytes nor their gaps are to be told by a map."""
    source = Scenes(lang="en", attributes=True, fields=("image", "captions"))
    make, colours, gaps = ExampleMaker(ByteExamples(third=0, gloss=0, caption_share=0, answer_share=0)), 0, 0
    red = {bucket(ATTRIBUTE + color) for color in COLORS}
    for i in range(40):
        row = make(source[i], i)
        assert not red & set(row["caption_names"]) and not red & set(row["text_names"])
        colours += bool(red & set(row["names"]))
        gaps += bool((row["text"] >= 259).any() and (row["text_names"] < 0).all())
    assert colours > 20 and gaps > 3


def test_what_things_are_like_can_be_told_with_them_instead():
    """Then no colour is masked, and each word of a thing says the colour that stands before it, in both languages."""
    source, seen = Scenes(attributes=True), collections.Counter()
    settings = {"third": 0, "gloss": 0, "caption_share": 0, "answer_share": 0}
    make, masked = (ExampleMaker(ByteExamples(**settings, attributes=how)) for how in ("told", "masked"))
    for i in range(80):
        example, row = source[i], make(source[i], i)
        index = next(n for n, text in enumerate(example["captions"]) if string(row["caption"]).strip() == text)
        text, expected = example["captions"][index], np.full(64, -1)
        for start, end, name in example["mentions"][index]:
            before = [one for one in example["mentions"][index] if one[1] <= start]
            told = before and before[-1][2].startswith(ATTRIBUTE) and not name.startswith(ATTRIBUTE)
            if told and " " not in text[before[-1][1] : start].strip():
                first, last = (len(text[:at].encode()) for at in (start, end))
                expected[first:last] = bucket(before[-1][2])
                seen[example["lang"]] += 1
        np.testing.assert_array_equal(row["caption_attributes"], expected)
        assert (row["text_names"][row["text"] >= 259] >= 0).all() and "caption_attributes" not in masked(example, i)
        assert {name: value.shape for name, value in row.items()} == {n: v.shape[1:] for n, v in make.example_batch(1).items()}
    assert min(seen["en"], seen["ko"]) > 15


def test_shares_of_tasks_are_those_of_the_config(examples):
    n, (caption, answer) = 4 * COUNT, (0.3, 0.25)
    tasks = collections.Counter(
        int(row["task"]) for part in range(4)
        for _, row in rows(examples, start=part * COUNT, caption_share=caption, answer_share=answer)
    )  # fmt: skip
    for task, share in ((CAPTION, caption), (ANSWER, answer), (FILL, 1 - caption - answer)):
        assert abs(tasks[task] / n - share) < 4 * (share * (1 - share) / n) ** 0.5, (task, tasks)
    for shares, task in (((1, 0), CAPTION), ((0, 1), ANSWER), ((0, 0), FILL)):
        settings = dict(zip(("caption_share", "answer_share"), shares, strict=True))
        assert {int(row["task"]) for _, row in rows(examples, **settings)} == {task}


def test_rows_that_write_ask_for_a_caption_in_a_language_or_answer_a_question(examples):
    for example, row in rows(examples, caption_share=0.5, answer_share=0.5, target_length=128):
        prompt, target = visible(row, 0).strip(), string(row["target"]).strip()
        assert not (row["text"] >= 259).any() and not row["segments"].any() and row["second_length"] == 768
        if row["task"] == CAPTION:
            assert prompt == f"{example['lang']}:" and target in example["captions"]
        else:
            assert target in next(q for q in example["questions"] if q["question"] == prompt)["answers"]
        assert string(row["caption"]).strip() in "\n".join(example["captions"])


def test_a_caption_and_a_question_stand_beside_what_a_row_fills(examples):
    beside, more = ("caption", "answer"), ("prompt", "question", "answer")
    found = rows(examples, caption_share=0, answer_share=0, beside=beside, question_length=96, answer_length=32)
    for (example, row), (_, plain) in zip(found, rows(examples, caption_share=0, answer_share=0), strict=True):
        prompt, asked, answer = (string(row[name]).strip() for name in more)
        assert prompt == f"{example['lang']}:" and string(row["caption"]).strip() in "\n".join(example["captions"])
        assert answer in next(q for q in example["questions"] if q["question"] == asked)["answers"]
        assert all(row[name][np.count_nonzero(row[name]) - 1] == byte_ids.END for name in more)
        assert set(row) == {*plain, *more, "told"}
        np.testing.assert_array_equal(row["told"], row["caption"])
        for name, value in plain.items():
            np.testing.assert_array_equal(row[name], value)  # its own task is what it was
    for example, row in rows(examples, beside=("answer",), answer_gap=True, question_length=24, answer_length=8):
        used = row["question"][: np.count_nonzero(row["question"])]
        asked = string(row["question"]).rstrip()
        assert used[-2:].tolist() == [byte_ids.sentinel(0), byte_ids.END]
        assert row["answer"][0] == byte_ids.sentinel(0) and (row["answer"] == byte_ids.END).sum() == 1
        fits = [q for q in example["questions"] if q["question"].startswith(asked)]  # cut at 24 bytes
        assert any(answer.startswith(string(row["answer"]).strip()) for q in fits for answer in q["answers"])
    maker = ExampleMaker(config(beside=beside), 3, examples[1])
    silent = maker({**examples[0][0], "questions": []}, 0)
    assert not silent["answer"].any() and silent["question"].tolist() == [byte_ids.END, *[0] * 55]
    shapes = {name: (value.shape[1:], value.dtype) for name, value in maker.example_batch(2).items()}
    assert shapes == {name: (value.shape, value.dtype) for name, value in silent.items()}
    assert {ByteExamples(answer_share=share, beside=part).asks for share, part in ((0.1, ()), (0, ("answer",)))} == {True}
    assert not ByteExamples(answer_share=0, beside=("caption",)).asks


def test_a_caption_says_which_gap_of_its_prompt_each_thing_fills(examples):
    """Its marks stand before what is said of a thing that was not spoken of before; without them it is the caption."""
    two = 0
    for example, row in rows(examples, beside=("caption",), caption_gaps=2, caption_length=96, caption_share=0, answer_share=0):
        told, text = row["told"], byte_ids.decode_text(row["told"])
        prompt = string(row["prompt"]).strip()
        assert prompt == f"{example['lang']}:" and [i for i in row["prompt"] if i >= 259] == [259, 260]
        assert text in example["captions"] and len(told) == 100
        mentions = example["mentions"][example["captions"].index(text)]
        names = list(dict.fromkeys(name for _, _, name in mentions))
        marks = [int(i) - 259 for i in told if i >= 259]
        assert marks == [names.index(name) for _, _, name in mentions][: len(marks)] and len(marks) == len(mentions)
        if len(mentions) == 2:
            end = len(text[: mentions[0][1]].encode())
            assert told[end + 1] == 259 + marks[1] and told[0] == 259
            two += len(names) == 2
        assert [*row["told_names"]] == [bucket(name) for name in names] + [-1] * (2 - len(names))
    made = ExampleMaker(config(beside=("caption",), caption_gaps=2, caption_length=96), 3, examples[1])
    assert {n: v.shape for n, v in row.items()} == {n: v.shape[1:] for n, v in made.example_batch(1).items()} and two > 3
    with pytest.raises(UserError, match="caption_gaps=3: must be 0 or 2"):
        ByteExamples(caption_gaps=3)


def test_third_text_and_gloss_appear_only_where_they_are_switched_on(examples):
    for third, gloss in ((0, 0), (1, 0), (0, 1), (1, 1)):
        fills = [row for _, row in rows(examples, third=third, gloss=gloss) if row["task"] == FILL]
        for segment, on in ((1, third), (2, gloss)):
            share = np.mean([(row["segments"] == segment).any() for row in fills])
            assert (share > 0.4) if on else share == 0, (segment, on, share)


def test_second_modality_is_the_picture_and_is_dropped_in_fill_rows_as_often_as_asked(examples):
    found = rows(examples, drop_second=0.4)
    for example, row in found:
        np.testing.assert_array_equal(byte_ids.image_from_bytes(row["second"], 4, 16, 16), example["image"])
        assert row["second_length"] in ((0, 768) if row["task"] == FILL else (768,))
    lengths = np.array([row["second_length"] for _, row in found if row["task"] == FILL])
    assert abs((lengths == 0).mean() - 0.4) < 4 * (0.24 / len(lengths)) ** 0.5
    for share in (0, 1):
        assert {int(r["second_length"]) for _, r in rows(examples, drop_second=share) if r["task"] == FILL} == {
            768 * (1 - share)
        }


def test_training_pictures_are_changed_and_nothing_else(examples):
    """Zoom, flips and brightness leave texts as they are; held-out examples go without."""
    found, inventories = examples
    plain, changed = (ExampleMaker(config(**more), 3, inventories) for more in ({}, {"flips": "horizontal", "zoom": 1.5}))
    moved = 0
    for position, example in enumerate(found[:30]):
        a, b, c = (maker(example, position) for maker in (plain, changed, changed.plain()))
        assert all(np.array_equal(a[name], c[name]) for name in a)
        assert all(np.array_equal(a[name], b[name]) for name in a if name != "second")
        moved += not np.array_equal(a["second"], b["second"])
    assert moved > 25
    with pytest.raises(UserError, match="change raw pixels"):
        config(zoom=1.5, image_bytes="file")


def test_a_row_is_a_function_of_seed_and_position_alone(examples):
    maker = ExampleMaker(config(), 3, examples[1])
    copy = pickle.loads(pickle.dumps(maker))
    whole = rows(examples)
    for position in reversed(range(0, 60, 7)):
        for one in (maker, copy):
            row = one(examples[0][position], position)
            assert all(np.array_equal(row[key], whole[position][1][key]) for key in row)
    for other in (rows(examples, seed=4), rows(examples, start=COUNT)):
        differing = sum(not np.array_equal(a[1]["text"], b[1]["text"]) for a, b in zip(whole, other, strict=True))
        assert differing > COUNT / 2


def test_audio_masks_only_the_sounding_thing(examples):
    for example, row in rows(examples, second="audio", audio_length=2000, third=0.5, gloss=0.0):
        np.testing.assert_array_equal(row["second"], np.frombuffer(example["audio"].tobytes(), np.uint8)[:2000])
        if row["task"] == FILL:
            name = example["objects"][example["audio_object"]]["name"]
            heard = {
                c[a:b] for c, m in zip(example["captions"], example["mentions"], strict=True) for a, b, n in m if n == name
            }
            assert set(answers(row)) <= heard
    silent = {k: v for k, v in examples[0][0].items() if k != "audio"}
    assert config(second="audio", audio_length=8).second_modality(silent)[1] == 0


def test_file_bytes_are_the_file_untouched():
    scenes = Scenes(size=16, count=4, file_bytes=True)
    for length in (50, 4000):
        for i in range(4):
            raw, used = config(image_bytes="file", file_length=length).second_modality(scenes[i])
            file = scenes[i]["image_file"]
            assert raw.shape == (length,) and used == min(length, len(file))
            assert raw[:used].tobytes() == file[:length] and not raw[used:].any()


@pytest.mark.parametrize("length", [12, 24, 40])
@pytest.mark.parametrize("span", [1, 3])
def test_rows_never_exceed_short_lengths_and_stay_whole(examples, length, span):
    for _, row in rows(examples, text_length=length, target_length=16, caption_length=9, mask_span=span, mask_most=2):
        assert row["text"].shape == (length,) and row["target"].shape == (16,) and row["caption"].shape == (9,)
        if row["task"] == FILL:
            shown = {int(i) for i in row["text"] if i >= 259}
            assert shown == {int(i) for i in row["target"] if i >= 259}, "a mask for every word owed, and the reverse"


def test_a_text_that_long_masks_make_too_long_asks_for_a_caption_instead_of_losing_its_end_mark():
    example = {"id": "x", "lang": "en", "image": np.zeros((16, 16, 3), np.uint8), "captions": ["a bat and " + "x" * 40]}
    maker = ExampleMaker(config(text_length=32, mask_span=8, caption_share=0, answer_share=0), 0)
    row = maker(example | {"mentions": [[(2, 5, "bat")]]}, 0)
    assert row["task"] == CAPTION and byte_ids.decode_text(row["text"]) == "en:"
    short = maker(example | {"captions": ["a bat"], "mentions": [[(2, 5, "bat")]]}, 0)
    assert short["task"] == FILL and short["text"][short["text"] != 0].tolist().count(byte_ids.sentinel(0)) == 8
    assert short["text"][short["text"] != 0][-1] == byte_ids.END


def test_a_second_mention_cut_by_the_end_of_the_text_is_not_left_half_visible():
    caption = "a pipistrelle near a pipistrelle"
    example = {"id": "x", "lang": "en", "image": np.zeros((16, 16, 3), np.uint8), "captions": [caption]}
    maker = ExampleMaker(config(text_length=32, caption_share=0, answer_share=0), 0)
    row = maker(example | {"mentions": [[(2, 13, "bat"), (21, 32, "bat")]]}, 0)
    assert row["task"] == FILL and "pipi" not in visible(row, 0)


def test_helpers(rng):
    text = "".join(rng.choice(list("aé배🦇"), 12))
    for size in range(len(text.encode()) + 2):
        part = cut(text, size)
        assert text.startswith(part) and len(part.encode()) <= size
        assert part == text or len(text[: len(part) + 1].encode()) > size
    assert with_end("", 4).tolist() == [1] and with_end("abcdef", 4).tolist() == [100, 101, 102, 1]
    assert shift_right(np.array([5, 6, 1])).tolist() == [0, 5, 6]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [({"second": "smell"}, "audio"), ({"image_bytes": "jpeg"}, "file"), ({"third": 1.5}, "third"),
     ({"caption_share": 0.6, "answer_share": 0.6}, "answer_share"), ({"image_size": 30, "patch": 8}, "multiple"),
     ({"beside": ("caption", "question")}, "beside: 'question'"), ({"attributes": "all"}, "masked, told"),
     ({"beside": ("answer",), "answer_length": 1}, "answer_length")],
)  # fmt: skip
def test_impossible_settings_are_refused(wrong, told):
    with pytest.raises(UserError, match=told):
        ByteExamples(**wrong)


def test_a_picture_of_another_size_is_named(examples):
    with pytest.raises(UserError, match=r"scenes/train/0.*image_size=64"):
        ByteExamples().second_modality(examples[0][0])

"""The predictor on a tiny random model: shapes, errors, and results that do not depend on batching."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from xmodal_jax.data import bytes as byte_ids
from xmodal_jax.data import masking
from xmodal_jax.data.byte_examples import ByteExamples
from xmodal_jax.data.examples import ExampleMaker
from xmodal_jax.data.senses import Sense, TableInventory
from xmodal_jax.decoding import byte_predictor
from xmodal_jax.decoding.byte_predictor import BytePredictor, expressions, round_up, round_up_rows, where
from xmodal_jax.errors import UserError

SENSES = (
    Sense("bat.animal", "it flies", ("pipistrelle", "shared"), ("animal",)),
    Sense("bat.club", "it hits", ("club", "shared", "bat"), ("stick", "club")),
)
LENGTH = 20


@pytest.fixture(scope="module")
def predictor(tiny):
    model, params, _ = tiny
    examples = ByteExamples(image_size=16, patch=4, text_length=LENGTH, target_length=6, caption_length=12)
    maker = ExampleMaker(examples, inventories={"en": TableInventory({"bat": SENSES, "odd": ()})}, langs=("en", "ko"))
    return BytePredictor(model, params, maker)


@pytest.fixture
def pictures(rng):
    return [rng.integers(0, 256, (16, 16, 3)).astype(np.uint8) for _ in range(3)]


def close(one, other):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_claim_4_association_of_every_byte_with_every_patch(predictor, pictures):
    pieces, weights = predictor.associate(pictures[0], "a 배 bat")
    assert b"".join(pieces).decode() == "a 배 bat" and weights.shape == (9, 16)
    close(weights.sum(-1), 1)
    assert not predictor.associate(None, "bat")[1].any(), "without a picture there is nothing to go with"
    word = predictor.associate_word(pictures[0], "a 배 bat", (2, 3))
    close(word, weights[2:5].mean(0))
    blank = predictor.associate_blank(pictures[0], "a 배 bat", (2, 3))
    assert blank.shape == (16,)
    close(blank.sum(), 1)
    assert predictor.associate(pictures[0], "x" * 50)[1].shape == (LENGTH - 1, 16)


def test_claim_3_relation_of_a_picture(predictor, pictures):
    assignment, relation = predictor.relation(pictures[0])
    assert assignment.shape == (3, 16) and relation.shape == (16, 16)
    close(assignment.sum(-1), 1)
    close(relation.sum(-1), 1)


def test_a_blank_is_filled_with_one_word_and_its_log_probability(predictor, pictures):
    word, score = predictor.fill(pictures[0], "a ___ here")
    assert isinstance(word, str) and score <= 0
    words, scores = predictor.fill_batch([pictures[0]], ["a bat here"], [(2, 5)])
    assert words == [word] and scores.shape == (1,), "the word that stood there is not seen"
    close(scores[0], score)
    with pytest.raises(UserError, match="no blank: write ___"):
        predictor.fill(pictures[0], "a bat")


def test_generation_is_a_string_for_a_prompt_or_a_language(predictor, pictures):
    assert isinstance(predictor.caption(pictures[0]), str)
    assert predictor.caption(pictures[0], lang="ko") == predictor.answer(pictures[0], "ko:")
    assert len(predictor.answer(pictures[0], "what?", length=2).encode()) <= 3 * 2
    assert predictor.answer([], []) == []


def test_what_is_no_text_is_told(predictor, pictures):
    for ask in (predictor.answer, predictor.fill):
        with pytest.raises(UserError, match="None is no text"):
            ask(pictures[:2], ["what? ___", None])
    with pytest.raises(UserError, match="texts: 3 is no text"):
        predictor.embed_texts([3])


def test_an_answer_fills_the_gap_behind_its_question_where_that_was_learned(predictor, pictures, monkeypatch):
    examples = dataclasses.replace(predictor.examples, answer_gap=True)
    other = BytePredictor(predictor.model, predictor.params, ExampleMaker(examples))
    (word,), _ = predictor.fill_batch([pictures[0]], ["what? x"], [(5, 7)])  # the same ids: the gap begins where the text ends
    assert other.answer(pictures[0], "what?") == word
    assert other.caption(pictures[0], lang="en") == predictor.caption(pictures[0], lang="en")
    # What is read differs; what a random model writes may be as unreadable for both.
    read = []
    encode = BytePredictor.encode
    monkeypatch.setattr(
        BytePredictor, "encode", lambda self, seconds, texts: read.append(texts) or encode(self, seconds, texts)
    )
    for either in (other, predictor):
        either.answer(pictures[0], "what?")
    np.testing.assert_array_equal(read[0], [predictor.mask("what? x", (5, 7))])
    assert not np.array_equal(*read)


def test_a_caption_may_be_as_long_as_those_it_was_learned_from_and_fills_its_gaps(predictor, pictures, monkeypatch):
    read, lengths = [], []
    encode, greedy = BytePredictor.encode, byte_predictor.greedy
    monkeypatch.setattr(
        BytePredictor, "encode", lambda self, seconds, texts: read.append(texts) or encode(self, seconds, texts)
    )
    monkeypatch.setattr(byte_predictor, "greedy", lambda *given: lengths.append((given[3], given[4])) or greedy(*given[:4], 3))
    for beside, gaps, expected in (((), 0, 6), (("caption",), 0, 64), (("caption",), 2, 64)):
        examples = dataclasses.replace(predictor.examples, beside=beside, caption_gaps=gaps, caption_length=64)
        other = BytePredictor(predictor.model, predictor.params, ExampleMaker(examples))
        other.caption(pictures[0], lang="ko")
        np.testing.assert_array_equal(read[-1], [[*byte_ids.encode_text("ko:"), *(259 + n for n in range(gaps)), 1]])
        assert lengths[-1] == ((0,), expected)
        other.caption(pictures[0], length=5)
        assert lengths[-1] == ((0,), 5)


def test_senses_of_a_word_come_likeliest_first(predictor, pictures):
    found = predictor.pick_sense(pictures[0], "a bat here", "bat")
    assert {sense.id for sense, _ in found} == {"bat.animal", "bat.club"}
    assert found[0][1] >= found[1][1] and abs(sum(p for _, p in found) - 1) < 1e-6
    for text, word, told in (("a cat", "bat", "does not stand in"), ("a cat", "cat", "lists 'cat'")):
        with pytest.raises(UserError, match=told):
            predictor.pick_sense(pictures[0], text, word)
    with pytest.raises(UserError, match="language 'ko'"):
        predictor.pick_sense(pictures[0], "a bat", "bat", "ko")


def test_words_are_found_whole():
    """In another case too; inside a longer word only where particles or no spaces follow."""
    assert where("bat", "The Bat in a battle").span() == (4, 7)
    assert where("bat", "a battle") is None and where("", "a") is None
    assert where("배", "아이가 배를 든다").span() == (4, 5) and where("船", "小船在水上").span() == (1, 2)


def test_senses_without_a_word_of_their_own_are_named(predictor, pictures, monkeypatch):
    more = Sense("bat.turn", "a turn at batting", ("stick",))
    table = {"bat": (*SENSES, more), "twin": (more, Sense("twin.other", "the same", ("stick",)))}
    monkeypatch.setattr(predictor, "inventories", {"en": TableInventory(table, "en")})
    found = predictor.pick_sense(pictures[0], "Bat in a battle", "bat")
    assert [sense.id for sense, share in found if share is None] == ["bat.turn"] and found[-1][1] is None
    assert abs(sum(share for _, share in found[:-1]) - 1) < 1e-6
    with pytest.raises(UserError, match="The senses of 'twin' cannot be told apart.*'a turn at batting', 'the same'"):
        predictor.pick_sense(pictures[0], "a twin", "twin")


def test_a_language_that_was_not_learned_is_refused(predictor, pictures):
    with pytest.raises(UserError, match="no captions in 'kr' were learned; there are"):
        predictor.caption(pictures[0], lang="kr")


def test_expressions_are_those_of_one_sense_alone():
    assert expressions(SENSES, "bat") == [["pipistrelle", "animal"], ["club", "stick"]]
    assert expressions(SENSES[:1], "pipistrelle") == [["shared", "animal"]]


def test_sense_probabilities_are_summed_candidate_probabilities(predictor, pictures):
    item = {"text": "a bat here", "span": (2, 5), "expressions": [["pipistrelle", "animal"], ["club"], []]}
    found = predictor.sense_probabilities(pictures[:1], [item])[0]
    masked = [predictor.mask("a bat here", (2, 5))]
    scores = predictor.score_candidates(pictures[:1], masked, [["pipistrelle", "animal", "club"]], 3)[0]
    weights = np.exp(scores - scores.max())
    close(found, np.array([weights[0] + weights[1], weights[2], 0]) / weights.sum())
    assert abs(found.sum() - 1) < 1e-9
    uniform = predictor.sense_probabilities(pictures[:1], [item | {"expressions": [[], []]}])[0]
    assert uniform.tolist() == [0.5, 0.5]


def test_results_do_not_depend_on_what_else_is_in_the_batch(predictor, pictures):
    texts, spans = ["a bat", "two cats sit", "x"], [(2, 5), (4, 8), (0, 1)]
    together = predictor.fill_batch(pictures, texts, spans)
    written = predictor.answer(pictures, texts)
    masked = [predictor.mask(text, span) for text, span in zip(texts, spans, strict=True)]
    candidates = [["bat", "a long one"], ["cat"], ["x", "y", "배"]]
    scores = predictor.score_candidates(pictures, masked, candidates, 3)
    assert (scores == -np.inf).tolist() == [[False, False, True], [False, True, True], [False] * 3]
    for i in range(3):
        word, score = predictor.fill_batch([pictures[i]], [texts[i]], [spans[i]])
        assert word == [together[0][i]]
        close(score[0], together[1][i])
        assert predictor.answer([pictures[i]], [texts[i]]) == [written[i]]
        close(predictor.score_candidates([pictures[i]], [masked[i]], [candidates[i]], 3)[0], scores[i])


def test_pooled_vectors_have_unit_length_and_one_side_may_be_left_out(predictor, pictures):
    left, right = predictor.pooled(pictures, ["a bat", "a cat"])
    assert left.shape == (3, 8) and right.shape == (2, 8)
    for side in (left, right):
        close(np.linalg.norm(side, axis=-1), np.ones(len(side)))
    assert predictor.pooled(texts=["a bat"])[0] is None
    close(predictor.pooled(texts=["a bat"])[1], right[:1])


def test_a_picture_may_be_a_path_or_a_dictionary(predictor, pictures, tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(pictures[0]).save(path)
    one, two, three = (predictor.pooled([p])[0] for p in (pictures[0], str(path), {"id": "x", "image": pictures[0]}))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, three)
    Image.fromarray(pictures[0]).resize((50, 31)).save(path)
    assert predictor.pooled([path])[0].shape == (1, 8), "any size is brought to the model's"
    with pytest.raises(UserError, match=r"missing.png"):
        predictor.pooled([str(tmp_path / "missing.png")])


def test_an_array_of_another_size_is_scaled(predictor, rng):
    assert predictor.pooled([rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)])[0].shape == (1, 8)


def test_of_long_texts_a_window_around_the_gap_is_kept(predictor):
    for before, after in ((2, 40), (40, 2), (40, 40), (0, 0), (LENGTH - 5, 4)):
        text = "x" * before + "bat" + "y" * after
        ids, whole = predictor.mask(text, (before, before + 3)), masking.mask_text(text, [(before, before + 3)])
        assert len(ids) == min(LENGTH, len(whole)) and ids.dtype == np.int32
        gap = ids.tolist().index(byte_ids.sentinel(0))
        start = before - gap
        np.testing.assert_array_equal(ids, whole[start : start + len(ids)])
        assert len(whole) <= LENGTH or min(gap, before) >= min(before, LENGTH // 2 - 1), "as much before the gap as behind it"


def test_a_gap_far_down_a_long_text_is_kept(predictor):
    assert byte_ids.sentinel(0) in predictor.mask("x" * 40 + " a bat", (43, 46))


def test_rounding():
    assert [round_up(n, 16) for n in (0, 1, 16, 17)] == [0, 16, 16, 32]
    assert [round_up_rows(n) for n in (0, 1, 2, 3, 4, 5, 9)] == [1, 1, 2, 4, 4, 8, 16]

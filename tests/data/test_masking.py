"""Masked training texts (claims 5 and 7 of US 12,393,789 B2), read back from the ids."""

import numpy as np
import pytest

from xmodal_jax.data import bytes as byte_ids
from xmodal_jax.data import masking
from xmodal_jax.data.byte_examples import ByteExamples
from xmodal_jax.data.examples import ExampleMaker
from xmodal_jax.data.masking import Entity, Masked, append_text
from xmodal_jax.data.senses import Sense, TableInventory, gloss_line

LETTERS = list("abcdefghijklmnopqrstuvwxyz가나다라마바사아자차카타파하éüñ中文字")


def readable(ids):
    """Ids with masks written as <i>, end marks as |, pads left out."""
    out, raw = "", b""
    for i in [*ids, 1]:
        if i >= byte_ids.OFFSET and i < byte_ids.FIRST_SENTINEL:
            raw += bytes([i - byte_ids.OFFSET])
            continue
        out, raw = out + raw.decode(), b""
        out += f"<{i - 259}>" if i >= 259 else "|" if i == 1 else ""
    return out[:-1]


def owed(target):
    """The words of a target, each behind its own sentinel, numbered in order from 0; closed by one end mark."""
    text = readable(target)
    assert text.endswith("|") and text.count("|") == 1, text
    words = text[:-1].replace(">", "<").split("<")[1:]
    assert [int(number) for number in words[::2]] == list(range(len(words) // 2))
    return words[1::2]


def random_word(rng, shortest=3, longest=9):
    return "".join(rng.choice(LETTERS, int(rng.integers(shortest, longest))))


def random_sentence(rng, names=3):
    """Words, some of which are entities (their names repeat) -> (text, entities)."""
    text, found = "", []
    for _ in range(int(rng.integers(6, 12))):
        word = random_word(rng)
        if rng.random() < 0.6:
            found.append((len(text), len(text) + len(word), f"thing{rng.integers(names)}"))
        text += word + " "
    return text.strip(), found


# -- claim 5, first modality


def test_claim_5_first_modality_chooses_a_thing_with_all_its_mentions(rng):
    for _ in range(50):
        _, mentions = random_sentence(rng)
        found, most = [Entity(*m) for m in mentions], int(rng.integers(1, 4))
        chosen = masking.choose_entities(found, rng, most)
        names = {e.name for e in chosen}
        assert bool(chosen) == bool(found) and len(names) <= most
        assert chosen == [e for e in found if e.name in names], "all mentions of what is masked, in reading order"
    assert masking.choose_entities([], rng) == []


def test_claim_5_first_modality_chooses_every_thing_and_number_of_things(rng):
    found = [Entity(0, 1, "a"), Entity(2, 3, "b"), Entity(4, 5, "c"), Entity(6, 7, "a")]
    draws = [frozenset(e.name for e in masking.choose_entities(found, rng, 2)) for _ in range(300)]
    assert {len(names) for names in draws} == {1, 2}
    assert set(draws) == {frozenset(s) for s in ("a", "b", "c", "ab", "bc", "ac")}


def test_claim_5_first_modality_leaves_no_trace_of_the_masked_word(rng):
    for _ in range(50):
        text, mentions = random_sentence(rng)
        chosen = masking.choose_entities([Entity(*m) for m in mentions], rng, 2)
        if not chosen:
            continue
        ids, segments, target = masking.finish(append_text(Masked(), text, [(e.start, e.end) for e in chosen], 0))
        visible, at = "", 0
        for number, entity in enumerate(chosen):  # the oracle: the text itself with each word cut out
            visible += text[at : entity.start] + f"<{number}>"
            at = entity.end
        assert readable(ids) == visible + text[at:] + "|"
        assert owed(target) == [text[e.start : e.end] for e in chosen]
        assert segments.shape == ids.shape and not segments.any() and ids.dtype == target.dtype == np.int32


@pytest.mark.parametrize("span", [1, 4])
def test_claim_5_first_modality_gap_is_blind_to_the_length_of_the_word(rng, span):
    gaps = set()
    for length in (1, 2, 5, 30):
        word = random_word(rng, length, length + 1)
        ids = masking.mask_text(f"a {word} here", [(2, 2 + length)], span)
        gaps.add(tuple(ids))
        assert readable(ids) == "a " + "<0>" * span + " here|"
    assert len(gaps) == 1


def test_spans_in_any_order_give_targets_in_reading_order_and_overlaps_are_masked_once():
    masked = append_text(Masked(), "a red bat and a cat", [(16, 19), (6, 9)], 0)
    ids, _, target = masking.finish(masked)
    assert readable(ids) == "a red <0> and a <1>|" and owed(target) == masked.words == ["bat", "cat"]
    assert readable(masking.mask_text("football here", [(0, 8), (4, 8)])) == "<0> here|"
    assert readable(masking.mask_text("", [])) == "|"


def test_a_longer_span_that_overlaps_an_earlier_one_leaves_no_rest_visible():
    assert readable(masking.mask_text("football here", [(0, 4), (2, 8)])) == "<0> here|"


# -- claim 5, third modality

INVENTORY = TableInventory(
    {
        "boat": (Sense("boat", "goes on water", ("vessel",), ("vehicle",), ("yacht",)),),
        "vessel": (Sense("boat", "goes on water", ("boat",), ("vehicle",)),),
        "yacht": (Sense("yacht", "a boat for pleasure", (), ("boat",)),),
        "vehicle": (Sense("vehicle", "carries people", (), (), ("boat", "car")),),
        "car": (Sense("car", "goes on a road", (), ("vehicle",)),),
        "pear": (Sense("pear", "a sweet fruit", (), ("fruit",)),),
        "tub": (Sense("tub", "an old slow thing", (), ("boat",)),),  # boat does not list it: only it lists boat
    }
)


@pytest.mark.parametrize(
    ("word", "kin"), [("boat", True), ("vessel", True), ("yacht", True), ("vehicle", True), ("tub", True),
                      ("pear", False), ("car", False)],
)  # fmt: skip
def test_claim_5_third_modality_masks_synonyms_hypernyms_and_hyponyms_alone(word, kin):
    text = f"a {word} and a pear"
    found = masking.entities(text, None, INVENTORY)
    assert [text[e.start : e.end] for e in found] == [word, "pear"]
    hits = masking.related_entities(found, ["boat"], INVENTORY.related)
    assert [text[e.start : e.end] for e in hits] == ([word] if kin else [])


def test_claim_5_third_modality_joins_the_text_as_its_own_segment_with_targets_in_order():
    source = {
        "id": "x", "lang": "en", "image": np.zeros((8, 8, 3), np.uint8),
        "captions": ["the boat is red", "a yacht on a vessel with a pear"],
    }  # fmt: skip
    config = ByteExamples(image_size=8, caption_share=0, answer_share=0, third=1, gloss=0, drop_second=0)
    maker, seen = ExampleMaker(config, 1, {"en": INVENTORY}), set()
    for position in range(40):
        row = maker(source, position)
        text, words = readable(row["text"]), owed(row["target"][row["target"] != 0])
        seen.add((text, tuple(words)))
        first = text.split("|")[0]
        length = len(byte_ids.encode_text(first.replace("<0>", "x").replace("<1>", "x"))) + 1
        assert not row["segments"][:length].any() and (row["segments"][length:][row["text"][length:] != 0] == 1).all()
    assert ("the <0> is red|a <1> on a <2> with a pear|", ("boat", "yacht", "vessel")) in seen
    assert ("a <0> on a vessel with a pear|the <1> is red|", ("yacht", "boat")) in seen or (
        "a yacht on a <0> with a pear|the <1> is red|", ("vessel", "boat")) in seen  # fmt: skip
    assert ("a yacht on a vessel with a <0>|", ("pear",)) in seen, "a third text without a related word adds nothing"


def test_claim_5_third_modality_texts_of_other_images_are_used_too():
    source = {"id": "x", "lang": "en", "image": np.zeros((8, 8, 3), np.uint8), "captions": ["the boat is red"]}
    config = ByteExamples(image_size=8, caption_share=0, answer_share=0, third=1, gloss=0, drop_second=0)
    maker = ExampleMaker(config, 0, {"en": INVENTORY}, third_texts=lambda example, names: [("one blue yacht", None)])
    assert readable(maker(source, 0)["text"]) == "the <0> is red|one blue <1>|"


def test_a_third_text_with_more_mentions_than_there_are_sentinels_is_left_out():
    spam = "boat " * 200
    source = {"id": "x", "lang": "en", "image": np.zeros((8, 8, 3), np.uint8), "captions": ["the boat is red"]}
    config = ByteExamples(image_size=8, caption_share=0, answer_share=0, third=1, gloss=0, drop_second=0)
    maker = ExampleMaker(config, 0, {"en": INVENTORY}, third_texts=lambda example, names: [(spam, None)])
    assert readable(maker(source, 0)["text"]) == "the <0> is red|"


# -- claim 7


def test_claim_7_gloss_masks_the_word_inside_with_the_same_sentinel_and_owes_nothing():
    sense = Sense("bat.animal", "a bat flies; bats hang in caves", ("pipistrelle",))
    for word in ("bat", "Bat"):
        masked = append_text(Masked(), f"a {word} sleeps, two cats", [(2, 5), (18, 22)], 0, mask_span=2)
        before = list(masked.words)
        line, spans = gloss_line(word, sense)
        append_text(masked, line, spans, 2, mask_span=2, numbers=[0] * len(spans))
        ids, segments, target = masking.finish(masked)
        first, gloss = readable(ids).split("|")[:2]
        assert first == "a <0><0> sleeps, two <1><1>"
        assert gloss == "<0><0>: a <0><0> flies; <0><0> hang in caves; pipistrelle"
        assert owed(target) == masked.words == before == [word, "cats"]
        assert (segments == 2).sum() == len(ids) - (segments == 0).sum() and segments[-1] == 2


def test_claim_7_a_sense_below_the_threshold_adds_nothing():
    table = TableInventory({"bat": (Sense("a", "flies at night", ("pipistrelle",)), Sense("b", "club for a ball", ()))})
    source = {
        "id": "x", "lang": "en", "image": np.zeros((8, 8, 3), np.uint8),
        "captions": ["a bat", "it hits the ball", "a ball"],
        "mentions": [[(2, 5, "bat")], [], []],
    }  # fmt: skip
    settings = {"image_size": 8, "caption_share": 0, "answer_share": 0, "third": 0, "gloss": 1, "drop_second": 0}
    for threshold, wanted in ((0.05, True), (1e6, False)):
        maker = ExampleMaker(ByteExamples(gloss_threshold=threshold, **settings), 0, {"en": table})
        texts = {readable(maker(source, position)["text"]) for position in range(20)} - {"en:|"}
        assert texts == {"a <0>|" + ("<0>: club for a ball|" if wanted else "")}


def test_a_word_said_twice_has_one_symbol_and_is_owed_once():
    """In one text and in a further one, whatever its case."""
    masked = append_text(Masked(), "A bat, the Bat", [(2, 5), (11, 14)], 0, names=["bat", "bat"])
    append_text(masked, "two bats, one bat", [(4, 8), (14, 17)], 1, names=["bat", "bat"])
    ids, segments, target = masking.finish(masked)
    assert readable(ids) == "A <0>, the <0>|two <1>, one <0>|" and owed(target) == ["bat", "bats"]
    assert masked.words == ["bat", "bats"] and masked.names == ["bat", "bat"] and segments.tolist().count(1) == 13


def test_a_third_text_is_another_text(rng):
    """None that another annotator wrote alike."""
    inventory = TableInventory({"bat": (), "cave": ()})
    maker = ExampleMaker(ByteExamples(third=1.0, gloss=0.0, caption_share=0.0, answer_share=0.0), 0, {"en": inventory})
    example = {"id": "1", "captions": ["A bat flies", "a bat flies ", "the bat sleeps"], "lang": "en"}
    texts = set()
    for position in range(40):
        masked = maker._fill(example, example["captions"], [None] * 3, 0, np.random.default_rng(position))
        texts.add(readable(masking.finish(masked)[0]))
    assert texts == {"A <0> flies|the <0> sleeps|"}


def test_related_words_are_those_of_the_sense_that_the_captions_tell():
    animal = Sense("bat.animal", "a flying animal of the night", ("pipistrelle",))
    club = Sense("bat.club", "a wooden club to hit a ball", ("paddle",))
    inventory = TableInventory({"bat": (animal, club), "pipistrelle": (animal,), "paddle": (club,)})
    assert inventory.related("bat") == {"bat", "pipistrelle", "paddle"}
    assert inventory.related("bat", (club,)) == {"bat", "paddle"} and inventory.related("bat", ()) == {"bat"}
    maker = ExampleMaker(ByteExamples(third=1.0, gloss=0.0, caption_share=0.0, answer_share=0.0), 0, {"en": inventory})
    for told, wanted in (
        ("to hit the ball with a club", "a <0>|a pipistrelle and a <1>|"), ("at night", "a <0>|a <1> and a paddle|")
    ):  # fmt: skip
        captions = ["a bat", "a pipistrelle and a paddle", told]
        example, found = {"id": "1", "captions": captions, "lang": "en"}, set()
        for position in range(20):
            masked = maker._fill(example, captions, [None] * 3, 0, np.random.default_rng(position))
            found.add(readable(masking.finish(masked)[0]))
        assert found == {"a <0>|", wanted}, told

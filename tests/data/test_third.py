"""Claim 5: third-modality text collected from other images that share the entity."""

from xmodal_jax.data.byte_examples import ByteExamples
from xmodal_jax.data.examples import ExampleMaker
from xmodal_jax.data.senses.inventory import TableInventory
from xmodal_jax.data.third import SharedEntityTexts

TEXTS = [["a bat on a chair"], ["two bats", "a red lamp"], ["a lamp beside a bat"], ["the sea"]]


class Source:
    def __len__(self):
        return len(TEXTS)

    def captions(self, i):
        return TEXTS[i], None, "en"


INVENTORIES = {"en": TableInventory(dict.fromkeys(("bat", "chair", "lamp", "sea"), ()), "en")}


def example(i):
    return {"id": str(i), "captions": TEXTS[i], "lang": "en"}


def test_claim_5_third_modality_from_images_that_share_the_entity():
    texts = SharedEntityTexts(Source(), INVENTORIES)
    assert sorted(text for text, _ in texts(example(0), ["bat"])) == ["a lamp beside a bat", "two bats"]
    assert [text for text, _ in texts(example(2), ["lamp"])] == ["a red lamp"]
    assert texts(example(3), ["sea"]) == []


def test_a_frequent_entity_costs_no_more_than_the_limit():
    texts = SharedEntityTexts(Source(), INVENTORIES, most=1)
    assert len(texts(example(3), ["bat"])) == 1


def test_claim_5_texts_of_other_images_are_masked_as_targets():
    config = ByteExamples(second="none", caption_share=0, answer_share=0, third=1.0, gloss=0.0, third_from="all")
    maker = ExampleMaker(config, 0, INVENTORIES, third_texts=SharedEntityTexts(Source(), INVENTORIES))
    rows = [maker(example(0), position) for position in range(30)]
    with_third = [row for row in rows if (row["segments"] == 1).any()]
    assert with_third
    for row in with_third:
        third = bytes(int(b) - 3 for b in row["text"][row["segments"] == 1] if 3 <= b < 259).decode()
        assert "bat" not in third

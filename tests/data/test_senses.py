"""Sense inventories, the scoring of senses (claims 6 and 7) and the gloss line."""

import gzip
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from xmodal_jax.data.senses import (
    FrozenLMScorer,
    JsonlInventory,
    LeskScorer,
    Sense,
    TableInventory,
    choose_sense,
    corpus_inventory,
    gloss_line,
    open_inventory,
    score_senses,
)
from xmodal_jax.data.senses.scorers import overlaps, stem
from xmodal_jax.errors import UserError

REAL = os.environ.get("XMODAL_REAL_DATA")
real_data = pytest.mark.skipif(not REAL, reason="set XMODAL_REAL_DATA to the folder of data packs")

ANIMAL = Sense("bat.1", "a nocturnal flying mammal", ("chiropteran",), ("mammal",), ("fruit bat",))
CLUB = Sense("bat.2", "a club used for hitting a ball in various games", ("paddle",), ("club",))


def table(*words, lang="en", **kwargs):
    return TableInventory({word: (Sense(f"{word}.1", f"about {word}"),) for word in words}, lang, **kwargs)


def spans(inventory, text):
    return [(text[start:end], lemma) for start, end, lemma in inventory.find(text)]


@pytest.mark.parametrize(
    ("surface", "lemma"),
    [("bats", "bat"), ("Bat", "bat"), ("boxes", "box"), ("churches", "church"), ("berries", "berry"), ("men", "man")]
    + [("firemen", "fireman"), ("children", "child"), ("octopodes", "octopus"), ("glass", "glass"), ("gas", None)],
)
def test_english_plurals_find_their_lemma(surface, lemma):
    words = ("bat", "box", "church", "berry", "man", "fireman", "child", "octopus", "glass", "ga", "men")
    inventory = table(*words, exceptions={"octopodes": "octopus"})
    if surface == "gas":  # detachment is only tried on words of more than two letters; "gas" -> "ga" is WordNet's own rule
        lemma = "ga"
    assert inventory.lemma(surface) == lemma


def test_find_takes_the_longest_match_in_a_tokenised_caption():
    inventory = table("dog", "hot dog", "child", "t-shirt", "traffic light", "light", "bat")
    caption = "Two hot dogs , a child 's t-shirt and a traffic light - don't bat !"
    assert spans(inventory, caption) == [
        ("hot dogs", "hot dog"),
        ("child", "child"),
        ("t-shirt", "t-shirt"),
        ("traffic light", "traffic light"),
        ("bat", "bat"),
    ]


def test_function_words_are_never_entities():
    words = [
        "a",
        "in",
        "it",
        "at",
        "be",
        "do",
        "can",
        "no",
        "as",
        "he",
        "i",
        "us",
        "so",
        "have",
        "two",
        "is",
        "are",
        "on",
    ]
    inventory = table(*words, "dog")
    assert spans(inventory, "I have a dog as he is in it , so can us two be at it ? Do , no are on") == [("dog", "dog")]
    assert inventory.lemma("have") is None
    assert inventory.senses("a")  # still in the dictionary
    assert spans(table("little girl", "girl", "traffic light"), "a little girl at a traffic light") == [
        ("girl", "girl"),
        ("traffic light", "traffic light"),
    ]


@pytest.mark.parametrize("surface", ["배", "배가", "배를", "배에서", "배들이", "배들에게는", "배로"])
def test_korean_particles_are_stripped(surface):
    inventory = table("배", "아이", lang="ko")
    assert inventory.lemma(surface) == "배"
    assert inventory.find(f"아이가 {surface} 본다") == [(0, 2, "아이"), (4, 5, "배")]


def test_korean_noun_that_ends_like_a_particle_stays_whole():
    assert table("나", "나이", "가위", lang="ko").lemma("가위를") == "가위"


def test_unspaced_languages_take_the_longest_lemma():
    assert spans(table("女孩", "小女孩", "连衣裙", "的", lang="zh"), "穿着连衣裙的小女孩。") == [
        ("连衣裙", "连衣裙"),
        ("小女孩", "小女孩"),
    ]
    assert spans(table("犬", "の", "ボール", lang="ja"), "犬のボール") == [("犬", "犬"), ("ボール", "ボール")]


def test_other_languages_match_without_regard_to_case():
    assert spans(table("Katze", lang="de"), "Die katze, eine KATZE") == [("katze", "Katze"), ("KATZE", "Katze")]


@pytest.mark.parametrize("text", ["", " ", "\n", "🍐", "\ud800", "a" * 5000, "Ünïcödé 배 犬", "-", "''"])
@pytest.mark.parametrize("lang", ["en", "ko", "zh", "de"])
def test_find_survives_any_text(text, lang):
    for start, end, lemma in table("배", "犬", lang=lang).find(text):
        assert text[start:end] and lemma


def test_related_holds_synonyms_hypernyms_and_hyponyms_of_every_sense():
    inventory = TableInventory({"bat": (ANIMAL, CLUB)})
    assert inventory.related("bat") == {"bat", "chiropteran", "mammal", "fruit bat", "paddle", "club"}
    assert inventory.related("unknown") == {"unknown"}


def test_inventories_pickle():
    inventory = pickle.loads(pickle.dumps(table("bat")))
    assert inventory.lemma("bats") == "bat" and list(inventory) == ["bat"]


# --- JSONL


def write_jsonl(path, rows):
    text = "\n".join(row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


ROWS = [
    {"lemma": "bat", "senses": [{"id": "02139199-n", "gloss": "a flying mammal", "hypernyms": ["01886756-n"]}]},
    {"lemma": "placental", "senses": [{"id": "01886756-n", "gloss": "has a placenta", "synonyms": ["eutherian"]}]},
]


@pytest.mark.parametrize("name", ["nouns.jsonl", "nouns.jsonl.gz"])
def test_jsonl_inventory_resolves_hypernym_ids(tmp_path, name):
    inventory = open_inventory(write_jsonl(tmp_path / name, ROWS))
    assert isinstance(inventory, JsonlInventory) and len(inventory) == 2
    (sense,) = inventory.senses("bat")
    assert sense.id == "02139199-n" and sense.hypernyms == ("placental", "eutherian")
    assert "has a placenta" in sense.related_glosses
    assert pickle.loads(pickle.dumps(inventory)).senses("bat") == (sense,)


@pytest.mark.parametrize(
    ("bad", "says"),
    [("{not json", "not JSON"), ('["a"]', "JSON object"), ('{"senses": []}', 'no "lemma"')]
    + [('{"lemma": "x", "senses": 3}', "senses"), ('{"lemma": "x", "senses": [{"gloss": "y"}]}', "senses")],
)
def test_bad_jsonl_line_names_file_and_line(tmp_path, bad, says):
    path = write_jsonl(tmp_path / "nouns.jsonl", [ROWS[0], "", bad])
    with pytest.raises(UserError, match=r"nouns\.jsonl:3: .*" + says):
        JsonlInventory(path, check=True)


def test_open_inventory_says_what_would_be_right(tmp_path):
    for spec in (tmp_path / "none.jsonl", tmp_path, "wordnets"):
        with pytest.raises(UserError, match="data.noun"):
            open_inventory(spec)
    with pytest.raises(UserError, match="English"):
        open_inventory("wordnet", "ko")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(UserError, match="no lemma"):
        open_inventory(tmp_path / "empty.jsonl")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b"{}" * 100)[:20])
    with pytest.raises(UserError, match="truncated"):
        open_inventory(tmp_path / "cut.jsonl.gz")


@real_data
def test_korean_inventory_of_the_pack_has_the_senses_of_bae():
    folder = Path(REAL) / "dictionary"
    inventory = open_inventory(folder / "omw_nouns_ko.jsonl.gz", "ko")
    expected = json.loads((folder / "bae_ko.json").read_text("utf-8"))["senses"]
    assert [sense.id for sense in inventory.senses("배")] == [sense["id"] for sense in expected]
    assert inventory.find("아이가 배를 들고 있다") == [(0, 2, "아이"), (4, 5, "배")]


# --- claims 6 and 7


def test_claim_6_lesk_picks_the_sense_that_the_captions_speak_of():
    scorer = LeskScorer()
    animal = ["a flying mammal sleeps in a cave", "a bat at night"]
    club = ["the boy is hitting a ball with a bat"]
    assert choose_sense((ANIMAL, CLUB), animal, "bat", scorer, 0.1) is ANIMAL
    assert choose_sense((ANIMAL, CLUB), club, "bat", scorer, 0.1) is CLUB


def test_claim_6_lesk_counts_a_shared_phrase_with_the_square_of_its_length():
    sense = Sense("s", "alpha beta gamma delta")  # four content words: normalised by sqrt(4)
    scorer = LeskScorer()
    assert score_senses((sense,), ["zeta beta gamma"], "word", scorer) == pytest.approx([2**2 / 2])
    assert score_senses((sense,), ["beta zeta delta"], "word", scorer) == pytest.approx([(1 + 1) / 2])
    assert score_senses((sense,), ["beta gamma", "beta gamma"], "word", scorer) == pytest.approx([4 / 2])


def test_claim_6_lesk_ignores_the_word_itself_and_function_words():
    sense = Sense("s", "a bat is in the bats of it")
    assert score_senses((sense,), ["a bat in the bats of it"], "bat", LeskScorer()) == pytest.approx([0])


def test_claim_6_lesk_uses_synonyms_hypernyms_and_related_glosses_by_weight():
    senses = (Sense("1", "", synonyms=("yacht",)), Sense("2", "", hypernyms=("yacht",)))
    senses += (Sense("3", "", related_glosses=("yacht",)),)
    assert score_senses(senses, ["a yacht"], "boat", LeskScorer()) == pytest.approx([1, 0.5, 0.25])


@pytest.mark.parametrize(
    ("lang", "word", "senses", "caption"),
    [
        ("ko", "배", (Sense("1", "과일"), Sense("2", "바다를 다니는 선박")), "선박이 바다에 있다"),
        ("zh", "球", (Sense("1", "水果"), Sense("2", "体育运动用品")), "运动用的球"),
    ],
)
def test_claim_6_lesk_reads_other_scripts(lang, word, senses, caption):
    assert choose_sense(senses, [caption], word, LeskScorer(lang), 0.1).id == "2"


def test_overlaps_are_the_longest_shared_runs_once_each():
    assert overlaps(["a", "b", "c", "x", "a", "b"], ["a", "b", "y", "a", "b", "c"]) == [("a", "b", "c"), ("a", "b")]
    assert overlaps(["a"], []) == []


def test_stem_joins_the_forms_of_a_word():
    assert stem("boats") == stem("boat") and stem("running") == stem("run") and stem("riding") == stem("ride")
    assert stem("glass") == "glass"


def encode(texts):
    """Counts of three words: a text encoder simple enough to do by hand."""
    encode.seen += texts
    return np.array([[text.count("ball"), text.count("wing"), 1] for text in texts], np.float32)


def test_claim_6_frozen_language_model_scores_are_cosines():
    encode.seen = []
    scorer = FrozenLMScorer(encode)
    senses = (Sense("1", "wing wing"), Sense("2", "ball"))
    scores = score_senses(senses, ["ball ball", "one"], "bat", scorer)
    first = [1 / 5, 1 / np.sqrt(5)]  # (0, 2, 1) with (2, 0, 1) and (0, 0, 1)
    second = [3 / np.sqrt(10), 1 / np.sqrt(2)]  # (1, 0, 1)
    np.testing.assert_allclose(scores, [max(first), max(second)], rtol=1e-6)
    mean = score_senses(senses, ["ball ball", "one"], "bat", FrozenLMScorer(encode, pool="mean"))
    np.testing.assert_allclose(mean, [np.mean(first), np.mean(second)], rtol=1e-6)


def test_what_all_texts_have_in_common_is_taken_away():
    """By hand; then texts that share nothing score about 0, which the scorer's own threshold leaves out."""
    encode.seen = []
    scorer = FrozenLMScorer(encode)
    texts = ["ball ball", "wing", "one"]
    scorer.centre([*texts, "one"])
    vectors = np.array([[2, 0, 1], [0, 1, 1], [0, 0, 1]]) / np.sqrt([[5], [2], [1]])
    vectors -= vectors.mean(0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = score_senses((Sense("1", "wing"),), ["ball ball", "one"], "bat", scorer)
    np.testing.assert_allclose(found, [max(vectors[1] @ vectors[0], vectors[1] @ vectors[2])], rtol=1e-5)
    assert found[0] < scorer.threshold < FrozenLMScorer(encode)((Sense("1", "wing"),), ["ball ball", "one"], "bat")[0]
    scorer.centre(["one"])
    assert scorer.common is None


def test_frozen_language_model_encodes_a_text_once_and_its_cache_is_bounded():
    encode.seen = []
    scorer = FrozenLMScorer(encode, cache=2)
    scorer((CLUB,), ["a ball"], "bat")
    scorer((CLUB,), ["a ball"], "bat")
    assert len(encode.seen) == 2
    scorer.vectors([f"text {i}" for i in range(5)])  # more at once than the cache holds
    assert len(scorer._vectors._items) == 2


def test_claim_7_noise_filter_adds_nothing_below_the_threshold():
    scorer = LeskScorer()
    captions = ["the boy is hitting a ball with a bat"]
    best = score_senses((ANIMAL, CLUB), captions, "bat", scorer).max()
    assert choose_sense((ANIMAL, CLUB), captions, "bat", scorer, best) is CLUB
    assert choose_sense((ANIMAL, CLUB), captions, "bat", scorer, np.nextafter(best, 9, dtype=np.float32)) is None
    assert choose_sense((ANIMAL, CLUB), ["nothing of the kind"], "bat", scorer, 0.1) is None
    assert choose_sense((ANIMAL, CLUB), [], "bat", scorer, 0.1) is None
    assert choose_sense((), captions, "bat", scorer, 0.0) is None


@pytest.mark.parametrize(
    ("word", "gloss", "synonyms", "expected"),
    [
        ("bat", "a club; bats are of wood", ("cricket bat",), ["bat", "bats", "bat"]),
        ("bats", "a bat is a mammal", (), ["bats", "bat"]),
        ("pear", "a pearlike, pear-shaped fruit", (), ["pear", "pear", "pear"]),
        ("child", "one of many children", (), ["child", "children"]),
        ("배", "배나무의 열매, 배를 먹는다", ("과일",), ["배", "배", "배"]),
        ("", "", (), [""]),
    ],
)
def test_claim_7_gloss_line_masks_the_word_in_every_form(word, gloss, synonyms, expected):
    text, spans_of_word = gloss_line(word, Sense("s", gloss, synonyms))
    assert text.startswith(f"{word}: ") and gloss in text and all(synonym in text for synonym in synonyms)
    assert [text[start:end] for start, end in spans_of_word] == expected


class Captioned(list):
    """A source of captions alone."""

    def captions(self, i):
        return self[i], None, "en"


def test_words_of_a_collection_name_what_its_pictures_show():
    """No frequent word in another form, no word that stands where nouns do not, none that no picture settles."""
    pictures, things = [], "boat horse kite lamp drum shoe chair bell rope spoon clock tent".split()
    for i in range(300):
        thing = f"a {things[i % 12]}" if i % 24 < 12 else f"{things[i % 12]}s"
        trees = "many trees" if i % 2 else "a tree"
        odd = ("weather", "morning")[i % 2] if i % 5 == 0 else "way"
        pictures.append([f"{thing} near {trees}", f"there are dense woods and {thing} parked in this {odd}"])
    found = set(corpus_inventory(Captioned(pictures), "en"))
    assert found == {*things, *(f"{thing}s" for thing in things)}
    inventory = corpus_inventory(Captioned(pictures), "en")
    assert [inventory.find(text) for text in ("trees and a tree", "dense", "parked")] == [[]] * 3

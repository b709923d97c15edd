"""WordNet's own files: a hand-written folder with right byte offsets, and an installed WordNet if there is one."""

import gzip
import json
import os
import pickle
from pathlib import Path

import pytest

from xmodal_jax.data.senses import WordNet, open_inventory
from xmodal_jax.data.senses.wordnet import definition, wordnet_folder
from xmodal_jax.errors import UserError

REAL = os.environ.get("XMODAL_REAL_DATA")
LICENCE = "  1 This software and database is for the test only.  \n"

# name -> (lexicographer file, words, hypernyms, hyponyms, gloss)
SYNSETS = {
    "animal": (3, ["animal", "beast"], [], ["mammal"], "a living organism"),
    "mammal": (5, ["mammal"], ["animal"], ["bat"], 'has hair; "a whale is a mammal"; "so are we"'),
    "bat": (5, ["bat", "chiropteran"], ["mammal"], [], "nocturnal flyer"),
    "club": (6, ["bat", "baseball_bat"], [], [], 'used to hit; "swing it"'),
}


def write_wordnet(folder):
    """A dict/ folder with those synsets; offsets are found by writing twice, as their width is fixed."""
    offsets = dict.fromkeys(SYNSETS, 0)
    for _ in range(2):
        text = LICENCE
        for name, (lex, words, up, down, gloss) in SYNSETS.items():
            offsets[name] = len(text.encode())
            pointers = [f"@ {offsets[other]:08d} n 0000" for other in up] + [f"~ {offsets[o]:08d} n 0000" for o in down]
            listed = " ".join(f"{word} 0" for word in words)
            text += f"{offsets[name]:08d} {lex:02d} n {len(words):02x} {listed} {len(pointers):03d} "
            text += " ".join([*pointers, "|", gloss]) + "  \n"
    (folder / "data.noun").write_bytes(text.encode())
    index = LICENCE + f"animal n 1 1 ~ 1 1 {offsets['animal']:08d}  \nbaseball_bat n 1 0 1 0 {offsets['club']:08d}  \n"
    index += f"bat n 2 1 @ 2 1 {offsets['club']:08d} {offsets['bat']:08d}  \nbeast n 1 0 1 0 {offsets['animal']:08d}  \n"
    (folder / "index.noun").write_bytes(index.encode())
    (folder / "noun.exc").write_text("battes bat\n")
    return offsets


def test_reads_senses_in_the_order_of_the_index(tmp_path):
    offsets = write_wordnet(tmp_path)
    wordnet = WordNet(tmp_path)
    assert list(wordnet) == ["animal", "baseball bat", "bat", "beast"] and len(wordnet) == 4
    club, bat = wordnet.senses("bat")
    assert (club.id, bat.id) == (f"{offsets['club']:08d}-n", f"{offsets['bat']:08d}-n")
    assert club.gloss == "used to hit" and club.synonyms == ("baseball bat",)
    assert bat.synonyms == ("chiropteran",) and bat.hypernyms == ("mammal", "animal", "beast")
    assert bat.related_glosses == ("has hair",)
    assert wordnet.senses("animal")[0].hyponyms == ("mammal",)
    assert WordNet(tmp_path, hypernym_levels=1).senses("bat")[1].hypernyms == ("mammal",)
    assert wordnet.senses("nonsense") == ()


def test_morphology_and_find_use_the_exceptions_file(tmp_path):
    write_wordnet(tmp_path)
    wordnet = open_inventory(tmp_path)
    assert wordnet.lemma("battes") == "bat" and wordnet.lemma("Bats") == "bat" and wordnet.lemma("whale") is None
    assert wordnet.find("a baseball bat , two beasts") == [(2, 14, "baseball bat"), (21, 27, "beast")]


def test_lexnames_come_from_the_file_or_the_standard_list(tmp_path):
    offsets = write_wordnet(tmp_path)
    name = f"{offsets['bat']:08d}-n"
    assert WordNet(tmp_path).lexname(name) == "noun.animal"
    (tmp_path / "lexnames").write_text("05\tnoun.creature\t1\n")
    assert WordNet(tmp_path).lexname(name) == "noun.creature"


def test_pickles_by_folder(tmp_path):
    write_wordnet(tmp_path)
    wordnet = WordNet(tmp_path)
    again = pickle.loads(pickle.dumps(wordnet))
    assert again.senses("bat") == wordnet.senses("bat")


def test_missing_wordnet_says_how_to_install_it(tmp_path):
    with pytest.raises(UserError, match="apt-get install wordnet-base"):
        WordNet(tmp_path)


def test_environment_variables_name_the_folder(tmp_path, monkeypatch):
    (tmp_path / "dict").mkdir()
    write_wordnet(tmp_path / "dict")
    monkeypatch.setenv("WNHOME", str(tmp_path))
    monkeypatch.delenv("WNSEARCHDIR", raising=False)
    assert wordnet_folder() == tmp_path / "dict"
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path / "dict"))
    assert len(open_inventory("wordnet")) == 4


def test_files_that_do_not_fit_are_named(tmp_path):
    write_wordnet(tmp_path)
    data = tmp_path / "data.noun"
    data.write_bytes(b"x" + data.read_bytes())
    with pytest.raises(UserError, match=r"data\.noun: byte \d+: no synset begins here"):
        WordNet(tmp_path).senses("bat")
    (tmp_path / "index.noun").write_bytes(b"bat n nonsense\n")
    with pytest.raises(UserError, match=r"index\.noun: byte 0"):
        WordNet(tmp_path).senses("bat")


def test_definition_cuts_the_examples_only():
    assert definition('a turn; "he was at bat"; "again"  ') == "a turn"
    assert definition('the phrase "so long" said at parting') == 'the phrase "so long" said at parting'
    assert definition('"only an example"') == '"only an example"'


def installed():
    try:
        return wordnet_folder()
    except UserError:
        return None


@pytest.mark.skipif(not (REAL and installed()), reason="needs an installed WordNet and XMODAL_REAL_DATA")
def test_installed_wordnet_agrees_with_the_pack():
    wordnet = WordNet()
    path = Path(REAL) / "dictionary" / "wordnet_nouns.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    assert len(wordnet) == len(lines)
    glosses = different = 0
    for line in lines[::23]:
        row = json.loads(line)
        senses = wordnet.senses(row["lemma"])
        assert [sense.id for sense in senses] == [sense["id"] for sense in row["senses"]], row["lemma"]
        assert wordnet.offsets(row["lemma"])[1] == row["tagged_senses"]
        for ours, theirs in zip(senses, row["senses"], strict=True):
            assert list(ours.synonyms) == theirs["synonyms"]
            assert wordnet.lexname(ours.id) == theirs["lexname"]
            glosses += 1
            different += ours.gloss != theirs["gloss"].rstrip(" ;")
    assert different <= 0.001 * glosses  # a few glosses of WordNet hold stray quotation marks


@pytest.mark.skipif(not installed(), reason="needs an installed WordNet")
def test_installed_wordnet_finds_the_nouns_of_a_caption():
    wordnet = WordNet()
    caption = "Two dogs of different breeds are looking at each other on the road , near a traffic light ."
    assert [lemma for *_, lemma in wordnet.find(caption)] == ["dog", "breed", "road", "traffic light"]
    assert {"animal", "canine", "puppy"} <= wordnet.related("dog")

"""METEOR: alignments against trying all, scores by hand and against NLTK, WordNet's senses."""

from bisect import insort
from itertools import product

import numpy as np
import pytest
import snowballstemmer

from xmodal_jax.errors import UserError
from xmodal_jax.metrics import alignment
from xmodal_jax.metrics.alignment import best_alignment, chunks, greedy_alignment
from xmodal_jax.metrics.meteor import meteor, meteor15_score, meteor15_stats, meteor15_words, word_matcher
from xmodal_jax.metrics.synonyms import wordnet_senses

SENSES = {"dog": {1}, "hound": {1, 2}, "canine": {1}, "tooth": {2}, "runs": {3}, "sprints": {3}}
PLAIN = {stem: word_matcher(stem) for stem in ("porter", "english")}
RICH = {stem: word_matcher(stem, lambda word: SENSES.get(word, ())) for stem in ("porter", "english")}


def options(candidate, reference):
    return PLAIN["english"](candidate.split(), [reference.split()])[0]


def fifteen(candidate, *references, match=PLAIN["english"]):
    return meteor15_score(meteor15_stats(candidate.split(), [reference.split() for reference in references], match))


def test_options_by_kind():
    got = RICH["english"]("the dogs dog hound".split(), [["dog"], ["canine"], ["walk"]])
    assert got == [[[(2, 0), (1, 1), (3, 2)]], [[(2, 2), (3, 2)]], [[]]]


def test_greedy_alignment_by_hand():
    found = options("a dog and a dogs", "dogs a dog a a")
    assert greedy_alignment(found) == [(0, 3, 0), (1, 2, 0), (3, 4, 0), (4, 0, 0)]
    assert chunks(greedy_alignment(found)) == 4


def test_best_alignment_by_hand():
    assert best_alignment(options("a b a c", "a c a b")) == [(0, 2, 0), (1, 3, 0), (2, 0, 0), (3, 1, 0)]
    assert best_alignment(options("the dogs", "the dog")) == [(0, 0, 0), (1, 1, 1)]
    # a match by stem that is not sure counts nothing by itself: it is made only if it costs no chunk
    assert best_alignment(options("dogs dogs a b", "a b dog")) == [(2, 0, 0), (3, 1, 0)]
    assert best_alignment([]) == best_alignment([[], []]) == []


def all_alignments(found):
    for choice in product(*([None, *pairs] for pairs in found)):
        places = [pair[0] for pair in choice if pair]
        if len(set(places)) == len(places):
            yield sorted((pair[0], j, pair[1]) for j, pair in enumerate(choice) if pair)


def test_best_alignment_has_most_matches_in_fewest_chunks(rng):
    for _ in range(60):
        a, b = (" ".join(rng.choice(list("abcd"), rng.integers(1, 6))) for _ in range(2))
        found = options(a, b)
        got = best_alignment(found)
        assert got in list(all_alignments(found))
        assert (-len(got), chunks(got)) == min((-len(other), chunks(other)) for other in all_alignments(found))


def test_many_repeated_words_are_no_trouble():
    assert len(best_alignment(options("a b " * 30, "b a " * 30))) == 60


def test_classic_by_hand():
    match = RICH["porter"]
    assert meteor("a dog runs".split(), ["a dog runs".split()], match) == pytest.approx(1 - 0.5 / 27)
    # "hound" for "dog" and "walks" for "walking", in order: P = 3/3, R = 3/4, two chunks
    got = meteor("a hound walks".split(), ["a big dog walking".split(), ["x"]], match)
    assert got == pytest.approx(0.75 / (0.9 + 0.1 * 0.75) * (1 - 0.5 * (2 / 3) ** 3))
    assert meteor([], [["a"]], match) == meteor(["a"], [[]], match) == meteor(["a"], [["b"]], match) == 0


def test_fifteen_by_hand():
    # content dog, runs; function the: lengths .75 * 2 + .25 = 1.75; all matched in one chunk
    assert fifteen("the dog runs", "the dog runs") == pytest.approx(1)
    precision, recall = (0.25 + 0.75 * 0.6) / 1.75, (0.25 + 0.75 * 0.6) / 1
    mean = 1 / (0.15 / precision + 0.85 / recall)
    assert fifteen("the dogs runs", "the dog") == pytest.approx(mean * (1 - 0.6 * 0.5**0.2))
    got = fifteen("hound", "dog", match=RICH["english"])
    assert got == pytest.approx(0.8) and fifteen("hound", "dog") == 0
    assert fifteen("x", "a dog", "x") == pytest.approx(1)
    assert meteor15_score(np.zeros(17, int)) == 0


def test_counts_of_a_corpus_add_up():
    stats = [meteor15_stats(a.split(), [b.split()], PLAIN["english"]) for a, b in (("a dog", "a dog"), ("x y", "a dog"))]
    # P = 1 / (3 * .75 + .25), R = 1 / 2; the text matched whole counts no chunk, then or now
    assert meteor15_score(stats[0]) == 1 and meteor15_score(stats[1]) == 0
    assert meteor15_score(sum(stats)) == pytest.approx(1 / (0.15 / 0.4 + 0.85 / 0.5))


@pytest.mark.parametrize(
    "tokens, want",
    [
        ("a dog 's t-shirt", "a dog ' s t shirt"),
        ("do n't stop at main st. or the u.s.", "do n 't stop at main st. or the u.s."),
        ("on main st.", "on main st ."),
        ("3.5 of 1,000 at 12:43 or 3/4", "3.5 of 1,000 at 12 : 43 or 3 / 4"),
    ],
)
def test_words_of_fifteen(tokens, want):
    assert meteor15_words(tokens.split()) == want.split()


class Lemmas:
    """What NLTK asks of WordNet, from a table of senses."""

    def __init__(self, table):
        self.table = table

    def synsets(self, word):
        return [
            _Synset([other for other, senses in self.table.items() if sense in senses]) for sense in self.table.get(word, ())
        ]


class _Synset:
    def __init__(self, words):
        self.words = words

    def lemmas(self):
        return [_Lemma(word) for word in self.words]


class _Lemma(str):
    def name(self):
        return str(self)


def test_classic_agrees_with_nltk(rng):
    nltk = pytest.importorskip("nltk.translate.meteor_score")
    stem = snowballstemmer.stemmer("porter").stemWord

    class Porter:
        def stem(self, word):
            return stem(word)

    table = {stem(word): senses for word, senses in SENSES.items()}
    match = word_matcher("porter", lambda word: table.get(stem(word), ()))  # NLTK looks up stems
    words = [*SENSES, *"a the on dogs running run walks walking walked tooths".split()]
    for _ in range(150):
        a, *group = ([str(word) for word in rng.choice(words, rng.integers(1, 9))] for _ in range(3))
        want = max(nltk.single_meteor_score(other, a, stemmer=Porter(), wordnet=Lemmas(table)) for other in group)
        assert meteor(a, group, match) == pytest.approx(want, abs=1e-12)


def test_senses_from_the_files_of_wordnet(tmp_path):
    (tmp_path / "index.noun").write_text(
        "  1 licence  \ndog n 2 1 @ 2 1 00000010 00000020  \nhound n 1 0 1 0 00000010  \nman n 1 0 1 0 00000030  \n"
    )
    (tmp_path / "index.verb").write_text("dog v 1 0 1 0 00000010  \nrun v 1 2 @ ~ 1 1 00000040  \n")
    (tmp_path / "verb.exc").write_text("ran run\n")
    senses = wordnet_senses(tmp_path)
    assert senses("dog") == {("noun", 10), ("noun", 20), ("verb", 10)} and senses("hound") == {("noun", 10)}
    assert senses("dogs") == senses("dog") and senses("men") == {("noun", 30)} and senses("ran") == {("verb", 40)}
    assert senses("is") == senses("unknown") == senses("") == frozenset()
    with pytest.raises(UserError, match="index.noun"):
        wordnet_senses(tmp_path / "nowhere")


@pytest.mark.parametrize("beam", [2, 5, 40])
def test_words_that_are_said_often_are_aligned_as_all_others_are(rng, monkeypatch, beam):
    """Not trying every option changes nothing: neither the matches nor which of equals."""
    monkeypatch.setattr(alignment, "_BEAM", beam)
    for _ in range(15):
        words = list(rng.choice(["dog", "dogs", "hound", "tooth", "runs", "sprints", "a"], rng.integers(1, 5)))
        a, b = (list(rng.choice(words, rng.integers(1, 25))) for _ in range(2))
        (found,) = RICH["english"](a, [b])
        monkeypatch.setattr(alignment, "_OFTEN", 10**9)
        plain = best_alignment(found)
        monkeypatch.setattr(alignment, "_OFTEN", 0)
        assert best_alignment(found) == plain


@pytest.mark.parametrize("candidate", ["a", "a b", "a b a"])
def test_the_work_for_a_caption_that_repeats_a_word_is_bounded(candidate, monkeypatch):
    kept = []
    monkeypatch.setattr(alignment.bisect, "insort", lambda costs, key: (kept.append(1), insort(costs, key)))
    words = (candidate.split() * 150)[:150]
    (found,) = PLAIN["english"](words, [words])
    matches = best_alignment(found)
    assert len(matches) == 150 and chunks(matches) == 1
    assert len(kept) < 150 * 5 * alignment._BEAM  # trying all: some 100 times as many

"""The table of caption scores: published figures, what goes in and out, other processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xmodal_jax.data.senses.wordnet import wordnet_folder
from xmodal_jax.errors import UserError
from xmodal_jax.metrics import captioning
from xmodal_jax.metrics.bleu import corpus_bleu
from xmodal_jax.metrics.captioning import caption_scores
from xmodal_jax.metrics.cider import CiderD
from xmodal_jax.metrics.meteor import meteor15_score, meteor15_stats, meteor15_words, word_matcher
from xmodal_jax.metrics.rouge import rouge_l
from xmodal_jax.metrics.synonyms import wordnet_senses
from xmodal_jax.metrics.workers import spread

REAL = os.environ.get("XMODAL_REAL_DATA")
real_data = pytest.mark.skipif(not REAL, reason="set XMODAL_REAL_DATA to the folder of data packs")
CANDIDATES = ["A dog's ball.", "two men on a boat", ""]
REFERENCES = [["the dog has a ball", "A red ball!"], ["Two men are on a boat."], ["a cat"]]
KEYS = ["bleu1", "bleu2", "bleu3", "bleu4", "rougeL", "rouge1_f", "rougeL_f", "meteor", "meteor15", "cider", "ciderD"]


@pytest.fixture(scope="module")
def senses():
    try:
        return wordnet_senses(wordnet_folder())
    except UserError:
        pytest.skip("needs an installed WordNet")


@pytest.fixture(scope="module")
def published():
    """(candidates, references, scores) of the public scorer's demonstration."""
    if not REAL:
        pytest.skip("set XMODAL_REAL_DATA to the folder of data packs")
    folder = Path(REAL) / "metric_oracles" / "coco_caption"
    rows = [json.loads(line) for line in (folder / "fakecap_val2014.jsonl").read_text().splitlines()]
    scores = json.loads((folder / "expected_scores.json").read_text())["scores_full_precision"]
    return {row["image_id"]: row["hypothesis"] for row in rows}, {r["image_id"]: r["references"] for r in rows}, scores


def test_published_figures(published, monkeypatch):
    candidates, references, want = published
    monkeypatch.setattr(captioning, "caption_tokens", str.split)  # they are tokenised, by another version of the program
    got = caption_scores(candidates, references, processes=1)
    for ours, theirs in [*((f"bleu{n}", f"Bleu_{n}") for n in range(1, 5)), ("rougeL", "ROUGE_L"), ("ciderD", "CIDEr")]:
        assert got[ours] == pytest.approx(want[theirs], abs=1e-12), ours
    # METEOR 1.5's own program run with exact matches and stems alone (-m "exact stem" -w "1.0 0.6") gives the same.
    assert got["meteor15"] == pytest.approx(0.18465432227251194, abs=1e-12)


def test_meteor_is_a_little_below_the_published_figure_with_paraphrases(published, senses):
    candidates, references, want = published
    match = word_matcher("english", senses)
    stats = [
        meteor15_stats(meteor15_words(candidates[key].split()), [meteor15_words(text.split()) for text in group], match)
        for key, group in references.items()
    ]
    got = meteor15_score(sum(stats))
    # That program without its paraphrases alone gives .18967; its own table of synonyms differs a little from WordNet's files.
    assert got == pytest.approx(0.18967, abs=6e-4)
    assert 0.004 < want["METEOR"] - got < 0.008


@real_data
@pytest.mark.parametrize("number", range(4))
def test_cases_of_another_package(number):
    cases = json.loads((Path(REAL) / "metric_oracles" / "nlg_eval" / "cases.json").read_text())["cases"]
    case = cases[number]
    tokens = [text.split() for text in case["hypotheses"]]
    groups = [[text.split() for text in group] for group in case["references"]]
    pairs = list(zip(tokens, groups, strict=True))
    judge, match = CiderD(groups), word_matcher("english")
    got = {f"Bleu_{n}": value for n, value in enumerate(corpus_bleu(tokens, groups), 1)}
    got |= {"ROUGE_L": np.mean([rouge_l(*pair) for pair in pairs]), "CIDEr": np.mean([judge.score(*p) for p in pairs])}
    for name, value in case["expected"].items():
        if name == "METEOR":  # with paraphrases there, without synonyms here
            assert meteor15_score(sum(meteor15_stats(*pair, match) for pair in pairs)) == pytest.approx(value, abs=0.06)
        else:
            assert got[name] == pytest.approx(value, abs=1e-5), name


def test_keys_and_values_by_hand():
    got, each = caption_scores(CANDIDATES, REFERENCES, each=True)
    assert list(got) == [*KEYS, "meteor_synonyms"] and list(each) == KEYS
    assert all(isinstance(value, float) and np.isfinite(value) for value in got.values())
    assert all(values.shape == (3,) and np.isfinite(values).all() for values in each.values())
    assert got["meteor_synonyms"] == 0
    for key in ("rougeL", "rouge1_f", "rougeL_f", "meteor", "cider", "ciderD"):
        assert got[key] == pytest.approx(each[key].mean()) and each[key][2] == 0
    # three words of "a dog 's ball" and all of the second; 9 words where the references closest in length have 3 + 6 + 2
    assert got["bleu1"] == pytest.approx(8 / 9 * np.exp(1 - 11 / 9))
    assert each["rouge1_f"][:2] == pytest.approx([2 * 3 / 9, 2 * 5 / 11])


def test_mappings_in_any_order_and_synonyms():
    keyed = dict(zip("xyz", CANDIDATES, strict=True))
    groups = dict(reversed(list(zip("xyz", REFERENCES, strict=True))))
    got, each = caption_scores(keyed, groups, each=True)
    want, rows = caption_scores(CANDIDATES, REFERENCES, each=True)
    assert got == want and all((each[key] == rows[key]).all() for key in KEYS)
    senses = {"dog": ["d"], "hound": ["d"]}
    plain = caption_scores(["a hound"], [["a dog"]])
    rich = caption_scores(["a hound"], [["a dog"]], synonyms=lambda word: senses.get(word, []))
    assert rich["meteor_synonyms"] == 1 and rich["bleu1"] == plain["bleu1"]
    assert rich["meteor"] > plain["meteor"] and rich["meteor15"] > plain["meteor15"]


def test_a_perfect_candidate():
    texts = ["a man rides a brown horse", "two dogs play on green grass", "a plate of food on a table"]
    got, each = caption_scores(texts, [[text, "something else"] for text in texts], each=True)
    for key in ("bleu4", "rougeL", "rouge1_f", "rougeL_f", "meteor15"):
        assert got[key] == pytest.approx(1, abs=1e-6) and each[key] == pytest.approx(np.ones(3), abs=1e-6)
    assert got["meteor"] > 0.99


def test_processes_change_nothing():
    rng = np.random.default_rng(0)
    words = "a the dog dogs hound cat sits sitting on in red mat".split()
    texts = [" ".join(rng.choice(words, 6)) for _ in range(250)]
    groups = [[" ".join(rng.choice(words, 6)) for _ in range(2)] for _ in range(250)]
    senses = {"dog": [1], "hound": [1]}
    one, rows = caption_scores(texts, groups, synonyms=lambda word: senses.get(word, ()), processes=1, each=True)
    two, more = caption_scores(texts, groups, synonyms=lambda word: senses.get(word, ()), processes=2, each=True)
    assert one == two and all((rows[key] == more[key]).all() for key in KEYS)


def test_a_script_without_a_guard_is_not_run_again(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from xmodal_jax.metrics.captioning import caption_scores\nprint('once')\n"
        "print(caption_scores(['a dog'] * 150, [['a dog']] * 150, processes=2)['bleu1'] > 0.99)\n"
    )
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})
    assert done.stdout.split() == ["once", "True"], done.stderr


def test_errors_of_workers_come_back():
    with pytest.raises(ZeroDivisionError), spread(_divider, 6, [1, 2, 0, 3], 2) as results:
        list(results)
    with spread(_divider, 6, [1, 2, 3], 2) as results:
        assert list(results) == [6, 3, 2]
    with pytest.raises(RuntimeError, match="status 3"), spread(_quitter, None, [1], 2) as results:
        list(results)
    with spread(_divider, 6, [0] * 9, 2) as results:  # left early
        del results


def _divider(numerator):
    return lambda number: numerator / number


def _quitter(_):
    os._exit(3)


@pytest.mark.parametrize(
    "candidates, references, message",
    [
        (["a", "b"], [["a"]], "2 candidates for 1 lists"),
        ([], [], "no candidates"),
        (["a", "b"], [["a"], []], r"references\[1\] is empty"),
        (["a", 3], [["a"], ["b"]], r"candidates\[1\] is int, not a text: 3"),
        (["a"], ["a"], r"references\[0\] is str; it must be a list"),
        (["a"], [["a", None]], r"references\[0\]\[1\] is NoneType"),
        ("a", [["a"]], "candidates is str"),
        (["a"], {"x": ["a"]}, "both be lists, or both dicts"),
        ({"x": "a", "y": "b"}, {"x": ["a"]}, "'y' is in candidates alone"),
        ({"x": "a"}, {"x": ["a"], "z": ["b"]}, "'z' is in references alone"),
        ({"x": "a"}, {"x": []}, r"references\['x'\] is empty"),
    ],
)
def test_wrong_input(candidates, references, message):
    with pytest.raises(UserError, match=message):
        caption_scores(candidates, references)

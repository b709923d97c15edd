"""Questions, phrases and statements of the scenes, judged anew from their words alone."""

import re
from collections import Counter

import pytest

from xmodal_jax.data.sources.scenes import Scenes
from xmodal_jax.data.sources.scenes.drawing import COLORS
from xmodal_jax.data.sources.scenes.tasks import ANYTHING
from xmodal_jax.data.sources.scenes.things import DENOTES, KINDS, LANGUAGES

HUES = ("빨간색", "주황색", "노란색", "초록색", "파란색", "보라색", "분홍색", "회색")


@pytest.mark.parametrize("lang", LANGUAGES)
def test_answers_agree_with_the_objects(lang):
    source = Scenes(lang=lang, fields=("objects", "questions"))
    colors = {**dict(zip(HUES, COLORS, strict=True)), **{color: color for color in COLORS}}
    places = {"왼쪽": "left", "오른쪽": "right", "위쪽": "top", "아래쪽": "bottom", "가운데": "middle",
              **{place: place for place in ("left", "right", "top", "bottom", "middle")}}  # fmt: skip
    kinds, seen, yes = {"people": "person"}, Counter(), Counter()
    kinds.update({kind + "s": kind for kind in KINDS["en"]})
    for i in range(300):
        objects = source[i]["objects"]
        for asked in source[i]["questions"]:
            question, answers = asked["question"], asked["answers"]
            assert len(answers) == 10
            answer, votes = Counter(answers).most_common(1)[0]
            assert votes >= 7
            nouns = [noun for noun in DENOTES[lang] if re.search(_whole(noun, lang), question)]
            about = [one for one in objects if any(one["name"] in DENOTES[lang][noun] for noun in nouns)]
            if answer in ("yes", "no", "예", "아니요"):
                assert bool(about) == (answer in ("yes", "예")), (question, objects)
                yes[answer] += 1
                form = "exists"
            elif answer.isdigit():
                plurals = [kinds[word] for word in re.findall(r"\w+", question) if word in kinds]
                counted = plurals if lang == "en" else nouns
                about = [one for one in objects if any(one["name"] in DENOTES[lang][noun] for noun in counted)]
                assert int(answer) == (len(about) if counted else len(objects)), (question, objects)
                form = "count"
            elif answer in colors:
                assert [one["color"] for one in about] == [colors[answer]]
                form = "color"
            elif answer in places:
                assert [one["place"] for one in about] == [places[answer]]
                form = "place"
            else:
                named = [one for one in objects if one["name"] in DENOTES[lang][answer]]
                assert all(one["name"] in DENOTES[lang][other] for other in answers for one in named)
                hue = [colors[word] for word in colors if re.search(rf"\b{word}(인|\b)", question)]
                assert len(named) == 1 and (not hue or named[0]["color"] == hue[0]), (question, answers, objects)
                if not hue:
                    assert _lies(question, middle(named[0], source, i), middle(about[0], source, i))
                form = "which" if hue else "relation"
            seen[form] += 1
    assert set(seen) == {"exists", "count", "color", "place", "which", "relation"}
    assert 0.4 < max(yes.values()) / sum(yes.values()) < 0.6


def _whole(noun, lang):
    return rf"\b{noun}\b" if lang == "en" else rf"(?<!\w){noun}(이|가|을|를|은|는|의)?(?!\w)"


def middle(one, source, i):
    """The middle of an object's square."""
    return next((thing.x, thing.y) for thing in source.scene(i).objects if thing.key == one["name"])


def _lies(text, one, other):
    """Whether one centre lies from the other as the text says."""
    dx, dy = one[0] - other[0], one[1] - other[1]
    for words, true in (("above|위", dy < 0), ("below|아래", dy > 0), ("left|왼쪽", dx < 0), ("right|오른쪽", dx > 0)):
        if re.search(words, text):
            return true
    raise AssertionError(text)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_phrases_are_true_of_their_object_alone(lang):
    source = Scenes(lang=lang, fields=("objects", "phrases"))
    number, settled, nearly = 0, Counter(), 0
    for i in range(300):
        example = source[i]
        objects = example["objects"]
        assert len({one["phrase"] for one in example["phrases"]}) == len(example["phrases"])
        for one in example["phrases"]:
            matching = [thing for thing in objects if _fits(one["phrase"], thing, objects, source, i)]
            assert [thing["box"] for thing in matching] == [one["box"]], (one, objects)
            named = [thing for thing in objects if _named(one["phrase"], thing, lang)]
            assert (len(named) == 1) == (one["settled"] == "name"), (one, objects)
            settled[one["settled"]] += 1
            number += 1
        assert len(set(example["absent"])) == 4
        for phrase in example["absent"]:
            assert not any(_fits(phrase, thing, objects, source, i) for thing in objects), (phrase, objects)
            nearly += any(_named(phrase, thing, lang) for thing in objects)
    assert number > 600 and nearly > 300 and len(settled) == 5 and min(settled.values()) > 10


def _true(noun, thing, lang):
    return noun in ANYTHING.values() or thing["name"] in DENOTES[lang][noun]


def _named(phrase, thing, lang):
    """Whether a phrase's own noun is true of a thing, whatever else it says."""
    words = re.sub(r" (above|below|to the left of|to the right of|on the|at the|in the) .*", "", phrase).split()
    return _true(words[-1], thing, lang)


def _fits(phrase, thing, objects, source, i):
    """An evaluation of phrases that shares nothing with the one that made them: word by word, left to right."""
    lang = source.langs[0]
    colors = dict(zip(("빨간", "주황색", "노란", "초록색", "파란", "보라색", "분홍색", "회색"), COLORS, strict=True))
    sizes = {"작은": "small", "큰": "big", "small": "small", "big": "big"}
    colors.update({color: color for color in COLORS})
    relational = re.fullmatch(r"the (.+) (above|below|to the left of|to the right of) the (.+)", phrase)
    if lang == "ko" and (found := re.fullmatch(r"(\S+) (왼쪽|오른쪽|위|아래)의 (.+)", phrase)):
        relational = re.fullmatch("(.*)\0(.*)\0(.*)", "\0".join((found[3], found[2], found[1])))
    if relational:
        head, word, anchor = relational.groups()
        anchors = [one for one in objects if one["name"] in DENOTES[lang][anchor]]
        assert len(anchors) == 1
        return (thing not in anchors and _true(head, thing, lang)
                and _lies(word, middle(thing, source, i), middle(anchors[0], source, i)))  # fmt: skip
    words = re.findall(r"\w+", re.sub(r"^the | (on|at|in) the ", " ", phrase))
    x, y = middle(thing, source, i)
    lean = {"left": x < 0.5, "right": x > 0.5, "top": y < 0.5, "bottom": y > 0.5, "middle": thing["place"] == "middle"}
    lean.update({"왼쪽의": lean["left"], "오른쪽의": lean["right"], "위쪽의": lean["top"], "아래쪽의": lean["bottom"],
                 "가운데의": lean["middle"]})  # fmt: skip
    for word in words:
        true = _true(word, thing, lang) if word in DENOTES[lang] or word in ANYTHING.values() else (
            thing["color"] == colors[word] if word in colors else
            thing["size"] == sizes[word] if word in sizes else lean[word])  # fmt: skip
        if not true:
            return False
    return True


@pytest.mark.parametrize("lang", LANGUAGES)
def test_statements_are_labelled_rightly_and_evenly(lang):
    source = Scenes(lang=lang, fields=("statements",), count=400)
    labels, forms = Counter(), {}
    for i in range(400):
        for one in source[i]["statements"]:
            assert 0 <= one["partner"] < 400 and one["partner"] != i
            form, true = _judge(one["statement"], source.scene(i).objects, source.scene(one["partner"]).objects, lang)
            assert true == one["label"], one
            labels[true] += 1
            forms.setdefault(form, Counter())[true] += 1
    assert 0.44 < labels[True] / sum(labels.values()) < 0.56
    assert len(forms) == 8
    for form, counts in forms.items():
        assert 0.3 < counts[True] / sum(counts.values()) < 0.7, (form, counts)


def _judge(text, left, right, lang):
    """(form, truth) of a statement over two lists of objects, read from its words alone."""
    nouns = [noun for noun in DENOTES[lang] if re.search(_whole(noun, lang), text)]
    hues = dict(zip(HUES, COLORS, strict=True))
    hues.update({color: color for color in COLORS})
    hue = [hues[word] for word in re.findall(r"\w+", text) if word in hues]
    counts, number = (len(left), len(right)), re.search(r"\d", text)
    if number:
        return "sum", int(number[0]) == sum(counts)
    for words, true in (("more|많다", counts[0] > counts[1]), ("fewer|적다", counts[0] < counts[1]),
                        ("as many|같다", counts[0] == counts[1])):  # fmt: skip
        if re.search(words, text):
            return "comparison", true
    shown = [any(one.color in hue if hue else any(one.key in DENOTES[lang][noun] for noun in nouns) for one in side)
             for side in (left, right)]  # fmt: skip
    kind = "color" if hue else "noun"
    if re.search("^both|모두", text):
        return f"both {kind}", all(shown)
    if re.search("^only one|한 그림에만", text):
        return f"one {kind}", shown[0] != shown[1]
    return ("left", shown[0]) if re.search("left|왼쪽", text) else ("right", shown[1])

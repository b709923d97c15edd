"""Accuracy of answers to questions over pictures, as the official VQA evaluation has it (GT-Vision-Lab/VQA, vqaEval.py)."""

import functools
import re
from collections import Counter
from collections.abc import Iterable, Sequence

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_PERIOD = re.compile(r"\.(?!\d)")
_GROUPED = re.compile(r"\d,\d")
_NUMBER = re.compile(r"\d+(\.\d+)?")
_ARTICLES = frozenset(("a", "an", "the"))
_DIGITS = {"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6",
           "seven": "7", "eight": "8", "nine": "9", "ten": "10"}  # fmt: skip
_WHOLE = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't not've o'clock
oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's where'd
where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all
y'all'd've y'all'll you'd you'd've you'll you're you've
""".split()
# Each is what becomes of the word with any one of its apostrophes missing; the last entry is the official table's own.
_CONTRACTIONS = {word[:i] + word[i + 1 :]: word for word in _WHOLE for i in range(len(word)) if word[i] == "'"}
_CONTRACTIONS["somebody'd"] = "somebodyd"


@functools.lru_cache(1 << 18)
def normalise_answer(text: str) -> str:
    """The official normalisation: lower case, no articles, digits for zero to ten (and 0 for none), apostrophes put back.

    A mark becomes a space, but vanishes where the text has it beside a space, or where it groups digits anywhere ("1,000"):
    "black/white" -> "black white", "n/a" -> "n" (then "a" goes as an article). A period goes unless a digit follows.
    """
    text = _clean(text)
    grouped = _GROUPED.search(text) is not None
    marks = {ord(m): "" if grouped or f"{m} " in text or f" {m}" in text else " " for m in _MARKS if m in text}
    words = (_DIGITS.get(word, word) for word in _PERIOD.sub("", text.translate(marks)).lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy(answer: str, human_answers: Sequence[str]) -> float:
    """min(matches / 3, 1) among the other humans, mean over leaving out one human each; 0..1.

    As officially, texts are normalised only where the humans differ: the answer that all gave must be met as they wrote it.
    One human answer (GQA, easy-VQA) is met or not after normalisation: 1 or 0. Of 2 to 9 answers too one is left out, so
    that with 2 or 3 even the answer of all has 1/3 or 2/3. ValueError without a human answer.
    """
    answer, humans = _clean(answer), [_clean(human) for human in human_answers]
    if len(humans) == 1 or len(set(humans)) > 1:
        answer, humans = normalise_answer(answer), [normalise_answer(human) for human in humans]
    return _accuracy(humans.count(answer), len(humans))


def answer_scores(human_answers: Sequence[str]) -> dict[str, float]:
    """{normalised answer: its accuracy} of every distinct human answer, first mentioned first; {} of none.

    Always normalised, so that answers of all questions share a vocabulary; else as `vqa_accuracy`.
    """
    counts = Counter(normalise_answer(human) for human in human_answers)
    return {answer: _accuracy(count, len(human_answers)) for answer, count in counts.items()}


def answer_kind(answers: Sequence[str]) -> str:
    """ "yes/no", "number" or "other", by the most common normalised answer (the first of equals); "other" without one."""
    if not answers:
        return "other"
    answer = Counter(map(normalise_answer, answers)).most_common(1)[0][0]
    return "yes/no" if answer in ("yes", "no") else "number" if _NUMBER.fullmatch(answer) else "other"


def accuracy_by(values: Iterable[float], kinds: Iterable[str]) -> dict[str, float]:
    """{"overall": mean of all values, then each kind: mean of its values}, kinds in the order of the alphabet.

    ValueError if there is no value, or not one kind a value.
    """
    groups: dict[str, list[float]] = {}
    for value, kind in zip(values, kinds, strict=True):
        groups.setdefault(kind, []).append(float(value))
    if not groups:
        raise ValueError("accuracy_by: there is no value to take a mean of.")
    everything = [value for group in groups.values() for value in group]
    return {"overall": _mean(everything)} | {kind: _mean(groups[kind]) for kind in sorted(groups)}


def _accuracy(matches: int, humans: int) -> float:
    """The mean over leaving one of `humans` out, in closed form: `matches` of them lose one of their own matches."""
    if not humans:
        raise ValueError("vqa_accuracy: at least one human answer is needed; the test splits of VQA v2 have none.")
    if humans == 1:
        return float(matches)
    without, others = max(matches - 1, 0), humans - matches
    return (matches * min(without / 3, 1.0) + others * min(matches / 3, 1.0)) / humans


def _clean(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)

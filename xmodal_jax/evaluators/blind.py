"""Captions and answers that need no picture: what any model that looks must beat."""

import collections

import numpy as np

from xmodal_jax.data.answering import usual
from xmodal_jax.metrics.vqa import answer_kind


def captions(training, langs, seed):
    """{"frequent": the commonest training caption, "random": the caption of a random training picture} in each of `langs`,
    the languages of the held-out pictures. training: [(captions of a picture, their language)]."""
    counts, by_lang = collections.defaultdict(collections.Counter), collections.defaultdict(list)
    for texts, lang in training:
        counts[lang].update(texts)
        by_lang[lang].append(texts)
    rng = np.random.default_rng(seed)
    drawn = [by_lang[lang][int(rng.integers(len(by_lang[lang])))] for lang in langs]
    return {
        "frequent": [counts[lang].most_common(1)[0][0] for lang in langs],
        "random": [texts[int(rng.integers(len(texts)))] for texts in drawn],
    }


def answers(training, asked):
    """{"frequent": the commonest training answer of the question's type in its language, "frequent_for_question": of the very
    same words} for each question asked (a perfect model without eyes). training and asked: [(question, language)]."""
    by_type, by_words = collections.defaultdict(collections.Counter), collections.defaultdict(collections.Counter)
    for question, lang in training:
        if question["answers"]:
            answer = usual(question["answers"])
            by_type[lang, kind_of(question)][answer] += 1
            by_words[question["question"]][answer] += 1

    def best(*counts):
        return next((count.most_common(1)[0][0] for count in counts if count), "")

    by_type_of = [by_type[lang, kind_of(question)] for question, lang in asked]
    words = [best(by_words[question["question"]], count) for (question, _), count in zip(asked, by_type_of, strict=True)]
    return {"frequent": [best(count) for count in by_type_of], "frequent_for_question": words}


def kind_of(question):
    """The type that the data set names, else that of its answers."""
    return question.get("type") or answer_kind(question["answers"])

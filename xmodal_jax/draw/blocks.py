"""What a report is made of: plain dataclasses that callers fill in, with every field optional that can be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SAMPLE_KINDS = ("sense", "masked_word", "caption", "answer", "retrieval")


@dataclass(frozen=True)
class Figure:
    """A headline figure. A tuple in the same order does as well."""

    label: str
    value: Any  # text as it is to be read ("97.2 %"), or a number; None and NaN show as missing
    explanation: str = ""  # what it means, in a sentence
    target: str = ""  # what it should be, e.g. ">= 95 %"
    met: bool | None = None  # whether it is; None: not judged


@dataclass(frozen=True)
class Bar:
    """One bar of the image ablation: how often the model is right under one condition."""

    label: str  # "right image", "wrong image", "no image", "swapped image"
    value: float | None  # fraction in 0..1
    chance: float | None = None  # what guessing would earn
    meaning: str = ""  # what the condition is
    target: str = ""


@dataclass(frozen=True)
class Table:
    """A table. Numbers are set flush right, None and NaN as a dash."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""
    best: Mapping[int, str] = field(default_factory=dict)  # column -> "max" or "min": marks its best number


@dataclass(frozen=True)
class Condition:
    """The model's answer to one sample under one condition: the right image, a swapped one, none."""

    name: str
    probabilities: Sequence[float]  # one a sense, in the order of Sample.senses
    image: np.ndarray | None = None  # uint8 [H, W, 3]; None: no image was given to the model
    expected: str | None = None  # the sense that this image shows, if any
    heat: np.ndarray | None = None  # [h, w] or [N]: where the blank looked


@dataclass(frozen=True)
class Candidate:
    """One of a ranked list: a word for the blank, or a text or picture found by retrieval."""

    text: str
    score: float | None = None  # drawn as a bar if within 0..1
    right: bool | None = None
    image: np.ndarray | None = None  # uint8 [H, W, 3]


@dataclass(frozen=True)
class Sample:
    """One example and what the model made of it.

    By kind, beside image and text: "sense": spans, truth, answer, senses, conditions, heat. "masked_word": spans,
    truth, answer, candidates, heat. "caption": answer (generated), references. "answer": question (or text), answer,
    references. "retrieval": text or image (the query), candidates.
    """

    kind: str  # one of SAMPLE_KINDS
    image: np.ndarray | None = None  # uint8 [H, W, 3]
    text: str = ""  # with the words that the model did not see still in it
    spans: Sequence[tuple[int, int]] = ()  # (start, end) characters of `text` shown as blanks
    truth: str = ""
    answer: str = ""
    correct: bool | None = None  # None: neither a success nor a failure (a caption)
    lang: str = ""  # "en", "ko", "ar", ...
    senses: Sequence[str] = ()
    glosses: Mapping[str, str] = field(default_factory=dict)  # sense -> what it means
    conditions: Sequence[Condition] = ()
    heat: Sequence[tuple[str, np.ndarray]] = ()  # (token's label, weights [h, w] or [N]) over the image
    grid: tuple[int, int] | None = None  # (h, w) of flat weights that are not square
    references: Sequence[str] = ()
    question: str = ""
    candidates: Sequence[Candidate] = ()
    assignment: np.ndarray | None = None  # [K, N], drawn as slots over the image
    relation: np.ndarray | None = None  # [N, N] or [K, K]
    id: str = ""
    note: str = ""

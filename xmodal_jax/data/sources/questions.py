"""Questions with answers over pictures: your own files, the form of the easy-VQA package, and what their readers share."""

from __future__ import annotations

import os
import posixpath
import sys
from collections.abc import Iterable
from pathlib import Path

from absl import logging

from xmodal_jax.data.sources.image_text import Row
from xmodal_jax.data.sources.listing import ListedPictures, Listing, bases_of_list, picture_name, stated_split
from xmodal_jax.data.sources.places import Base, check_list, given_path, visible
from xmodal_jax.data.sources.records import LINES, TABLES, WHOLE, is_nothing, load_json, packed_in, records
from xmodal_jax.data.sources.splits import (
    FRACTIONS,
    SHARE,
    canonical_split,
    check_fractions,
    check_split,
    check_val_fraction,
    split_of_name,
)
from xmodal_jax.data.sources.texts import written_list
from xmodal_jax.errors import UserError, printable
from xmodal_jax.metrics.vqa import answer_kind
from xmodal_jax.spelling import spelled

_LINE = '{"image": "images/1.jpg", "question": "is it a dog?", "answer": "yes"}'
_TRIPLE = '["what color is the shape?", "blue", 0] (question, answer, number of the picture)'
_LOOKED_FOR = f"train.jsonl, val.jsonl and test.jsonl, or questions.jsonl (or .csv), with lines such as {_LINE}"


class QuestionSource(ListedPictures):
    """Listed pictures whose rows hold questions ({"question", "answers" [str, ...], "id", "type"}); a picture without a
    caption has `captions` [].
    """

    is_captioned = False

    def questions(self, i: int) -> list[dict]:
        """The questions of example i; the picture is not read."""
        return [{**question, "answers": list(question["answers"])} for question in self._rows[i].extra["questions"]]

    def _load(self, i: int) -> dict:
        return {**super()._load(i), "questions": self.questions(i)}


class Questions(QuestionSource):
    """Your own questions. path: a folder with train.jsonl, val.jsonl and test.jsonl, or with questions.jsonl, or that file.

    A line is `{"image", "question", "answer" or "answers"[, "id", "type", "split"]}`; as .csv these are columns, several
    `answers` with | between them. Pictures are found from the folder. Without val.jsonl a share `val_fraction` of the
    pictures of train.jsonl, by a hash of the place, is val and not train; questions.jsonl is split by its field `split`, or
    so too, in `split_fractions`. Only lines of the test split may lack an answer. "type" is as given, or by the answers.
    Errors are UserErrors with file and line.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike,
        split: str = "train",
        split_fractions: tuple[float, float, float] = FRACTIONS,
        val_fraction: float = SHARE,
        allow_outside: bool = False,
        **reading,
    ):
        check_split(split)
        fractions, share = check_fractions(split_fractions), check_val_fraction(val_fraction)
        root, files = question_files(given_path(path), allow_outside)
        stated = None if None in files else "train" if split == "val" and "val" not in files else split
        file = files.get(stated)
        if file is None:
            raise UserError(f"{root}: no file for split {split!r}, only {', '.join(f.name for f in files.values())}.")
        lacking: dict[int, str] = {}
        rows = read_lines(file, stated, lacking)
        if split != "train":  # once for a run: the files of the others are read for it
            warn_of_shared(rows, [one for one in files.values() if one != file])
        listing = Listing(rows, bases_of_list([root], stated))
        share = share if "val" not in files else 0.0
        super().__init__([listing], root, split, file, root.name, fractions, share, allow_outside=allow_outside, **reading)
        unanswered = (lacking.get(id(question)) for row in self._rows for question in row.extra["questions"])
        without = None if split == "test" else next(filter(None, unanswered), None)
        if without:
            raise UserError(f"{without}: this line has no answer, and its split is {split}. Expected: {_LINE}")


class EasyVQA(QuestionSource):
    """The form of the easy-VQA package. path: the folder with `data`, or that: `train/questions.json` with entries
    [question, answer, number], `train/images/NUMBER.png`, and the same of `test`.

    A share `val_fraction` of the pictures of train, by a hash of the place, is val and not train. "type" is by the answer.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike,
        split: str = "train",
        size: int | None = 64,
        val_fraction: float = SHARE,
        **reading,
    ):
        check_split(split)
        share, root = check_val_fraction(val_fraction), given_path(path)
        data = root / "data" if (root / "data").is_dir() else root
        official = "test" if split == "test" else "train"
        file, asked = data / official / "questions.json", []
        for number, entry in enumerate(load_json(file, list, f"a list of entries such as {_TRIPLE}")):
            try:
                question, answer, key = entry
                name = f"{official}/images/{int(key)}.png"
                question, answer = question.strip(), sys.intern(answer.strip())
            except (TypeError, ValueError, AttributeError):
                raise UserError(f"{file}: entry {number}, {str(entry)[:80]}, is not of the form {_TRIPLE}.") from None
            asked.append((name, as_question(question, [answer], f"{official}/{number}")))
        listing = Listing(by_picture(asked, file, official), [(Base(data),)])
        super().__init__([listing], data, split, file, "easy_vqa", None, share, size=size, **reading)


def as_question(question: str, answers: list[str], key, kind: str | None = None) -> dict:
    """A question as examples hold it; without a `kind`, "type" is by the answers."""
    kind = sys.intern(kind) if kind else answer_kind(answers)
    return {"question": sys.intern(spelled(question)), "answers": answers, "id": key, "type": kind}


def by_picture(asked: Iterable[tuple[str, dict]], at: Path, split: str) -> list[Row]:
    """(picture, question) pairs of one split -> a row a picture, in the order of first mention."""
    rows: dict[str, Row] = {}
    for name, question in asked:
        if name not in rows:
            rows[name] = Row(name, name, split, at, extra={"questions": []})
        rows[name].extra["questions"].append(question)
    return list(rows.values())


def question_files(path: Path, allow_outside: bool = False) -> tuple[Path, dict[str | None, Path]]:
    """(folder of the pictures, {split: its file}, or {None: the one file of all splits})."""
    if path.is_file():
        return path.parent, {None: path}
    if not path.is_dir():
        raise UserError(f"{path}: there is no such folder. Expected: a folder of pictures with {_LOOKED_FOR}.")
    files, everything, others = {}, {}, {}
    for file in visible(path.iterdir(), path):
        split, loosely, is_whole = canonical_split(file.stem), split_of_name(file.stem), file.stem.lower() == "questions"
        if file.suffix.lower() not in (*LINES, *TABLES, *WHOLE) or not (split or loosely or is_whole):
            continue
        kind = files if split else everything if is_whole else others
        other = kind.setdefault(loosely, file)
        if other != file and kind is not others:
            raise UserError(f"{path}: {other.name} and {file.name} are for the same questions; leave one of them.")
    chosen = files or everything or others
    for file in chosen.values():
        check_list(file, path, allow_outside)
    if not chosen:
        raise UserError(f"{path}: no file of questions is in this folder. Looked for: {_LOOKED_FOR}.{packed_in(path)}")
    return path, chosen


def warn_of_shared(rows: list[Row], others: list[Path]) -> None:
    """Say which picture of these rows is asked about in other splits' files too: data sets share pictures between splits, but
    what is learned of one in training is then no surprise in the test."""
    here = {posixpath.normpath(row.name): row.at for row in rows}
    for other in others:
        try:
            shared = next((row for row in read_lines(other, "", {}) if posixpath.normpath(row.name) in here), None)
        except UserError:  # told where that split is read
            continue
        if shared is not None:
            at = here[posixpath.normpath(shared.name)]
            logging.warning("%s: the picture %s is in another split, too (%s).", shared.at, printable(shared.name), at)


def read_lines(file: Path, split: str | None, lacking: dict[int, str]) -> list[Row]:
    """A row a question. split: of the whole file, or None: what its lines say. lacking: gets {id of a question: its line} of
    those without an answer.
    """
    rows = []
    for number, line in records(file, _LINE):
        at = f"{file}:{number}"
        if file.suffix.lower() in TABLES:  # an empty cell is none
            line = {key: value for key, value in line.items() if value.strip()}
            if "answers" in line:
                line["answers"] = written_list(line["answers"]) or line["answers"].split("|")
        name, question = picture_name(line), line.get("question")
        if name is None or not isinstance(question, str) or not question.strip():
            raise UserError(f"{at}: this line has no image or no question (both are texts). Expected: {_LINE}")
        answers = read_answers(line, at)
        kind, key = line.get("type"), line.get("id")
        made = as_question(question.strip(), answers, f"{file.stem}/{number}" if key is None else key, kind and str(kind))
        if not answers:
            lacking[id(made)] = at
        rows.append(Row(name, name, split or stated_split(line, at), at, extra={"questions": [made]}))
    return rows


def read_answers(row: dict, at: str) -> list[str]:
    """A line's answers; numbers become texts; [] without any."""
    value = row.get("answers", row.get("answer"))
    values = value if isinstance(value, list) else [value]
    values = [one.get("answer") if isinstance(one, dict) else one for one in values]  # as VQA's annotators are told apart
    values = [one for one in values if isinstance(one, str) or not is_nothing(one)]  # "none" is an answer
    if not all(isinstance(one, str | int | float) and not isinstance(one, bool) for one in values):
        raise UserError(f"{at}: an answer is a text, and answers are a list of texts. Expected: {_LINE}")
    return [sys.intern(" ".join(spelled(str(one)).split())) for one in values if str(one).strip()]

"""Questions with answers over pictures: your own files, the form of the easy-VQA package, and what their readers share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from xmodal_jax.data.sources.image_text import Row
from xmodal_jax.data.sources.listing import Folder, ListedPictures, picture_name, stated_split
from xmodal_jax.data.sources.records import load_json, records
from xmodal_jax.data.sources.splits import FRACTIONS, SPLITS, canonical_split, check_fractions, check_split, hashed_split
from xmodal_jax.errors import UserError
from xmodal_jax.metrics.vqa import answer_kind

_LINE = '{"image": "images/1.jpg", "question": "is it a dog?", "answer": "yes"}'
_TRIPLE = '["what color is the shape?", "blue", 0] (question, answer, number of the picture)'
_LOOKED_FOR = f"train.jsonl, val.jsonl and test.jsonl, or questions.jsonl (or .csv), with lines such as {_LINE}"


class QuestionSource(ListedPictures):
    """Listed pictures whose rows hold questions ({"question", "answers" [str, ...], "id", "type"}); a picture without a
    caption has `captions` [].
    """

    def questions(self, i: int) -> list[dict]:
        """The questions of example i; the picture is not read."""
        return [{**question, "answers": list(question["answers"])} for question in self._rows[i].extra["questions"]]

    def _load(self, i: int) -> dict:
        return {**super()._load(i), "questions": self.questions(i)}


class Questions(QuestionSource):
    """Your own questions. path: a folder with train.jsonl, val.jsonl and test.jsonl, or with questions.jsonl, or that file.

    A line is `{"image", "question", "answer" or "answers"[, "id", "type", "split"]}`; as .csv these are columns, several
    `answers` with | between them. Pictures are found from the folder. Without val.jsonl a share `val_fraction` of the
    pictures of train.jsonl, by a hash of the name, is val and not train; questions.jsonl is split by its field `split`, or
    so too, in `split_fractions`. Only lines of the test split may lack an answer. "type" is as given, or by the answers.
    Errors are UserErrors with file and line.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike,
        split: str = "train",
        split_fractions: tuple[float, float, float] = FRACTIONS,
        val_fraction: float = 0.05,
        **reading,
    ):
        check_split(split)
        fractions, share = check_fractions(split_fractions), check_val_fraction(val_fraction)
        root, files = question_files(Path(path))
        if None in files:
            file, place = files[None], lambda name: hashed_split(Path(name).name, fractions)
        else:
            file, place = files.get(split), lambda name: split
            if "val" not in files and split != "test":
                file, place = files.get("train"), lambda name: held_out(name, share)
            if file is None:
                raise UserError(f"{root}: no file for split {split!r}, only {', '.join(f.name for f in files.values())}.")
        listed = read_lines(file, split, place, stated=None in files)
        super().__init__(listed, Folder(root).find, split, file, root.name, **reading)


class EasyVQA(QuestionSource):
    """The form of the easy-VQA package. path: the folder with `data`, or that: `train/questions.json` with entries
    [question, answer, number], `train/images/NUMBER.png`, and the same of `test`.

    A share `val_fraction` of the pictures of train, by a hash of the name, is val and not train. "type" is by the answer.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike,
        split: str = "train",
        size: int | None = 64,
        val_fraction: float = 0.05,
        **reading,
    ):
        check_split(split)
        share, root = check_val_fraction(val_fraction), Path(path)
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
        listed = by_picture(asked, file, lambda name: "test" if split == "test" else held_out(name, share))
        super().__init__(listed, Folder(data).find, split, file, "easy_vqa", size=size, **reading)


def as_question(question: str, answers: list[str], key, kind: str | None = None) -> dict:
    """A question as examples hold it; without a `kind`, "type" is by the answers."""
    kind = sys.intern(kind) if kind else answer_kind(answers)
    return {"question": sys.intern(question), "answers": answers, "id": key, "type": kind}


def by_picture(asked: Iterable[tuple[str, dict]], at: Path, place: Callable[[str], str]) -> list[Row]:
    """(picture, question) pairs -> a row a picture, in the order of first mention. place: the split of a picture."""
    rows: dict[str, Row] = {}
    for name, question in asked:
        if name not in rows:
            rows[name] = Row(name, name, place(name), at, extra={"questions": []})
        rows[name].extra["questions"].append(question)
    return list(rows.values())


def check_val_fraction(share: float) -> float:
    if not 0 <= share < 1:
        raise UserError(f"val_fraction={share!r}: a share of the training pictures, at least 0 and below 1, is expected.")
    return share


def held_out(name: str, share: float) -> str:
    """ "train" or "val" for a picture of a training file without a validation file."""
    return hashed_split(Path(name).name, (1 - share, share, 0))


def question_files(path: Path) -> tuple[Path, dict[str | None, Path]]:
    """(folder of the pictures, {split: its file}, or {None: the one file of all splits})."""
    if path.is_file():
        return path.parent, {None: path}
    if not path.is_dir():
        raise UserError(f"{path}: there is no such folder. Expected: a folder of pictures with {_LOOKED_FOR}.")
    files, everything = {}, {}
    for file in sorted((*path.glob("*.jsonl"), *path.glob("*.csv"))):
        split = canonical_split(file.stem)
        if split in SPLITS or file.stem == "questions":
            other = (files if split else everything).setdefault(split, file)
            if other != file:
                raise UserError(f"{path}: {other.name} and {file.name} are for the same questions; leave one of them.")
    if not files and not everything:
        raise UserError(f"{path}: no file of questions is in this folder. Looked for: {_LOOKED_FOR}.")
    return path, files or everything


def read_lines(file: Path, split: str, place: Callable[[str], str], stated: bool) -> list[Row]:
    """A row a picture. place: the split of a picture, unless its lines state one (where `stated`)."""
    asked, splits, lacking = [], {}, {}
    for number, line in records(file, _LINE):
        at = f"{file}:{number}"
        if file.suffix.lower() in (".csv", ".tsv"):  # an empty cell is none
            line = {key: value for key, value in line.items() if value}
            line |= {"answers": line["answers"].split("|")} if "answers" in line else {}
        name, question = picture_name(line), line.get("question")
        if name is None or not isinstance(question, str) or not question.strip():
            raise UserError(f"{at}: this line has no image or no question (both are texts). Expected: {_LINE}")
        where = stated_split(line, at) if stated else None
        if where and splits.setdefault(name, where) != where:
            raise UserError(f"{at}: the picture {name} is in split {where}, and above in {splits[name]}; give it one.")
        answers = read_answers(line, at)
        if not answers:
            lacking.setdefault(name, at)
        kind, key = line.get("type"), line.get("id")
        made = as_question(question.strip(), answers, f"{file.stem}/{number}" if key is None else key, kind and str(kind))
        asked.append((name, made))
    rows = by_picture(asked, file, lambda name: splits.get(name) or place(name))
    without = next((lacking[row.name] for row in rows if row.split == split != "test" and row.name in lacking), None)
    if without:
        raise UserError(f"{without}: this line has no answer, and its split is {split}. Expected: {_LINE}")
    return rows


def read_answers(row: dict, at: str) -> list[str]:
    """A line's answers; numbers become texts; [] without any."""
    value = row.get("answers", row.get("answer"))
    values = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(one, str | int | float) and not isinstance(one, bool) for one in values):
        raise UserError(f"{at}: an answer is a text, and answers are a list of texts. Expected: {_LINE}")
    return [sys.intern(" ".join(str(one).split())) for one in values if str(one).strip()]

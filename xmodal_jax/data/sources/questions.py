"""Questions with answers over pictures: your own files, the form of the easy-VQA package, and what their readers share."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from absl import logging

from xmodal_jax.data.sources.image_text import (
    SPLITS,
    Folder,
    ImageTextSource,
    Row,
    canonical_split,
    check_fractions,
    check_split,
    hashed_split,
    too_many,
)
from xmodal_jax.errors import UserError
from xmodal_jax.metrics.vqa import answer_kind

_LINE = '{"image": "images/1.jpg", "question": "is it a dog?", "answer": "yes"}'
_TRIPLE = '["what color is the shape?", "blue", 0] (question, answer, number of the picture)'
_LOOKED_FOR = f"train.jsonl, val.jsonl and test.jsonl, or questions.jsonl (or .csv), with lines such as {_LINE}"


class QuestionSource(ImageTextSource):
    """Pictures with questions; a picture without a caption has `captions` [].

    asked: {picture: [{"question", "answers" [str, ...], "id", "type"}, ...]}. find: picture -> its file or None. at: the
    file or folder that lists the pictures, for messages. The rest as in `ImageTextSource`.
    """

    def __init__(
        self, asked: dict[str, list[dict]], find: Callable[[str], str | None], *, at: Path, max_bad_fraction: float, **rest
    ):
        rows, missing = [], []
        for picture, questions in asked.items():
            file = find(picture)
            if file is None:
                missing.append(f"{at}: the picture {picture} is not there.")
            else:
                rows.append(Row(picture, file, (), {"questions": questions}))
        if missing:
            logging.warning("%s: %d pictures are missing and skipped. %s", at, len(missing), " ".join(missing[:20]))
            too_many(str(at), len(missing), len(missing) + len(rows), max_bad_fraction, missing)
        if not rows:
            raise UserError(f"{at}: no example in this split. {' '.join(missing) or 'No question in the file is of it.'}")
        super().__init__(rows, max_bad_fraction=max_bad_fraction, **rest)
        self.missing = len(missing)

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
        size: int | None = 128,
        mode: str = "resize",
        lang: str = "en",
        file_bytes: bool = False,
        split_fractions: tuple[float, float, float] = (0.9, 0.05, 0.05),
        val_fraction: float = 0.05,
        max_bad_fraction: float = 0.05,
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
        super().__init__(
            read_lines(file, split, place, stated=None in files), Folder(root).find, at=file, name=root.name, lang=lang,
            size=size, mode=mode, file_bytes=file_bytes, max_bad_fraction=max_bad_fraction,
        )  # fmt: skip


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
        mode: str = "resize",
        lang: str = "en",
        file_bytes: bool = False,
        val_fraction: float = 0.05,
        max_bad_fraction: float = 0.05,
    ):
        check_split(split)
        share, root = check_val_fraction(val_fraction), Path(path)
        data = root / "data" if (root / "data").is_dir() else root
        official = "test" if split == "test" else "train"
        file, asked = data / official / "questions.json", {}
        for number, entry in enumerate(load_json(file, list, f"a list of entries such as {_TRIPLE}")):
            try:
                question, answer, key = entry
                name = f"{official}/images/{int(key)}.png"
                question, answer = question.strip(), sys.intern(answer.strip())
            except (TypeError, ValueError, AttributeError):
                raise UserError(f"{file}: entry {number}, {str(entry)[:80]}, is not of the form {_TRIPLE}.") from None
            if split == "test" or held_out(name, share) == split:
                asked.setdefault(name, []).append(as_question(question, [answer], f"{official}/{number}"))
        super().__init__(
            asked, Folder(data).find, at=file, name="easy_vqa", lang=lang, size=size, mode=mode, file_bytes=file_bytes,
            max_bad_fraction=max_bad_fraction,
        )  # fmt: skip


def as_question(question: str, answers: list[str], key, kind: str | None = None) -> dict:
    """A question as examples hold it; without a `kind`, "type" is by the answers."""
    kind = sys.intern(kind) if kind else answer_kind(answers)
    return {"question": sys.intern(question), "answers": answers, "id": key, "type": kind}


def load_json(file: Path, kind: type, expected: str, hook: Callable[[dict], object] | None = None):
    """A JSON file of this kind (list, dict), each object in it passed through `hook`; else a UserError that says what is
    expected.
    """
    try:
        with file.open(encoding="utf-8") as text:
            data = json.load(text, object_hook=hook)
    except FileNotFoundError:
        raise UserError(f"{file}: there is no such file. Expected: {expected}.") from None
    except ValueError as error:
        raise UserError(f"{file}: this is not JSON ({error}). Expected: {expected}.") from None
    if not isinstance(data, kind):
        raise UserError(f"{file}: this is not {expected}.")
    return data


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


def read_lines(file: Path, split: str, place: Callable[[str], str], stated: bool) -> dict[str, list[dict]]:
    """{picture: its questions} of a split. place: the split of a picture, unless its lines state one (where `stated`)."""
    asked: dict[str, list[dict]] = {}
    splits, lacking = {}, {}
    for number, row in records(file):
        at = f"{file}:{number}"
        name, question = row.get("image"), row.get("question")
        if not isinstance(name, str) or not isinstance(question, str) or not name.strip() or not question.strip():
            raise UserError(f"{at}: this line has no image or no question (both are texts). Expected: {_LINE}")
        if stated and row.get("split") not in (None, ""):
            where = canonical_split(row["split"])
            if where is None:
                raise UserError(f"{at}: split {row['split']!r} is not one of {', '.join(SPLITS)}.")
            if splits.setdefault(name, where) != where:
                raise UserError(f"{at}: the picture {name} is in split {where}, and above in {splits[name]}; give it one.")
        answers = read_answers(row, at)
        if not answers:
            lacking.setdefault(name, at)
        kind, key = row.get("type"), row.get("id")
        made = as_question(question.strip(), answers, f"{file.stem}/{number}" if key is None else key, kind and str(kind))
        asked.setdefault(name, []).append(made)
    asked = {name: made for name, made in asked.items() if (splits.get(name) or place(name)) == split}
    without = next((lacking[name] for name in asked if name in lacking), None) if split != "test" else None
    if without:
        raise UserError(f"{without}: this line has no answer, and its split is {split}. Expected: {_LINE}")
    return asked


def read_answers(row: dict, at: str) -> list[str]:
    """A line's answers; numbers become texts; [] without any."""
    value = row.get("answers", row.get("answer"))
    values = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(one, str | int | float) and not isinstance(one, bool) for one in values):
        raise UserError(f"{at}: an answer is a text, and answers are a list of texts. Expected: {_LINE}")
    return [sys.intern(" ".join(str(one).split())) for one in values if str(one).strip()]


def records(file: Path) -> Iterator[tuple[int, dict]]:
    """(line number, fields) of a .jsonl or .csv file; UserError where a line is neither."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            if file.suffix.lower() != ".csv":
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        yield number, json_line(line, f"{file}:{number}")
                return
            reader = csv.DictReader(lines, skipinitialspace=True)
            for row in reader:
                if None in row:
                    raise UserError(f"{file}:{reader.line_num}: more fields than the header; put texts with commas in quotes.")
                row = {key.strip(): value for key, value in row.items() if value not in (None, "")}
                yield reader.line_num, row | ({"answers": row["answers"].split("|")} if "answers" in row else {})
    except UnicodeDecodeError:
        raise UserError(f"{file}: this file is not UTF-8; save it as UTF-8.") from None
    except csv.Error as error:
        raise UserError(f"{file}: this is no readable table ({error}). Expected: the header image,question,answer.") from None


def json_line(line: str, at: str) -> dict:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{at}: this line is not JSON ({error}). Expected: {_LINE}") from None
    if not isinstance(row, dict):
        raise UserError(f"{at}: this line is not a JSON object. Expected: {_LINE}")
    return row

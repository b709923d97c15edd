"""VQA v2 and GQA as their authors hand them out: JSON files of questions and annotations, folders of pictures."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from xmodal_jax.data.sources.listing import Listing
from xmodal_jax.data.sources.places import Base, given_path
from xmodal_jax.data.sources.questions import QuestionSource, as_question, by_picture
from xmodal_jax.data.sources.records import each, load_json
from xmodal_jax.data.sources.splits import check_split
from xmodal_jax.errors import UserError
from xmodal_jax.spelling import spelled

_VQA2 = {"train": ("train2014",), "val": ("val2014",), "test": ("test2015", "test-dev2015")}
_GQA = {"train": "train", "val": "val", "test": "testdev"}
_QUESTIONS = 'an object with the list "questions" of {"question_id", "image_id", "question"}'
_ANNOTATIONS = 'an object with the list "annotations" of {"question_id", "answer_type", "answers": [{"answer"}, ...]}'
_GQA_FORM = 'an object {question id: {"imageId", "question", "answer"}}'
_GQA_KEPT = ("imageId", "question", "answer", "types")


class OfficialQuestions(QuestionSource):
    """Questions as their authors hand them out. path: the folder of the files, or of folders with them. images: the folder
    of the pictures, if another. The rest: see `ImageTextSource`.

    A subclass says the `names` of a split's file, the best first, and `read`s it: pairs (picture, question).
    """

    def __init__(self, *, path: str | os.PathLike, split: str = "train", images: str | os.PathLike | None = None, **reading):
        check_split(split)
        root = given_path(path)
        root = root.parent if root.is_file() else root
        files = official_files(root, self.names(split))
        file = files[0]
        asked = (pair for one in files for pair in self.read(root, one, split))
        rows = by_picture(asked, file, split)
        pictures = given_path(images) if images else root
        listing = Listing(rows, picture_bases(pictures, self.part(file), self.spellings))
        super().__init__([listing], pictures, split, file, root.name, **reading)

    spellings = (None,)

    def part(self, file: Path) -> str:
        """What the folder of the pictures may be called that a file asks about."""
        return ""


class VQA2(OfficialQuestions):
    """VQA v2, or v1: `v2_OpenEnded_mscoco_train2014_questions.json`, `v2_mscoco_train2014_annotations.json` and so on. In the
    folder of the pictures, or in `train2014`, `images` and the like in it, lie `COCO_train2014_000000000009.jpg` or
    `000000000009.jpg`.

    Split test is test2015, or else test-dev2015, whose questions have no answers here: `answers` []. "type" is the
    annotations' answer_type ("yes/no", "number", "other"), "id" the question_id.
    """

    spellings = (None, lambda name: name.rsplit("_", 1)[-1])  # COCO of 2017 calls them by the number alone

    def names(self, split):
        return [f"{version}OpenEnded_mscoco_{part}_questions.json" for part in _VQA2[split] for version in ("v2_", "")]

    def part(self, file):
        return file.name.split("_")[-2].replace("test-dev", "test")

    def read(self, root, file, split):
        given, part = annotated(root, file, needed=split != "test"), self.part(file)

        def pair(_, entry):
            key, name = entry["question_id"], f"COCO_{part}_{int(entry['image_id']):012d}.jpg"
            if given is not None and key not in given:
                raise UserError(f"{file}: question {key} has no annotation; the annotations are of another version or split.")
            answers, kind = ([], None) if given is None else given[key]
            return name, as_question(entry["question"].strip(), answers, key, kind)

        data = load_json(file, dict, _QUESTIONS, ("questions",))
        return each(enumerate(data["questions"]), pair, f"{file}: entry", _QUESTIONS)


class GQA(OfficialQuestions):
    """GQA: `train_balanced_questions.json`, `val_...` and `testdev_...` (our test), pictures ID.jpg. balanced=False:
    `train_all_questions.json`, as one file or as a folder of parts, and so on. "type" is types.structural ("query", "verify",
    "logical", "choose", "compare") where given.
    """

    def __init__(self, *, balanced: bool = True, **rest):
        self.balanced = balanced
        super().__init__(**rest)

    def names(self, split):
        return [f"{_GQA[split]}_{'balanced' if self.balanced else 'all'}_questions.json"]

    def read(self, root, file, split):
        def pair(key, entry):
            answers = [sys.intern(spelled(entry["answer"].strip()))] if "answer" in entry or split != "test" else []
            kind = (entry.get("types") or {}).get("structural")
            return f"{entry['imageId']}.jpg", as_question(entry["question"].strip(), answers, key, kind)

        return each(load_json(file, dict, _GQA_FORM, hook=_without_programs).items(), pair, f"{file}: question", _GQA_FORM)


def folders(root: Path) -> list[Path]:
    """A folder and those in it, by one listing."""
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder. Expected: the data set's folder (path), its pictures' (images).")
    with os.scandir(root) as entries:
        return [root, *sorted(Path(entry.path) for entry in entries if entry.is_dir())]


def official_files(root: Path, names: list[str]) -> list[Path]:
    """The first of these files, or the parts in a folder of its name: `train_all_questions/train_all_questions_0.json`."""
    try:
        return [official_file(root, names)]
    except UserError:
        for name in names:
            stem = name.removesuffix(".json")
            for folder in folders(root):
                parts = [file for file in (folder / stem).glob(f"{stem}_*.json") if file.is_file()]
                if parts:
                    return sorted(parts, key=lambda file: (len(file.name), file.name))
        raise


def official_file(root: Path, names: list[str]) -> Path:
    """The first of these files that is in a folder or in one below it."""
    for name in names:
        for folder in folders(root):
            if (folder / name).is_file():
                return folder / name
    raise UserError(f"{root}: the file {' or '.join(names)} is not in this folder, nor in one in it.")


def picture_bases(root: Path, part: str, spellings: tuple) -> list[tuple[Base, ...]]:
    """Alternatives of where pictures may lie below a folder: in a folder `part`, else in any."""
    found = folders(root)
    inner = root / "images"
    named = [folder for folder in (root / part, inner / part) if part and folder.is_dir()]
    others = [*found, *(folders(inner)[1:] if inner in found else ())]
    found = ([Base(folder, spell) for folder in some for spell in spellings] for some in (named, others) if some)
    return [tuple(bases) for bases in found]


def annotated(root: Path, file: Path, needed: bool) -> dict[int, tuple[list[str], str | None]] | None:
    """{question id: (answers, answer_type)} of the annotations that belong to a file of questions; None without."""
    name = file.name.replace("OpenEnded_", "").replace("_questions", "_annotations")
    try:
        notes = official_file(root, [name])
    except UserError:
        if needed:
            raise
        return None

    def answers(_, entry):
        answers = entry["answers"]
        if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
            raise KeyError("answers")
        return entry["question_id"], (answers, entry.get("answer_type"))

    data = load_json(notes, dict, _ANNOTATIONS, ("annotations",), _only_the_answer)
    return dict(each(enumerate(data["annotations"]), answers, f"{notes}: entry", _ANNOTATIONS))


def _only_the_answer(record: dict):
    """{"answer", "answer_confidence", "answer_id"} -> its text, while the file is read: 4.4 M of them never stand in memory."""
    answer = record.get("answer")
    return sys.intern(spelled(answer)) if isinstance(answer, str) else record


def _without_programs(record: dict) -> dict:
    """A question of GQA without its program and scene graph references, which are most of the file."""
    return {key: record[key] for key in _GQA_KEPT if key in record} if "imageId" in record else record

"""VQA v2 and GQA as their authors hand them out: JSON files of questions and annotations, folders of pictures."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from xmodal_jax.data.sources.image_text import Folder, check_split
from xmodal_jax.data.sources.questions import QuestionSource, as_question, load_json
from xmodal_jax.errors import UserError

_VQA2 = {"train": ("train2014",), "val": ("val2014",), "test": ("test2015", "test-dev2015")}
_GQA = {"train": "train", "val": "val", "test": "testdev"}
_QUESTIONS = 'an object with the list "questions" of {"question_id", "image_id", "question"}'
_ANNOTATIONS = 'an object with the list "annotations" of {"question_id", "answer_type", "answers": [{"answer"}, ...]}'
_GQA_FORM = 'an object {question id: {"imageId", "question", "answer"}}'
_GQA_KEPT = ("imageId", "question", "answer", "types")


class VQA2(QuestionSource):
    """VQA v2, or v1. path: the folder of `v2_OpenEnded_mscoco_train2014_questions.json`,
    `v2_mscoco_train2014_annotations.json` and so on (or of folders with them). images: the folder of the pictures, if another:
    in it, or in `train2014`, `images` and the like, lie `COCO_train2014_000000000009.jpg` or `000000000009.jpg`.

    Split test is test2015, or else test-dev2015, whose questions have no answers here: `answers` []. "type" is the
    annotations' answer_type ("yes/no", "number", "other"), "id" the question_id.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike,
        split: str = "train",
        images: str | os.PathLike | None = None,
        size: int | None = 128,
        mode: str = "resize",
        lang: str = "en",
        file_bytes: bool = False,
        max_bad_fraction: float = 0.05,
    ):
        check_split(split)
        root = Path(path)
        names = [f"{v}OpenEnded_mscoco_{part}_questions.json" for part in _VQA2[split] for v in ("v2_", "")]
        file = official_file(root, names)
        given = annotated(root, file, needed=split != "test")
        pictures = file.name.split("_")[-2].replace("test-dev", "test")
        asked: dict[str, list[dict]] = {}
        for number, entry in enumerate(load_list(file, "questions", _QUESTIONS)):
            try:
                key, name = entry["question_id"], f"COCO_{pictures}_{int(entry['image_id']):012d}.jpg"
                question = entry["question"].strip()
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise UserError(f"{file}: entry {number} lacks or has a wrong {error}. Expected: {_QUESTIONS}.") from None
            if given is not None and key not in given:
                raise UserError(f"{file}: question {key} has no annotation; the annotations are of another version or split.")
            answers, kind = ([], None) if given is None else given[key]
            asked.setdefault(name, []).append(as_question(question, answers, key, kind))
        finder = picture_folder(root, images, pictures)
        super().__init__(
            asked, lambda name: finder.find(name) or finder.find(name.rsplit("_", 1)[-1]), at=file, name=root.name, lang=lang,
            size=size, mode=mode, file_bytes=file_bytes, max_bad_fraction=max_bad_fraction,
        )  # fmt: skip


class GQA(QuestionSource):
    """GQA. path: the folder of `train_balanced_questions.json`, `val_...` and `testdev_...` (our test), or of a folder with
    them. images: the folder of the pictures ID.jpg, if another than `images`. balanced=False: `train_all_questions.json`, as
    one file, and so on. "type" is types.structural ("query", "verify", "logical", "choose", "compare") where given.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike,
        split: str = "train",
        images: str | os.PathLike | None = None,
        balanced: bool = True,
        size: int | None = 128,
        mode: str = "resize",
        lang: str = "en",
        file_bytes: bool = False,
        max_bad_fraction: float = 0.05,
    ):
        check_split(split)
        root = Path(path)
        file = official_file(root, [f"{_GQA[split]}_{'balanced' if balanced else 'all'}_questions.json"])
        asked: dict[str, list[dict]] = {}
        for key, entry in load_json(file, dict, _GQA_FORM, _without_programs).items():
            try:
                name, question = f"{entry['imageId']}.jpg", entry["question"].strip()
                answers = [sys.intern(entry["answer"].strip())] if "answer" in entry or split != "test" else []
                kind = (entry.get("types") or {}).get("structural")
            except (KeyError, TypeError, AttributeError) as error:
                raise UserError(f"{file}: question {key} lacks or has a wrong {error}. Expected: {_GQA_FORM}.") from None
            asked.setdefault(name, []).append(as_question(question, answers, key, kind))
        super().__init__(
            asked, picture_folder(root, images).find, at=file, name=root.name, lang=lang, size=size, mode=mode,
            file_bytes=file_bytes, max_bad_fraction=max_bad_fraction,
        )  # fmt: skip


def folders(root: Path) -> list[Path]:
    """A folder and those in it, by one listing."""
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder. Expected: the data set's folder (path), its pictures' (images).")
    with os.scandir(root) as entries:
        return [root, *sorted(Path(entry.path) for entry in entries if entry.is_dir())]


def official_file(root: Path, names: list[str]) -> Path:
    """The first of these files that is in a folder or in one below it."""
    for name in names:
        for folder in folders(root):
            if (folder / name).is_file():
                return folder / name
    raise UserError(f"{root}: the file {' or '.join(names)} is not in this folder, nor in one in it.")


def picture_folder(root: Path, images, first: str = "") -> Folder:
    """Finds pictures under `images`, or else under the folder of the questions; in a folder `first` first."""
    found = folders(Path(images) if images else root)
    inner = found[0] / "images"
    return Folder(found[0] / first, inner / first, *found, *(folders(inner)[1:] if inner in found else ()))


def annotated(root: Path, file: Path, needed: bool) -> dict[int, tuple[list[str], str | None]] | None:
    """{question id: (answers, answer_type)} of the annotations that belong to a file of questions; None without."""
    name = file.name.replace("OpenEnded_", "").replace("_questions", "_annotations")
    try:
        notes = official_file(root, [name])
    except UserError:
        if needed:
            raise
        return None
    found = {}
    for number, entry in enumerate(load_list(notes, "annotations", _ANNOTATIONS, _only_the_answer)):
        try:
            key, answers, kind = entry["question_id"], entry["answers"], entry.get("answer_type")
            if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
                raise KeyError("answers")
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{notes}: entry {number} lacks or has a wrong {error}. Expected: {_ANNOTATIONS}.") from None
        found[key] = (answers, kind)
    return found


def load_list(file: Path, key: str, expected: str, hook=None) -> list:
    data = load_json(file, dict, expected, hook)
    if not isinstance(data.get(key), list):
        raise UserError(f"{file}: this is not {expected}.")
    return data[key]


def _only_the_answer(record: dict):
    """{"answer", "answer_confidence", "answer_id"} -> its text, while the file is read: 4.4 M of them never stand in memory."""
    answer = record.get("answer")
    return sys.intern(answer) if isinstance(answer, str) else record


def _without_programs(record: dict) -> dict:
    """A question of GQA without its program and scene graph references, which are most of the file."""
    return {key: record[key] for key in _GQA_KEPT if key in record} if "imageId" in record else record

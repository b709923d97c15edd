"""From an example dictionary to the fixed-shape arrays of a question answerer: a picture, one question about it, its answers.

Letters: H, W pixels, T tokens of a question, A answers kept of a question, K answers that can be given, S sound samples.
"""

import collections
import dataclasses

import numpy as np
from absl import logging

from xmodal_jax.data.augment import augment
from xmodal_jax.data.examples import NAMES, name_ids
from xmodal_jax.data.images import picture_of
from xmodal_jax.errors import UserError
from xmodal_jax.metrics.vqa import answer_scores, normalise_answer
from xmodal_jax.spelling import spelled

KEPT = 10  # annotators of a question in VQA v2
BLIND = ("none", "image", "question")


@dataclasses.dataclass(frozen=True)
class QuestionExamples:
    """How the examples of a question answerer are made.

    Attributes:
      image_size: pixels of the square picture; mode: how it is made square, see `data.images.decode_image`.
      length: tokens of a question (and of a caption) at most.
      tokenizer: "words", "words:N" or "bpe:V" learned from the training questions, else a folder or a name on the hub.
      answers: the most frequent training answers, which can be given; others train nothing.
      zoom, brightness: of training pictures, see `augment`; they are never flipped, for left must stay left.
      caption, sound: a third modality: one of the picture's captions, its sound.
      names: also give the labels and colours of the picture's objects, for the naming objective; of sources that have them.
      blind: "image" or "question" is taken away, as a control: what can be answered from the other alone?
    """

    image_size: int = 128
    mode: str = "resize"
    length: int = 24
    tokenizer: str = "words:1"
    answers: int = 1000
    zoom: float = 1.0
    brightness: float = 0.0
    caption: bool = False
    sound: int = 0
    names: bool = False
    blind: str = "none"

    def __post_init__(self):
        if self.blind not in BLIND:
            raise UserError(f"examples.blind={self.blind!r}: must be one of {', '.join(BLIND)}.")
        if self.zoom < 1 or not 0 <= self.brightness <= 1:
            raise UserError(f"examples.zoom={self.zoom} must be at least 1, examples.brightness={self.brightness} within 0..1.")
        if self.length < 2 or self.answers < 2:
            raise UserError(f"examples.length={self.length} and examples.answers={self.answers}: both must be at least 2.")

    def wanted(self):
        """What a source has to give."""
        fields = ("image", "questions", *["captions"] * self.caption, *["audio"] * bool(self.sound), *["objects"] * self.names)
        return {"size": self.image_size, "mode": self.mode, "fields": fields}


def frequent_answers(source, count):
    """The `count` most frequent training answers, normalised, and the share of questions whose usual answer is one of them."""
    found = collections.Counter()
    for i in range(len(source)):
        for question in source.questions(i):
            if question["answers"]:
                found[usual(question["answers"])] += 1
    if not found:
        raise UserError(f"{getattr(source, 'name', 'The source')} has no answered questions to learn from.")
    kept = [answer for answer, _ in sorted(found.items(), key=lambda item: (-item[1], item[0]))[:count]]
    return kept, sum(found[answer] for answer in kept) / found.total()


def usual(answers):
    """The answer that most people gave, normalised."""
    return collections.Counter(map(normalise_answer, answers)).most_common(1)[0][0]


class QuestionMaker:
    """Maps (example, position) to arrays, deterministic in (seed, position).

    Args:
      tokenizer: of transformers. answers: those that can be given; None: the most frequent of the source's `questions(i)`.
    """

    def __init__(self, config, tokenizer, source, seed=0, answers=None):
        self.config, self.tokenizer, self.seed = config, tokenizer, seed
        if answers is None:
            answers, self.coverage = frequent_answers(source, config.answers)
            logging.info("%d answers can be given: right for %.2f %% of the questions", len(answers), 100 * self.coverage)
        self.answers = answers
        self.numbers = {answer: number for number, answer in enumerate(self.answers)}
        self.vocabulary = len(tokenizer)
        self.pad = tokenizer.pad_token_id or 0
        # A learned tokeniser knows no mark for the start of a text, whose vector can stand for all of it.
        self.start = [] if tokenizer.cls_token_id is not None else [tokenizer.eos_token_id]
        ends = (getattr(tokenizer, f"{name}_token_id") for name in ("cls", "sep", "bos", "eos", "pad"))
        self.marks = [mark for mark in ends if mark is not None]  # around a text, none of its words

    def text(self, words):
        """-> (int32 [T], length []) of a question or a caption."""
        found = [*self.start, *self.tokenizer(spelled(words))["input_ids"]]
        if len(found) > self.config.length:
            found = [*found[: self.config.length - 1], found[-1]]  # the mark at its end stays
        ids = np.full(self.config.length, self.pad, np.int32)
        ids[: len(found)] = found
        return ids, np.int32(len(found))

    def words(self, text):
        """The pieces of a text that `text` makes tokens of."""
        ids, length = self.text(text)
        return [self.tokenizer.decode([i]) for i in ids[:length]]

    def picture(self, example):
        """uint8 [H, W, 3] of an example, a path, the bytes of a file, or an array."""
        return picture_of(example, self.config.image_size, self.config.mode)

    def __call__(self, example, position):
        """-> {"image" uint8 [H, W, 3], "question" int32 [T], "question_length" [], "answers" int32 [A] (-1: none, or one that
        cannot be given), "scores" float32 [A]: accuracy of each}, and "caption", "caption_length", "sound", "names" int32 where
        they are asked for.
        """
        config, rng = self.config, np.random.default_rng((self.seed, position))
        asked = example["questions"]
        question = asked[int(rng.integers(len(asked)))] if asked else {"question": "", "answers": []}
        image = augment(self.picture(example), rng, "none", config.zoom, config.brightness)
        row = self.ask(image, question["question"], example, rng)
        scores = answer_scores(question["answers"]) if question["answers"] else {}
        known = [(self.numbers[answer], score) for answer, score in scores.items() if answer in self.numbers][:KEPT]
        row["answers"], row["scores"] = np.full(KEPT, -1, np.int32), np.zeros(KEPT, np.float32)
        for place, (number, score) in enumerate(known):
            row["answers"][place], row["scores"][place] = number, score
        if config.names:
            words = [thing[kind] for thing in example.get("objects", ()) for kind in ("label", "color") if thing[kind]]
            row["names"] = name_ids(words)
        return row

    def ask(self, image, question, example=None, rng=None):
        """The arrays of a question without its answers. example: gives the third modality."""
        config = self.config
        ids, length = self.text("" if config.blind == "question" else question)
        row = {
            "image": np.zeros_like(image) if config.blind == "image" else image, "question": ids, "question_length": length,
        }  # fmt: skip
        third = [name for name, wanted in (("captions", config.caption), ("audio", config.sound)) if wanted]
        if third and not (isinstance(example, dict) and all(len(example.get(name, ())) for name in third)):
            raise UserError(f"This model also needs {' and '.join(third)}: ask about examples of a source that has them.")
        if config.caption:
            captions = example["captions"]
            row["caption"], row["caption_length"] = self.text(captions[int(rng.integers(len(captions))) if rng else 0])
        if config.sound:
            row["sound"] = np.zeros(config.sound, np.int16)
            heard = example["audio"][: config.sound]
            row["sound"][: len(heard)] = heard
        return row

    def example_batch(self, rows):
        """A batch of zeros with the shapes and types of `rows` examples."""
        size, config = self.config.image_size, self.config
        text = {"question": np.zeros((rows, config.length), np.int32), "question_length": np.ones(rows, np.int32)}
        if config.caption:
            text |= {"caption": text["question"], "caption_length": text["question_length"]}
        names = {"names": np.zeros((rows, NAMES), np.int32)} if config.names else {}
        sound = {"sound": np.zeros((rows, config.sound), np.int16)} if config.sound else {}
        return {
            "image": np.zeros((rows, size, size, 3), np.uint8), **text, **sound, **names,
            "answers": np.zeros((rows, KEPT), np.int32), "scores": np.zeros((rows, KEPT), np.float32),
        }  # fmt: skip

"""A trained question answerer as plain functions of pictures and strings.

Rows are padded to a few batch sizes, so that only the first call of a kind compiles.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from xmodal_jax.decoding.predictor import Predictor, refuse, round_up_rows
from xmodal_jax.errors import UserError
from xmodal_jax.models.gradcam import grad_cam


def submission(predictor, source, rows=128):
    """[{"question_id", "answer"}] for every question of a source, as the VQA evaluation servers take them."""
    asked = [(i, question) for i in range(len(source)) for question in source.questions(i)]
    found = answer_all(predictor, source, asked, rows=rows)
    return [{"question_id": question["id"], "answer": row[0][0]} for (_, question), row in zip(asked, found, strict=True)]


def answer_all(predictor, source, asked, count=1, *, rows):
    """`QuestionPredictor.answers` to all (number of an example, question); pictures are read as they are needed.

    rows: questions at a time. Questions of one picture should follow each other: it is read once then.
    """
    out, start, shown, last = [], time.monotonic(), 0.0, (None, None)
    for first in range(0, len(asked), rows):
        part, images = asked[first : first + rows], []
        for i, _ in part:
            last = last if last[0] == i else (i, source[i])
            images.append(last[1])
        out += predictor.answers(images, [question["question"] for _, question in part], count)
        spent = time.monotonic() - start
        if spent - shown > 10:
            shown, left = spent, spent / len(out) * (len(asked) - len(out))
            logging.info("%d of %d questions answered, %.0f s left", len(out), len(asked), left)
    return out


class QuestionPredictor(Predictor):
    """Answers, and what in the picture they rest on.

    Args: model, params: a `VQA` and its parameters; maker: the `QuestionMaker` of its training. others: as `Predictor`.
    Of a model with a third modality, pictures are examples of a source that has it.
    """

    verbs = ("answer",)
    more = ("answers", "grad_cam", "pairs")

    def write_answers(self, images, questions, returned=1, **settings):
        """The likeliest answers to each picture's question, lists of strings."""
        refuse(settings, "chooses among the answers of its training")
        return [[answer for answer, _ in found] for found in self.answers(images, questions, returned)]

    def answers(self, images, questions, count=5):
        """For each picture and its question the likeliest answers: [(answer, probability), ...], the likeliest first."""
        rows, batch = len(images), self._stack(images, questions)
        best, shares = self._answer(self.params, batch, min(count, len(self.maker.answers)))
        best, shares = np.asarray(best)[:rows], np.asarray(shares)[:rows]
        rows = (zip(*row, strict=True) for row in zip(best, shares, strict=True))
        return [[(self.maker.answers[i], float(p)) for i, p in row] for row in rows]

    def grad_cam(self, image, question, answer=None, layer=None):
        """What in the picture speaks for an answer (None: the likeliest): float32 [h, w], at most 1; `models.grad_cam`."""
        if answer is not None and answer not in self.maker.numbers:
            raise UserError(f"{answer!r} is not among the {len(self.maker.answers)} answers that this model can give.")
        batch = self._stack([image], [question])
        number = self.maker.numbers[answer] if answer is not None else int(self._answer(self.params, batch, 1)[0][0, 0])
        return np.asarray(self._grad_cam(self.params, batch, number, layer))[0]

    def pairs(self, image, question, marks=True):
        """Weights of the pairs of words and places: (words, float32 [words, h, w]); None of a fusion that weighs none.

        Those of the whole picture (a class token's) are left out, and without `marks` those of the marks around the question;
        the weights are shares of all pairs.
        """
        weights = self._pairs(self.params, self._stack([image], [question]))
        if weights is None:
            return None
        ids, length = self.maker.text(question)
        said = np.flatnonzero(marks | ~np.isin(ids[:length], self.maker.marks))
        words, weights = [self.maker.words(question)[place] for place in said], np.asarray(weights)[0][said]
        side = round(weights.shape[1] ** 0.5)
        if side * side != weights.shape[1]:
            return None
        return words, weights.reshape(len(words), side, side)

    def as_example(self, picture):
        """A picture in the form that batches are made of; raises UserError for a file that is none."""
        return picture if isinstance(picture, dict) else self.maker.picture(picture)

    def _stack(self, images, questions):
        made = [self.maker.ask(self.maker.picture(image), text, image) for image, text in zip(images, questions, strict=True)]
        made += made[:1] * (round_up_rows(len(made)) - len(made))
        return {name: np.stack([row[name] for row in made]) for name in made[0]}

    @functools.cached_property
    def _answer(self):
        def answer(params, batch, count):
            shares, best = jax.lax.top_k(jax.nn.softmax(self.model.apply({"params": params}, batch)), count)
            return best, shares

        return jax.jit(answer, static_argnums=2)

    @functools.cached_property
    def _grad_cam(self):
        model = self.model

        def look(params, batch, number, layer):
            def score(variables, mutable):
                logits, kept = model.apply(variables, batch, mutable=mutable)
                return logits[:, number], kept

            encoded = jax.eval_shape(lambda p: model.apply({"params": p}, batch["image"], method="encode_image"), params)
            return grad_cam(score, params, ("image",), None, encoded.class_tokens, layer)

        return jax.jit(look, static_argnums=3)

    @functools.cached_property
    def _pairs(self):
        model = self.model

        def pairs(params, batch):
            _, kept = model.apply({"params": params}, batch, mutable="attention")
            found = kept.get("attention", {}).get("fusion", {})
            if "pairs" not in found:
                return None
            weights = found["pairs"][0][0]  # of question and picture [B, T, N], or of all tokens [B, T + N + ..., ...]
            encoded = model.apply({"params": params}, batch["image"], method="encode_image")
            T, N, first = batch["question"].shape[1], encoded.x.shape[1], encoded.class_tokens
            if weights.shape[1] != T:
                weights = weights[:, :T, T : T + N] + jnp.swapaxes(weights[:, T : T + N, :T], 1, 2)
            return weights[:, :, first:]

        return jax.jit(pairs)

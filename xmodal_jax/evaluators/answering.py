"""Answers to all questions of held-out pictures by the official VQA accuracy, by type, beside what needs no picture."""

import collections

import numpy as np

from xmodal_jax.data.answering import usual
from xmodal_jax.decoding.answers import answer_all
from xmodal_jax.draw.blocks import Candidate, Sample
from xmodal_jax.evaluators import blind
from xmodal_jax.evaluators.held_out import drawn
from xmodal_jax.metrics.vqa import accuracy_by, vqa_accuracy

CANDIDATES = 5  # likeliest answers that a sample shows


class AnsweringEvaluator:
    """Metrics: vqa/accuracy and vqa/accuracy/TYPE; vqa/frequent of the most frequent training answer of the question's type;
    vqa/frequent_for_question of that of the very same words (a perfect model without eyes); vqa/questions.

    Args:
      count: held-out pictures, 0: all.
    """

    def __init__(self, recipe, count=256, rows=128, samples=6):
        self.source = recipe.held_out
        numbers = drawn(self.source, count)
        self.asked = [(i, question) for i in numbers for question in self.source.questions(i) if question["answers"]]
        self.types = [blind.kind_of(question) for _, question in self.asked]
        self.rows, self.shown = rows, samples
        train = recipe.train
        training = [(question, "") for i in range(len(train)) for question in train.questions(i)]
        self.trivial = blind.answers(training, [(question, "") for _, question in self.asked])

    def run(self, predictor):
        if not self.asked:
            return {}, []
        found = answer_all(predictor, self.source, self.asked, CANDIDATES, rows=self.rows)
        values = self.agreement([row[0][0] for row in found])
        scores = accuracy_by(values, self.types)
        results = {"vqa/accuracy": scores.pop("overall"), "vqa/questions": float(len(values))}
        results |= {f"vqa/accuracy/{kind}": value for kind, value in scores.items()}
        results |= {f"vqa/{name}": float(np.mean(self.agreement(answers))) for name, answers in self.trivial.items()}
        return results, [self.sample(predictor, i, found[i], values[i]) for i in self.chosen(values)]

    def agreement(self, answers):
        return [vqa_accuracy(answer, question["answers"]) for answer, (_, question) in zip(answers, self.asked, strict=True)]

    def chosen(self, values):
        """Questions to show: of every type in turn one that was right and one that was wrong, of different pictures."""
        groups, seen, out = collections.defaultdict(list), set(), []
        for i, (value, kind) in enumerate(zip(values, self.types, strict=True)):
            groups[kind, value > 0.5].append(i)
        while len(out) < self.shown and any(groups.values()):
            for group in groups.values():
                while group and self.asked[group[0]][0] in seen:
                    group.pop(0)
                if group and len(out) < self.shown:
                    out.append(group.pop(0))
                    seen.add(self.asked[out[-1]][0])
        return out

    def sample(self, predictor, i, found, value):
        number, question = self.asked[i]
        example = self.source[number]
        heat = [("Grad-CAM", predictor.grad_cam(example, question["question"], found[0][0]))]
        pairs = predictor.pairs(example, question["question"])
        heat += [("weight of the pairs", pairs[1].sum(0))] if pairs else []
        return Sample(
            "answer", image=example["image"], question=question["question"], answer=found[0][0],
            truth=usual(question["answers"]), correct=value > 0.5, lang=example["lang"], id=example["id"], heat=heat,
            candidates=[Candidate(answer, share) for answer, share in found],
        )  # fmt: skip

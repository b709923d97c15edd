"""What the model writes: captions of held-out pictures and answers to their questions."""

import numpy as np

from xmodal_jax.draw.blocks import Sample
from xmodal_jax.evaluators import blind
from xmodal_jax.evaluators.held_out import drawn, parts
from xmodal_jax.metrics.cider import CiderD
from xmodal_jax.metrics.tokens import caption_tokens


class GenerationEvaluator:
    """Metrics: generation/answer_accuracy (min(humans who agree / 3, 1), mean over questions; also /TYPE of each type of
    question that the source tells), beside answer/{frequent, frequent_for_question} of answers without eyes; caption_exact
    (a reference, word for word) and ciderD, beside
    {frequent,random}/ciderD of captions without eyes, in the picture's language.

    Samples: captions beside references, answers beside the truth, relation maps of the reducer.
    """

    def __init__(self, recipe, count=64, rows=64, samples=6, train=2000):
        source = recipe.held_out
        self.examples = [source[i] for i in drawn(source, count)]
        self.asked = [(example, question) for example in self.examples for question in example.get("questions", ())]
        self.asked = self.asked[: 2 * len(self.examples)]
        self.rows, self.shown = rows, samples
        known = range(0, len(recipe.train), -(-len(recipe.train) // train))
        told = [recipe.train.captions(i) for i in known]
        langs = [example["lang"] for example in self.examples]
        self.captions = blind.captions([(texts, lang) for texts, _, lang in told], langs, recipe.config.seed)
        self.answers = {}
        if self.asked:
            training = [(one, told[n][2]) for n, i in enumerate(known) for one in recipe.train.questions(i)]
            self.answers = blind.answers(training, [(question, example["lang"]) for example, question in self.asked])

    def run(self, predictor):
        results, samples = {}, []
        captions = self._captions(predictor)
        exact = [text in example["captions"] for text, example in zip(captions, self.examples, strict=True)]
        results["generation/caption_exact"] = float(np.mean(exact))
        for name, texts in {"": captions, **{f"{kind}/": texts for kind, texts in self.captions.items()}}.items():
            results[f"generation/{name}ciderD"] = self.likeness(texts)
        for example, text, right in list(zip(self.examples, captions, exact, strict=True))[: self.shown]:
            assignment, relation = predictor.relation(example)
            samples.append(
                Sample(
                    "caption",
                    image=example.get("image"),
                    answer=text,
                    references=example["captions"],
                    correct=right,
                    lang=example["lang"],
                    assignment=assignment,
                    relation=relation,
                    id=example["id"],
                )
            )
        if asked := self.asked:
            answers = self._answers(predictor, [e for e, _ in asked], [q["question"] for _, q in asked])
            agree = agreement(answers, asked)
            results["generation/answer_accuracy"] = float(np.mean(agree))
            types = np.array([question.get("type", "") for _, question in asked])
            for one in sorted(set(types) - {""}):
                results[f"generation/answer_accuracy/{one}"] = float(np.mean(np.array(agree)[types == one]))
            results |= {f"generation/answer/{kind}": float(np.mean(agreement(a, asked))) for kind, a in self.answers.items()}
            for (example, question), answer, score in list(zip(asked, answers, agree, strict=True))[::2][: self.shown]:
                samples.append(
                    Sample(
                        "answer",
                        image=example.get("image"),
                        question=question["question"],
                        answer=answer,
                        truth=max(set(question["answers"]), key=question["answers"].count),
                        correct=score >= 1,
                        lang=example["lang"],
                        id=example["id"],
                    )
                )
        return results, samples

    def likeness(self, captions):
        """Mean CIDEr-D."""
        references = [[caption_tokens(text) for text in example["captions"]] for example in self.examples]
        judge = CiderD(references)
        pairs = zip(captions, references, strict=True)
        return float(np.mean([judge.score(caption_tokens(text), own) for text, own in pairs]))

    def _captions(self, predictor):
        """Of every example, in its language."""
        captions, langs = [""] * len(self.examples), [example["lang"] for example in self.examples]
        for lang in dict.fromkeys(langs):
            for numbers in parts(np.flatnonzero(np.array(langs) == lang), self.rows):
                texts = predictor.write_captions([self.examples[i] for i in numbers], lang=lang)
                for i, (text,) in zip(numbers, texts, strict=True):
                    captions[i] = text
        return captions

    def _answers(self, predictor, seconds, questions):
        pairs = zip(parts(seconds, self.rows), parts(questions, self.rows), strict=True)
        return [text for second, asked in pairs for (text,) in predictor.write_answers(second, asked)]


def agreement(answers, asked):
    """min(humans who agree / 3, 1) of each answer."""
    return [min(question["answers"].count(answer) / 3, 1.0) for answer, (_, question) in zip(answers, asked, strict=True)]

"""What the model writes: captions of held-out pictures and answers to their questions."""

import numpy as np

from xmodal_jax.data.examples import caption_prompt
from xmodal_jax.draw.blocks import Sample
from xmodal_jax.evaluators.held_out import drawn, parts


class GenerationEvaluator:
    """Metrics: answer_accuracy (min(humans who agree / 3, 1), mean over questions), caption_exact (a reference, word for word).

    Samples: captions beside references, answers beside the truth, relation maps of the reducer.
    """

    def __init__(self, recipe, count=64, rows=64, samples=6):
        source = recipe.held_out
        self.examples = [source[i] for i in drawn(source, count)]
        self.rows, self.shown = rows, samples

    def run(self, predictor):
        results, samples = {}, []
        prompts = [caption_prompt(example["lang"]) for example in self.examples]
        captions = self._answers(predictor, self.examples, prompts)
        exact = [text in example["captions"] for text, example in zip(captions, self.examples, strict=True)]
        results["generation/caption_exact"] = float(np.mean(exact))
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
        asked = [(example, question) for example in self.examples for question in example.get("questions", ())]
        asked = asked[: 2 * len(self.examples)]
        if asked:
            answers = self._answers(predictor, [e for e, _ in asked], [q["question"] for _, q in asked])
            agree = [min(q["answers"].count(a) / 3, 1.0) for a, (_, q) in zip(answers, asked, strict=True)]
            results["generation/answer_accuracy"] = float(np.mean(agree))
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

    def _answers(self, predictor, seconds, prompts):
        """A caption is the answer to its language's prompt."""
        pairs = zip(parts(seconds, self.rows), parts(prompts, self.rows), strict=True)
        return [text for second, prompt in pairs for (text,) in predictor.write_answers(second, prompt)]

"""Image-text retrieval in the shared space, both ways, on held-out examples with all their captions."""

import numpy as np

from xmodal_jax.draw.blocks import Candidate, Sample
from xmodal_jax.evaluators.held_out import drawn, parts
from xmodal_jax.metrics.retrieval import recall_at_k

WAYS = [f"{way}_r{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)]


class RetrievalEvaluator:
    """Metrics: retrieval/{i2t,t2i}_r{1,5,10}, median ranks, chance_i2t_r1, examples, and gap, the distance between the
    centroids of both modalities' unit vectors (Liang et al., 2022, "Mind the gap"). Equal sentences count as hits.

    mean_recall, in percent, is the mean of the six recalls as the field counts them: captions as they are listed, only a
    picture's own are hits, so that an equal sentence of another picture is a miss; mean_recall_equal, of the six above.
    """

    def __init__(self, recipe, count=256, rows=64, samples=4):
        source = recipe.held_out
        self.examples = [source[i] for i in drawn(source, count)]
        self.rows, self.shown = rows, samples

    def run(self, predictor):
        listed = [(i, text) for i, example in enumerate(self.examples) for text in example["captions"]]
        told = list(dict.fromkeys(text for _, text in listed))  # each sentence has one vector: equal ones tie exactly
        v = np.concatenate([predictor.pooled(seconds=part)[0] for part in parts(self.examples, self.rows)])
        u = np.concatenate([predictor.pooled(texts=part)[1] for part in parts(told, self.rows)])
        number = {text: n for n, text in enumerate(told)}

        def columns(pairs):
            return [number[text] for _, text in pairs], np.array([i for i, _ in pairs])

        every = v.astype(np.float64) @ u.T  # [pictures, sentences]
        chosen, owners = columns(listed)
        strict = recall_at_k(every[:, chosen], owners)
        distinct = list(dict.fromkeys(listed))
        (chosen, owners), texts = columns(distinct), [text for _, text in distinct]
        scores = every[:, chosen]
        found = recall_at_k(scores, owners, equal=texts)
        for name, recalls in (("mean_recall", strict), ("mean_recall_equal", dict(found))):
            found[name] = 100 * float(np.mean([recalls[way] for way in WAYS]))
        found["chance_i2t_r1"] = float(np.mean(np.bincount(owners))) / len(texts)
        found["gap"] = float(np.linalg.norm(v.mean(0) - u[chosen].mean(0)))
        found["examples"] = len(self.examples)
        return {f"retrieval/{name}": value for name, value in found.items()}, self._samples(scores, texts, owners)

    def _samples(self, scores, texts, owners):
        out = []
        for i in range(min(self.shown, len(self.examples))):
            example, order = self.examples[i], np.argsort(-scores[i], kind="stable")[:5]
            own = {texts[j] for j in np.flatnonzero(owners == i)}
            ranked = [Candidate(texts[j], float(scores[i, j]), texts[j] in own) for j in order]
            out.append(
                Sample(
                    "retrieval",
                    image=example.get("image"),
                    candidates=ranked,
                    correct=bool(ranked[0].right),
                    lang=example["lang"],
                    references=list(own),
                    id=example["id"],
                )
            )
        return out

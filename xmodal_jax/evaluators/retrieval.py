"""Image-text retrieval in the shared space, both ways, on held-out examples with all their captions."""

import numpy as np

from xmodal_jax.draw.blocks import Candidate, Sample
from xmodal_jax.evaluators.held_out import drawn, parts
from xmodal_jax.metrics.retrieval import recall_at_k


class RetrievalEvaluator:
    """Metrics: retrieval/{i2t,t2i}_r{1,5,10}, median ranks, chance_i2t_r1, examples, and gap, the distance between the
    centroids of both modalities' unit vectors (Liang et al., 2022, "Mind the gap"). Equal sentences count as hits."""

    def __init__(self, recipe, count=256, rows=64, samples=4):
        source = recipe.held_out
        self.examples = [source[i] for i in drawn(source, count)]
        self.rows, self.shown = rows, samples

    def run(self, predictor):
        seconds, texts, owners = [], [], []
        for i, example in enumerate(self.examples):
            seconds.append(example)
            distinct = list(dict.fromkeys(example["captions"]))
            texts += distinct
            owners += [i] * len(distinct)
        v = np.concatenate([predictor.pooled(seconds=part)[0] for part in parts(seconds, self.rows)])
        u = np.concatenate([predictor.pooled(texts=part)[1] for part in parts(texts, self.rows)])
        scores = v.astype(np.float64) @ u.T
        found = recall_at_k(scores, owners, equal=texts)
        found["chance_i2t_r1"] = float(np.mean(np.bincount(owners))) / len(texts)
        found["gap"] = float(np.linalg.norm(v.mean(0) - u.mean(0)))
        found["examples"] = len(self.examples)
        return {f"retrieval/{name}": value for name, value in found.items()}, self._samples(scores, texts, np.array(owners))

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

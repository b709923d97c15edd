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

    Where the model attends, each query's best `reranked` by their vectors are put in order by the mean of that cosine and the
    attended similarity; mean_recall_vectors is without that.
    """

    def __init__(self, recipe, count=256, rows=64, samples=4, reranked=100):
        source = recipe.held_out
        self.examples = [source[i] for i in drawn(source, count)]
        self.rows, self.shown, self.reranked = rows, samples, reranked

    def run(self, predictor):
        listed = [(i, text) for i, example in enumerate(self.examples) for text in example["captions"]]
        told = list(dict.fromkeys(text for _, text in listed))  # each sentence has one vector: equal ones tie exactly
        number = {text: n for n, text in enumerate(told)}
        seen = [self._seen(predictor, part) for part in parts(self.examples, self.rows)]
        v = np.concatenate([part["vector"] for part in seen])
        u = np.concatenate([predictor.pooled(texts=part)[1] for part in parts(told, self.rows)])
        vectors = v.astype(np.float64) @ u.T  # [pictures, sentences]
        ranked = self._ranked(predictor, vectors, told, [part.get("regions") for part in seen])

        def columns(pairs):
            return [number[text] for _, text in pairs], np.array([i for i, _ in pairs])

        def recalls(ways, pairs, equal=None):
            """Recalls of scores from pictures and scores from texts, both [pictures, sentences]."""
            chosen, owners = columns(pairs)
            found = recall_at_k(ways[0][:, chosen], owners, equal=equal)
            if ways[1] is not ways[0]:
                other = recall_at_k(ways[1][:, chosen], owners, equal=equal)
                found |= {name: other[name] for name in other if name.startswith("t2i")}
            return found

        distinct = list(dict.fromkeys(listed))
        texts = [text for _, text in distinct]
        found = recalls(ranked, distinct, texts)
        means = {"mean_recall": recalls(ranked, listed), "mean_recall_equal": dict(found)}
        if predictor_attends(predictor):
            means["mean_recall_vectors"] = recalls((vectors, vectors), listed)
        for name, values in means.items():
            found[name] = 100 * float(np.mean([values[way] for way in WAYS]))
        chosen, owners = columns(distinct)
        scores = ranked[0][:, chosen]
        found["chance_i2t_r1"] = float(np.mean(np.bincount(owners))) / len(texts)
        found["gap"] = float(np.linalg.norm(v.mean(0) - u[chosen].mean(0)))
        found["examples"] = len(self.examples)
        return {f"retrieval/{name}": value for name, value in found.items()}, self._samples(scores, texts, owners)

    def _seen(self, predictor, part):
        """Vectors of pictures, and their regions where the model attends."""
        return predictor.seen(part) if predictor_attends(predictor) else {"vector": predictor.pooled(seconds=part)[0]}

    def _ranked(self, predictor, vectors, told, regions):
        """What pictures, and what texts are ranked by, both [pictures, sentences]."""
        if not predictor_attends(predictor):
            return vectors, vectors
        words = [predictor.words(part) for part in parts(told, self.rows)]
        attended = np.concatenate([np.concatenate([predictor.attended(*word, part) for word in words]).T for part in regions])
        return reranked(vectors, attended, self.reranked), reranked(vectors.T, attended.T, self.reranked).T

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


def predictor_attends(predictor):
    """Whether a model compares words and regions too."""
    return getattr(predictor, "attends", False)


def reranked(vectors, attended, count):
    """[queries, candidates] cosines of vectors, of which each query's best `count` come first, by the mean of both scores."""
    best = np.argsort(-vectors, axis=1, kind="stable")[:, :count]
    out = vectors - 2  # below all that are looked at again
    mixed = (np.take_along_axis(vectors, best, axis=1) + np.take_along_axis(attended, best, axis=1)) / 2
    np.put_along_axis(out, best, mixed, axis=1)
    return out

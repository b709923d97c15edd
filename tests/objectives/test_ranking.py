"""Losses of a square of similarities against loops in float64."""

import numpy as np
import pytest

from xmodal_jax.errors import UserError
from xmodal_jax.models.vectors import unit
from xmodal_jax.objectives import check
from xmodal_jax.objectives.ranking import both_ways

B, P, MARGIN = 8, 5, 0.3


def one_way(scores, config, present, same):
    """Loss of each row by hand; scores: of the row's own direction."""
    out = []
    for b in range(B):
        others = [c for c in range(B) if c != b and present[c] and not same[b, c]]
        if config["loss"] == "infonce":
            shown = np.array([scores[b, c] for c in [b, *others]])
            out.append(np.log(np.exp(shown - shown[0]).sum()))
            continue
        if not others:
            out.append(0.0)
            continue
        if config["negatives"] == "random":
            negative = min(others, key=lambda c: (c - b) % B)
        elif config["negatives"] == "hardest":
            negative = max(others, key=lambda c: scores[b, c])
        else:
            easier = [c for c in others if scores[b, c] < scores[b, b]]
            negative = max(easier, key=lambda c: scores[b, c]) if easier else min(others, key=lambda c: scores[b, c])
        out.append(max(0.0, config["margin"] - scores[b, b] + scores[b, negative]))
    return np.array(out)


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
@pytest.mark.parametrize("negatives", ["infonce", "random", "semi-hard", "hardest"])
@pytest.mark.parametrize("kind", ["all", "some", "same", "one"])
def test_both_directions_by_hand(rng, similarity, negatives, kind):
    loss = "infonce" if negatives == "infonce" else "triplet"
    config = {"loss": loss, "similarity": similarity, "margin": MARGIN} | (
        {"negatives": negatives} if loss == "triplet" else {}
    )
    u, v = np.array(unit(rng.normal(size=(2, B, P)).astype(np.float32)))
    v[:3] = u[:3]  # rows with and without a loss
    present = {"some": [1, 0, 1, 1, 0, 1, 1, 1], "one": [0, 0, 0, 1, 0, 0, 0, 0]}.get(kind, [1] * B)
    group = rng.integers(0, 3, B) if kind == "same" else np.arange(B)
    same = group[:, None] == group
    found = both_ways(u @ v.T, 3.0, np.float32(present), config, same if kind == "same" else None)
    scores = u.astype(np.float64) @ v.T
    if similarity == "euclidean":
        scores = -np.linalg.norm(u[:, None].astype(np.float64) - v[None], axis=-1)
    scale = 3.0 if loss == "infonce" else 1.0
    for sum_, wanted in zip(found, (scores, scores.T), strict=False):
        expected = one_way(scale * wanted, config, present, same) @ present
        # The distance of equal vectors is not quite 0, so that it has a gradient.
        np.testing.assert_allclose(
            sum_.total, expected, rtol=1e-5, atol=2e-3 * scale * B if similarity == "euclidean" else 1e-5
        )
        assert sum_.weight == sum(present)


@pytest.mark.parametrize("loss", ["smoothed", "sigmoid"])
def test_aligns_smoothing_and_siglips_sigmoid_by_hand(rng, loss):
    """Columns that are absent, or alike, count in neither."""
    u, v = np.array(unit(rng.normal(size=(2, B, P)).astype(np.float32)))
    present, group, scale, offset = np.array([1, 1, 0, 1, 1, 1, 0, 1]), np.array([0, 1, 2, 0, 4, 5, 6, 7]), 4.0, -1.5
    same = group[:, None] == group
    config = {"loss": "sigmoid"} if loss == "sigmoid" else {"loss": "infonce", "smoothing": 0.1}
    found = both_ways(u @ v.T, scale, np.float32(present), config, same, offset)
    for sum_, cosines in zip(found, (u @ v.T, v @ u.T), strict=False):
        values, scores = [], scale * np.float64(cosines) + offset
        for b in np.flatnonzero(present):
            columns = [c for c in range(B) if present[c] and (c == b or not same[b, c])]
            if loss == "sigmoid":
                values.append(sum(np.log1p(np.exp(-scores[b, c] if c == b else scores[b, c])) for c in columns))
            else:
                logp = scores[b, columns] - np.log(np.exp(scores[b, columns]).sum())
                target = np.array([0.9 * (c == b) + 0.1 / len(columns) for c in columns])
                values.append(-(target * logp).sum())
        np.testing.assert_allclose(sum_.mean(), np.mean(values), rtol=1e-5)


def test_unknown_names_are_told_before_training():
    class Model:
        encode_image = encode_text = scale = None

    for name, value in (("loss", "triplets"), ("negatives", "hard"), ("similarity", "dot")):
        with pytest.raises(UserError, match=f"objectives.contrastive.{name}='{value}': must be one of"):
            check(Model(), {"contrastive": {name: value}})

"""The answering losses against float64 closed forms, on verbs that return given logits."""

import jax
import numpy as np
import pytest

from xmodal_jax.errors import UserError
from xmodal_jax.models.vqa import Answered
from xmodal_jax.objectives import OBJECTIVES

B, K, A = 6, 9, 10


class Given:
    """Verbs that return the logits they were made with, and note what is fused."""

    def __init__(self, logits):
        self.logits, self.fused = logits, None

    def encode_image(self, images):
        return "image"

    def encode_text(self, ids, length):
        return ("text", ids.shape[1])

    def encode_sound(self, samples):
        return "sound"

    def fuse(self, sources):
        self.fused = sources
        return Answered(None, self.logits)


@pytest.fixture
def batch(rng):
    """Questions with one to four answers; of the last none can be given."""
    answers, scores = np.full((B, A), -1, np.int32), np.zeros((B, A), np.float32)
    for row in range(B - 1):
        count = int(rng.integers(1, 5))
        answers[row, :count] = rng.permutation(K)[:count]
        scores[row, :count] = rng.uniform(0.1, 1, count)
    return {
        "image": np.zeros((B, 1, 1, 3), np.uint8), "question": np.zeros((B, 4), np.int32),
        "question_length": np.ones(B, np.int32), "answers": answers, "scores": scores,
    }  # fmt: skip


def run(logits, batch, **config):
    return OBJECTIVES["answering"](Given(logits), batch, jax.random.PRNGKey(0), config)


@pytest.mark.parametrize("targets", ["soft", "hard", "binary"])
def test_each_loss_is_its_formula(rng, batch, targets):
    logits = rng.normal(size=(B, K)).astype(np.float32)
    loss, metrics = run(logits, batch, targets=targets)
    f = logits.astype(np.float64)
    logp = f - np.log(np.exp(f).sum(1, keepdims=True))
    total, weight, agreed = 0.0, 0, 0.0
    for row in range(B):
        s = {int(a): float(x) for a, x in zip(batch["answers"][row], batch["scores"][row], strict=True) if a >= 0}
        agreed += s.get(int(f[row].argmax()), 0.0)
        if targets == "binary":
            sigma = 1 / (1 + np.exp(-f[row]))
            total -= sum(s.get(a, 0) * np.log(sigma[a]) + (1 - s.get(a, 0)) * np.log(1 - sigma[a]) for a in range(K))
            weight += 1
        elif s:
            shares = s if targets == "soft" else {max(s, key=s.get): 1.0}
            total -= sum(x * logp[row, a] for a, x in shares.items()) / sum(shares.values())
            weight += 1
    np.testing.assert_allclose(loss.total, total, rtol=1e-5)
    assert loss.weight == weight == (B if targets == "binary" else B - 1)
    np.testing.assert_allclose(metrics["answer_accuracy"].mean(), agreed / B, rtol=1e-5)


def test_a_hard_target_is_the_answer_of_most_people_wherever_it_stands():
    """By hand: p = (0.1, 0.2, 0.7). Best are 2, then 1, beside which stands what cannot be given, then the first of equals."""
    logits = np.log(np.array([[0.1, 0.2, 0.7]] * 3, np.float32))
    batch = {
        "image": np.zeros((3, 1, 1, 3), np.uint8), "question": np.zeros((3, 4), np.int32),
        "question_length": np.ones(3, np.int32), "answers": np.array([[0, 1, 2], [-1, 1, -1], [1, 2, -1]], np.int32),
        "scores": np.array([[0.3, 0.6, 1.0], [0.9, 0.3, 0.0], [0.6, 0.6, 0.0]], np.float32),
    }  # fmt: skip
    loss, _ = run(logits, batch, targets="hard")
    np.testing.assert_allclose(loss.total, -np.log(0.7) - np.log(0.2) - np.log(0.2), rtol=1e-5)
    soft = -(0.3 * np.log(0.1) + 0.6 * np.log(0.2) + np.log(0.7)) / 1.9 - np.log(0.2) - (np.log(0.2) + np.log(0.7)) / 2
    np.testing.assert_allclose(run(logits, batch)[0].total, soft, rtol=1e-5)  # soft unless told


def test_modalities_are_fused_in_order(batch):
    more = {
        "caption": np.zeros((B, 7), np.int32), "caption_length": np.ones(B, np.int32), "sound": np.zeros((B, 5), np.int16),
    }  # fmt: skip
    for extra, wanted in (({}, []), (more, [("text", 7), "sound"])):
        verbs = Given(np.zeros((B, K), np.float32))
        OBJECTIVES["answering"](verbs, {**batch, **extra}, None, {})
        assert verbs.fused == [("text", 4), "image", *wanted]


def test_other_targets_are_refused(batch):
    with pytest.raises(UserError, match="targets='softer'"):
        run(np.zeros((B, K), np.float32), batch, targets="softer")

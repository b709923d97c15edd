"""Losses against float64 closed forms, on verbs that return given arrays."""

import types

import jax
import numpy as np
import pytest

from xmodal_jax import objectives
from xmodal_jax.data.examples import ANSWER, CAPTION, FILL
from xmodal_jax.errors import UserError
from xmodal_jax.models import CrossmodalBytes
from xmodal_jax.models.crossmodal_bytes import Tokens
from xmodal_jax.objectives import OBJECTIVES
from xmodal_jax.objectives.sums import Sum, weighted

B, S, V = 6, 8, 384


class Given:
    """Verbs that return the arrays they were made with."""

    def __init__(self, logits=None, text=None, second=None, scale=3.0, names=None):
        self.logits, self.text, self.second, self.factor, self.names = logits, text, second, scale, names

    def encode_text(self, ids, segments=None):
        return Tokens(None, None, self.text, None)

    def encode_image(self, raw, length):
        return Tokens(None, None, self.second, None, names=self.names)

    def fuse(self, text, second):
        return None

    def decode(self, inputs, fused):
        return self.logits, None

    def scale(self):
        return self.factor


@pytest.fixture
def batch(rng):
    """Two rows of each task; targets of two masked words (sentinels 259 and 260), random lengths, zeros behind."""
    target = rng.integers(3, 259, (B, S)).astype(np.int32)
    target[:, 0], target[:, 3] = 259, 260
    for row in target:
        size = int(rng.integers(5, S + 1))
        row[size - 1], row[size:] = 1, 0
    task = np.array([FILL, CAPTION, ANSWER, FILL, CAPTION, ANSWER], np.int32)
    empty = np.zeros((B, 1), np.int32)
    return {
        "text": empty, "segments": empty, "caption": empty, "second": empty, "inputs": empty,
        "second_length": np.array([1, 0, 5, 9, 0, 2]), "target": target, "task": task,
    }  # fmt: skip


def log_softmax(scores):
    scores = np.asarray(scores, np.float64)
    shifted = scores - scores.max(-1, keepdims=True, initial=-1e9)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def expected_bytes(logits, target, counted, smoothing=0.0):
    """(total, weight, right) by a plain loop over bytes."""
    total = weight = right = 0.0
    for b, s in zip(*np.nonzero(counted), strict=True):
        logp = log_softmax(logits[b, s])
        aim = np.full(V, smoothing / V)
        aim[target[b, s]] += 1 - smoothing
        total -= (aim * logp).sum()
        weight += 1
        right += np.argmax(logits[b, s]) == target[b, s]
    return total, weight, right


def run(name, verbs, batch, **config):
    return OBJECTIVES[name](verbs, batch, jax.random.PRNGKey(0), config)


def close(ours, theirs):
    np.testing.assert_allclose(float(ours), theirs, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(
    ("name", "tasks", "share"),
    [
        ("masked_words", (FILL,), "masked_byte"), ("generation", (CAPTION, ANSWER), "generated_byte"),
        ("answer_bytes", (ANSWER,), "answered_byte"),
    ],
)  # fmt: skip
def test_cross_entropy_over_the_bytes_of_its_tasks(rng, batch, name, tasks, share, smoothing):
    logits, target = rng.normal(0, 3, (B, S, V)).astype(np.float32), batch["target"]
    np.put_along_axis(logits, target[..., None], np.where(rng.random((B, S, 1)) < 0.5, 20, 0).astype(np.float32), -1)
    counted = (target != 0) & np.isin(batch["task"], tasks)[:, None]
    counted &= target < 259  # sentinels are given
    loss, metrics = run(name, Given(logits), batch, label_smoothing=smoothing)
    total, weight, right = expected_bytes(logits, target, counted, smoothing)
    assert isinstance(loss, Sum) and counted.any()
    close(loss.total, total)
    close(loss.weight, weight)
    close(loss.mean(), total / weight)
    byte = metrics[share]
    close(byte.total, right)
    close(byte.weight, weight)


@pytest.mark.parametrize(("name", "owed"), [("generation", ("caption", "answer")), ("answer_bytes", ("answer",))])
def test_what_rows_owe_beside_is_counted_with_rows_of_the_task_where_there_is_a_picture(rng, batch, name, owed):
    """Each target with logits of its own, by what is asked for it; rows 1 and 4 have no picture. The caption that stands beside
    is as long as a row's own: its things have no gaps."""
    tasks = {"generation": (CAPTION, ANSWER), "answer_bytes": (ANSWER,)}[name]
    asked = {"caption": "prompt", "answer": "question"}
    targets = {"text": batch["target"], "caption": rng.permuted(batch["target"]), "answer": rng.permuted(batch["target"])}
    logits = {key: rng.normal(0, 3, (B, S, V)).astype(np.float32) for key in targets}
    numbers = {"text": 0, "caption": 1, "answer": 2}
    ids = {("text" if key == "text" else asked[key]): np.full((B, 1), n, np.int32) for key, n in numbers.items()}
    full = batch | ids | {"caption": targets["caption"], "told": targets["caption"], "answer": targets["answer"]}

    class Each(Given):
        def encode_text(self, ids, segments=None):
            return int(ids[0, 0])

        def fuse(self, text, second):
            return text

        def once(self, function, *arrays):
            return function(*arrays)

        def decode(self, inputs, fused):
            key = [*numbers][fused]
            if key != "text":
                np.testing.assert_array_equal(inputs, np.pad(targets[key], ((0, 0), (1, 0)))[:, :-1])
            return logits[key], None

    loss, metrics = run(name, Each(), full)
    counted = {
        "text": np.isin(batch["task"], tasks),
        "caption": batch["second_length"] > 0,
        "answer": batch["second_length"] > 0,
    }
    sums = [
        expected_bytes(logits[key], targets[key], (targets[key] != 0) & (targets[key] < 259) & counted[key][:, None])
        for key in ("text", *owed)
    ]
    close(loss.total, sum(part[0] for part in sums))
    close(loss.weight, sum(part[1] for part in sums))
    (byte,) = metrics.values()
    close(byte.total, sum(part[2] for part in sums))


def test_things_of_a_caption_fill_the_gaps_of_its_prompt_in_the_better_order(rng, batch):
    """Row by row, by the names of what the gaps are associated with; the marks of the gaps are written, not given."""
    told, names = batch["target"], rng.integers(0, 7, (B, 2)).astype(np.int32)  # marks 259 at 0 and 260 at 3
    names[2, 1], names[3] = -1, -1  # one thing, none
    heard = rng.normal(0, 3, (B, 4, 7)).astype(np.float32)
    tokens = np.tile(np.array([-1, 0, 1, -1]), (B, 1))
    first, second = log_softmax(heard[:, 1]), log_softmax(heard[:, 2])
    cost = np.zeros((B, 2))
    for row, (one, other) in enumerate(names):
        for order, pair in enumerate(((first, second), (second, first))):
            cost[row, order] -= (pair[0][row, one] if one >= 0 else 0) + (pair[1][row, other] if other >= 0 else 0)
    crossed = cost[:, 1] < cost[:, 0]
    ids = np.where(crossed[:, None], np.where(told == 259, 260, np.where(told == 260, 259, told)), told)
    logits = rng.normal(0, 3, (B, S, V)).astype(np.float32)
    full = batch | {"text": np.zeros((B, 1), np.int32), "prompt": np.ones((B, 1), np.int32), "told": told, "told_names": names}
    full["task"] = np.full(B, FILL, np.int32)

    class Each(Given):
        def encode_text(self, ids, segments=None):
            return None

        def fuse(self, text, second):
            return types.SimpleNamespace(gaps=tokens, taken="taken")

        def name_words(self, taken):
            return heard if taken == "taken" else None

        def once(self, function, *arrays):
            return function(*arrays)

        def decode(self, inputs, fused):
            if inputs.shape[1] == S:
                np.testing.assert_array_equal(inputs, np.pad(ids, ((0, 0), (1, 0)))[:, :-1])
            return logits, None

    loss, _ = run("generation", Each(), full)
    there = batch["second_length"] > 0
    total, weight, _ = expected_bytes(logits, ids, (told != 0) & there[:, None])
    close(loss.total, total)
    close(loss.weight, weight)
    for key in ("caption_names", "text_names", "caption_attributes"):
        full.pop(key, None)
    loss, _ = run("grounding", Each(), full)
    close(loss.total, cost.min(1)[there].sum())
    close(loss.weight, (names >= 0)[there].sum())


def test_masked_word_counts_rows_whose_every_byte_is_right(rng, batch):
    target = batch["target"]
    logits = np.zeros((B, S, V), np.float32)
    np.put_along_axis(logits, target[..., None], 5, -1)
    logits[:, [0, 3]] = rng.normal(size=(B, 2, V))  # what stands at sentinels does not count
    logits[0, 1, (target[0, 1] + 1) % V] = 9  # one wrong byte in the first fill row
    word = run("masked_words", Given(logits), batch)[1]["masked_word"]
    assert (float(word.total), float(word.weight)) == (1.0, 2.0)


def test_what_lies_in_the_padding_or_in_rows_of_other_tasks_has_no_influence(rng, batch):
    logits, target = rng.normal(size=(B, S, V)).astype(np.float32), batch["target"]
    for name, tasks in (("masked_words", (FILL,)), ("generation", (CAPTION, ANSWER))):
        other = logits.copy()
        other[target == 0], other[~np.isin(batch["task"], tasks)] = 7 * rng.normal(size=V), -3 * rng.normal(size=V)
        close(run(name, Given(other), batch)[0].total, float(run(name, Given(logits), batch)[0].total))


def test_a_batch_without_rows_of_the_task_costs_nothing(rng, batch):
    logits = rng.normal(size=(B, S, V)).astype(np.float32)
    loss, metrics = run("generation", Given(logits), batch | {"task": np.full(B, FILL)})
    assert float(loss.total) == float(loss.weight) == float(loss.mean()) == float(metrics["generated_byte"].mean()) == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_large_logits_do_not_overflow(batch, smoothing):
    logits = np.zeros((B, S, V), np.float32)
    logits[..., 5] = 200
    assert np.isfinite(run("masked_words", Given(logits), batch, label_smoothing=smoothing)[0].total)


@pytest.mark.parametrize("present", [[1, 1, 1, 1, 1, 1], [1, 0, 5, 9, 0, 2], [0, 0, 0, 4, 0, 0], [0] * 6])
def test_contrastive_is_info_nce_over_the_rows_with_a_second_modality(rng, batch, present):
    u, v = (rng.normal(size=(B, 5)) for _ in range(2))
    u, v = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (u, v))
    there = np.flatnonzero(present)
    scores = 3.0 * u[there] @ v[there].T
    total = -(np.trace(log_softmax(scores)) + np.trace(log_softmax(scores.T))) / 2
    verbs = Given(text=u.astype(np.float32), second=v.astype(np.float32))
    loss, metrics = run("contrastive", verbs, batch | {"second_length": np.array(present)})
    close(loss.total, total)
    close(loss.weight, len(there))
    right = metrics["contrastive_right"]
    close(right.total, (scores.argmax(-1) == np.arange(len(there))).sum() if len(there) else 0)
    close(right.weight, len(there))


def test_second_vectors_are_compared_too(rng):
    """By a temperature of their own; the loss is the mean of both, the metric that of the first."""
    vectors = {name: rng.normal(size=(B, 5)) for name in ("u", "v", "u_again", "v_again")}
    rows = {name: np.float32(x / np.linalg.norm(x, axis=-1, keepdims=True)) for name, x in vectors.items()}
    verbs = types.SimpleNamespace(scale=lambda again=False: 7.0 if again else 3.0)
    there = {"present": np.ones(B, np.float32)}
    loss, metrics = OBJECTIVES["contrastive"].compare(verbs, rows | there, {"again": True})
    scores = [3.0 * np.float64(rows["u"]) @ rows["v"].T, 7.0 * np.float64(rows["u_again"]) @ rows["v_again"].T]
    close(loss.mean(), np.mean([-(np.trace(log_softmax(s)) + np.trace(log_softmax(s.T))) / 2 / B for s in scores]))
    close(metrics["contrastive_right"].total, (scores[0].argmax(-1) == np.arange(B)).sum())


def test_naming_is_the_mean_over_the_words_of_each_picture(rng, batch):
    logits = rng.normal(0, 2, (B, 30)).astype(np.float32)
    names = np.stack([rng.choice(30, 4, replace=False) for _ in range(B)]).astype(np.int32)
    names[0, 2:], names[3] = -1, -1  # two words; none, though there is a picture
    logits[2, names[2, 1]] = 50
    counted = [b for b in range(B) if batch["second_length"][b] and (names[b] >= 0).any()]
    own = [names[b][names[b] >= 0] for b in range(B)]
    logp = log_softmax(logits)
    loss, metrics = run("naming", Given(names=logits), batch | {"names": names})
    close(loss.total, -sum(logp[b, own[b]].mean() for b in counted))
    close(loss.weight, len(counted))
    close(metrics["named"].total, sum(logits[b].argmax() in own[b] for b in counted))
    close(metrics["named"].weight, len(counted))


@pytest.mark.parametrize("window", [1, 3])
def test_grounding_is_the_mean_over_bytes_of_words_and_gaps(rng, batch, window):
    """Of captions and of masked texts; a text token of several bytes has the name that one of them has."""
    lengths, words = {"caption": 6, "text": 9}, 7
    logits = {name: rng.normal(0, 2, (B, n // window, words)).astype(np.float32) for name, n in lengths.items()}
    names = {name: np.where(rng.random((B, n)) < 0.5, rng.integers(0, words, (B, n)), -1) for name, n in lengths.items()}
    if window > 1:  # a word's bytes in one token are of one word
        names = {name: np.repeat(own[:, ::window], window, 1) for name, own in names.items()}
    batch = batch | {name: np.zeros((B, n), np.int32) for name, n in lengths.items()}
    batch |= {f"{name}_names": own.astype(np.int32) for name, own in names.items()}
    if window == 1:  # attributes are told as well
        batch["caption_attributes"] = np.where(rng.random((B, 6)) < 0.3, rng.integers(0, words, (B, 6)), -1).astype(np.int32)

    class Naming(Given):
        def encode_text(self, ids, segments=None):
            return "caption" if segments is None else "text"

        def fuse(self, text, second):
            return types.SimpleNamespace(taken=text)

        def name_words(self, taken):
            return logits[taken]

        def name_attributes(self, taken):
            return -logits[taken]

    loss, metrics = run("grounding", Naming(), batch, attributes=0.25)
    total = weight = 0
    parts = {"grounded_caption": ("caption", 1, names["caption"]), "grounded_masked": ("text", 1, names["text"])}
    if window == 1:
        parts["grounded_attributes"] = ("caption", -1, batch["caption_attributes"])
    assert set(metrics) == set(parts)
    for label, (name, sign, wanted_names) in parts.items():
        told, right = log_softmax(sign * logits[name]), []
        for b in range(B):
            for token, wanted in enumerate(wanted_names[b, ::window]):
                if wanted >= 0 and batch["second_length"][b]:
                    share = 0.25 if label == "grounded_attributes" else 1
                    total, weight = total - share * told[b, token, wanted], weight + share
                    right.append((sign * logits[name][b, token]).argmax() == wanted)
        close(metrics[label].total, sum(right))
        close(metrics[label].weight, len(right))
    close(loss.total, total)
    close(loss.weight, weight)


def test_weighted_sums_add_up_over_parts(rng):
    values, weights = rng.normal(size=(6, 3)).astype(np.float32), rng.random((6, 1)).astype(np.float32)
    whole, parts = weighted(values, weights), [weighted(values[i::2], weights[i::2]) for i in range(2)]
    close(whole.total, (values.astype(np.float64) * weights).sum())
    close(whole.weight, 3 * weights.sum())
    close(sum(float(part.total) for part in parts), float(whole.total))


def test_objectives_are_checked_against_the_model_before_training():
    class TextOnly:
        def encode_text(self):
            pass

    model, some = CrossmodalBytes(grounded=True), {"weight": 1.0}
    others = {"attended", "referring", "boxes"}  # which a composed model has, and a taught one
    others |= {name for name, own in OBJECTIVES.items() if "predict" in own.needs or own.taught}
    objectives.check(model, dict.fromkeys(set(OBJECTIVES) - others, some))
    for asked, told, of in (
        ({"masked_word": some}, "masked_word is unknown.*masked_words", model),
        ({"masked_words": {"weight": 0.0}}, "nothing to train", model),
        ({"attended": some}, "needs attend,", model),
        ({"contrastive": some}, "needs encode_image.*TextOnly offers only encode_text", TextOnly()),
    ):
        with pytest.raises(UserError, match=told):
            objectives.check(of, asked)

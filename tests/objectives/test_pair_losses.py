"""Losses of fused pairs against loops in float64, and the transport against the exact linear programme."""

import jax
import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.special import log_softmax

from tests.objectives.test_objectives import close
from xmodal_jax.data.pair_examples import PAIR, TEXT
from xmodal_jax.errors import UserError
from xmodal_jax.models.backbones.encoded import Encoded
from xmodal_jax.models.interactions.fused import Fused
from xmodal_jax.objectives import OBJECTIVES, match_hard
from xmodal_jax.objectives.alignment import transport, transported
from xmodal_jax.objectives.chosen import Chosen, taken

B, T, N, D, K, V, F, C = 5, 7, 6, 4, 3, 9, 8, 5


class Given:
    """Verbs of a model whose interaction and heads give what they are told."""

    def __init__(self, rng):
        def draw(*shape):
            return rng.normal(size=shape).astype(np.float32)

        self.pair, self.pooled = Fused(draw(B, T, D), draw(B, N, D), None, np.ones((B, N), bool), None), draw(B, 2)
        self.written = draw(B, T, V)
        self.features, self.seen = draw(B, N - 1, F), []
        self.heads = {"words": draw(D, V), "classes": draw(D, C), "features": draw(D, F), "detector": draw(F, C)}
        self.heads["attributes"] = draw(D, C)

    def encode_image(self, image, regions=None):
        return Encoded(image, None, features=self.features, class_tokens=1)

    def encode_text(self, ids, length, seen=None):
        self.seen.append(ids)
        return Encoded(ids, length)

    def fuse(self, text, image, mode):
        return self.pair.replace(pooled=self.pooled)

    def decode(self, ids, length, pair):
        return np.take_along_axis(self.written, ids[..., None] % T, axis=1)

    def predict(self, head, x):
        return x if head == "match" else x @ self.heads[head]


@pytest.fixture
def case(rng):
    batch = {
        "image": np.zeros((B, 1)), "caption": np.zeros((B, T), np.int32), "masked": np.ones((B, T), np.int32),
        "caption_length": np.full(B, T - 1),
        "masked_places": rng.integers(0, T, (B, K)), "masked_words": rng.integers(-1, V, (B, K)),
        "other": np.full((B, T), 2), "other_length": np.array([3, 4, 6, 2, 5]), "match": np.array([1, 0, 0, 1, -1]),
        "boxes": np.zeros((B, N - 1, 4)), "regions_hidden": np.zeros((B, N - 1), bool),
        "regions_there": rng.random((B, N - 1)) < 0.8,
        "region_class": rng.integers(-1, C, (B, N - 1)), "region_attribute": rng.integers(-1, C, (B, N - 1)),
    }  # fmt: skip
    batch["regions_target"] = batch["regions_there"] & (rng.random((B, N - 1)) < 0.5)
    batch["regions_target"][0, 0] = batch["regions_there"][0, 0] = True
    return Given(rng), batch


def test_words(case):
    verbs, batch = case
    loss, metrics = OBJECTIVES["words"](verbs, batch, None, {})
    values, right = [], []
    for b in range(B):
        for place, word in zip(batch["masked_places"][b], batch["masked_words"][b], strict=True):
            if word >= 0:
                logits = np.float64(verbs.pair.text[b, place]) @ np.float64(verbs.heads["words"])
                values.append(-log_softmax(logits)[word])
                right.append(logits.argmax() == word)
    close(loss.total, np.sum(values))
    assert loss.weight == len(values) == (OBJECTIVES["words"].labels(batch, {}) >= 0).sum()
    close(metrics["words_right"].total, np.sum(right))
    assert (verbs.seen[0] == 1).all()


@pytest.mark.parametrize("step", [50, 500])
def test_words_told_softly_by_a_teacher(case, rng, step):
    """A share 0.4 of the target is the teacher's, half of it halfway up the ramp."""
    verbs, batch = case
    verbs.has_teacher, verbs.step, slow = True, step, Given(rng)
    verbs.teacher = lambda: slow
    loss, _ = OBJECTIVES["words"](verbs, batch, None, {"distil": 0.4, "ramp": 100})
    share, values = 0.4 * min(1, step / 100), []
    for b in range(B):
        for place, word in zip(batch["masked_places"][b], batch["masked_words"][b], strict=True):
            if word >= 0:
                told, soft = (
                    log_softmax(np.float64(one.pair.text[b, place]) @ np.float64(one.heads["words"])) for one in (verbs, slow)
                )
                target = share * np.exp(soft) + (1 - share) * (np.arange(V) == word)
                values.append(-(target * told).sum())
    close(loss.mean(), np.mean(values))


def test_words_of_causal_rows_are_fused_so(case):
    verbs, batch = case
    batch["causal"], modes = np.arange(B) % 2 == 0, []
    fuse = verbs.fuse
    verbs.fuse = lambda text, image, mode: (modes.append(mode), fuse(text, image, mode))[1]
    OBJECTIVES["words"](verbs, batch, None, {})
    assert np.array_equal(modes[0], batch["causal"])


def test_next_words(case, rng):
    """Each from the token before it, the closing mark too; a picture alone has none, and a text alone sees none."""
    verbs, batch = case
    batch |= {"caption": rng.integers(0, V, (B, T)).astype(np.int32), "caption_length": np.array([T - 1, 3, 1, 2, 5])}
    batch["alone"], seen = np.array([0, 1, 2, 0, 1]), []
    verbs.encode_image = lambda image, regions: Encoded(image, np.ones((B, N), bool))
    verbs.fuse = lambda text, image, mode: (seen.append((image.mask, mode)), verbs.pair)[1]
    loss, metrics = OBJECTIVES["next_words"](verbs, batch, None, {})
    values, right = [], []
    for b in (0, 1, 3, 4):
        for t in range(batch["caption_length"][b]):
            logits = np.float64(verbs.pair.text[b, t]) @ np.float64(verbs.heads["words"])
            values.append(-log_softmax(logits)[batch["caption"][b, t + 1]])
            right.append(logits.argmax() == batch["caption"][b, t + 1])
    close(loss.mean(), np.mean(values))
    close(metrics["next_words_right"].mean(), np.mean(right))
    ((mask, mode),) = seen
    assert mode == "causal" and np.array_equal(np.asarray(mask).all(1), [True, False, True, True, False])


def test_match(case):
    """The last row is not asked."""
    verbs, batch = case
    loss, metrics = OBJECTIVES["match"](verbs, batch, None, {})
    values = [-log_softmax(np.float64(verbs.pooled[b]))[batch["match"][b]] for b in range(B - 1)]
    close(loss.total, np.sum(values))
    close(metrics["match_right"].mean(), np.mean(verbs.pooled.argmax(1)[:-1] == batch["match"][:-1]))
    assert (verbs.seen[0] == 2).all() and loss.weight == B - 1


@pytest.mark.parametrize("view", ["clean", "joint"])
def test_answers(case, rng, view):
    """Of questions that can be answered; in a joint pass only beside their own picture."""
    verbs, batch = case
    verbs.heads["answers"] = rng.normal(size=(2, C)).astype(np.float32)
    batch["answer"] = np.array([2, 4, -1, 0, 1])
    loss, metrics = OBJECTIVES["answers"](verbs, batch, None, {"view": view})
    rows = [b for b in range(B) if batch["answer"][b] >= 0 and (view == "clean" or batch["match"][b] == 1)]
    told = log_softmax(np.float64(verbs.pooled) @ np.float64(verbs.heads["answers"]), axis=-1)
    close(loss.mean(), -np.mean(told[rows, batch["answer"][rows]]))
    close(metrics["answers_right"].mean(), np.mean(told[rows].argmax(-1) == batch["answer"][rows]))


@pytest.mark.parametrize("mean", ["token", "example"])
def test_written(case, rng, mean):
    """Each word from those before it; the closing mark counts, what stands behind it does not."""
    verbs, batch = case
    batch |= {"source": batch["masked"], "source_length": batch["caption_length"], "target": rng.integers(0, V, (B, T))}
    batch["target_length"] = np.array([T - 1, 3, 1, 2, 5])
    loss, metrics = OBJECTIVES["written"](verbs, batch, None, {"mean": mean})
    rows, right = [], []
    for b in range(B):
        values = []
        for t in range(batch["target_length"][b]):
            told = log_softmax(np.float64(verbs.written[b, batch["target"][b, t] % T]))
            values.append(-told[batch["target"][b, t + 1]])
            right.append(told.argmax() == batch["target"][b, t + 1])
        rows.append(values)
    close(loss.mean(), np.mean([np.mean(values) for values in rows]) if mean == "example" else np.mean(sum(rows, [])))
    close(metrics["written_right"].mean(), np.mean(right))
    assert (verbs.seen[0] == 1).all()


def chosen(batch, name="regions_target"):
    return [(b, r) for b, r in np.argwhere(batch[name])]


@pytest.mark.parametrize("where", ["masked", "all"])
@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("targets", ["hard", "soft"])
def test_classes(case, targets, pairs, where):
    """Regions stand behind the class token; of unknown ones only soft targets are known."""
    verbs, batch = case
    loss, metrics = OBJECTIVES["classes"](verbs, batch, None, {"targets": targets, "pairs": pairs, "where": where})
    values, right = [], []
    for b, r in chosen(batch, "regions_target" if where == "masked" else "regions_there"):
        if pairs and batch["match"][b] == 0:
            continue
        told = log_softmax(np.float64(verbs.pair.image[b, 1 + r]) @ np.float64(verbs.heads["classes"]))
        wanted = batch["region_class"][b, r]
        if wanted >= 0:
            right.append(told.argmax() == wanted)
        if targets == "soft":
            q = log_softmax(np.float64(verbs.features[b, r]) @ np.float64(verbs.heads["detector"]))
            values.append(np.sum(np.exp(q) * (q - told)))
        elif wanted >= 0:
            values.append(-told[wanted])
    close(loss.total, np.sum(values))
    assert loss.weight == len(values)
    close(metrics["classes_right"].total, np.sum(right))
    told = OBJECTIVES["classes"].labels(batch, {"pairs": pairs, "where": where})
    assert (told >= 0).sum() == len(right) == metrics["classes_right"].weight


@pytest.mark.parametrize("where", ["masked", "all"])
def test_attributes(case, where):
    verbs, batch = case
    loss, metrics = OBJECTIVES["attributes"](verbs, batch, None, {"where": where})
    values, right = [], []
    for b, r in chosen(batch, "regions_target" if where == "masked" else "regions_there"):
        if (wanted := batch["region_attribute"][b, r]) >= 0:
            told = log_softmax(np.float64(verbs.pair.image[b, 1 + r]) @ np.float64(verbs.heads["attributes"]))
            values.append(-told[wanted])
            right.append(told.argmax() == wanted)
    close(loss.total, np.sum(values))
    assert loss.weight == len(values) and metrics["attributes_right"] == (sum(right), len(right))


def test_detector(case):
    verbs, batch = case
    loss, _ = OBJECTIVES["detector"](verbs, batch, None, {})
    told = log_softmax(np.float64(verbs.features) @ np.float64(verbs.heads["detector"]), axis=-1)
    close(loss.total, sum(-told[b, r, c] for b, r in chosen(batch, "regions_there") if (c := batch["region_class"][b, r]) >= 0))


@pytest.mark.parametrize("distance", ["squared", "smooth"])
def test_features(case, distance):
    verbs, batch = case
    loss, metrics = OBJECTIVES["features"](verbs, batch, None, {"distance": distance})
    mean = np.float64([verbs.features[b, r] for b, r in chosen(batch, "regions_there")]).mean(0)
    values, errors, spread = [], 0, 0
    for b, r in chosen(batch):
        wanted = np.float64(verbs.features[b, r])
        away = np.float64(verbs.pair.image[b, 1 + r]) @ np.float64(verbs.heads["features"]) - wanted
        smooth = np.where(np.abs(away) < 1, away**2 / 2, np.abs(away) - 0.5)
        values.append((away**2 if distance == "squared" else smooth).mean())
        errors, spread = errors + (away**2).mean(), spread + ((mean - wanted) ** 2).mean()
    close(loss.mean(), np.mean(values))
    close(metrics["features_error"].mean(), errors / spread)


MISTAKES = [
    ("features", "distance"), ("classes", "targets"), ("classes", "where"), ("words", "view"), ("match", "view"),
    ("written", "mean"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "key"), MISTAKES)
def test_settings_that_there_are_not(case, name, key):
    with pytest.raises(UserError, match=f"objectives.{name}.{key}"):
        OBJECTIVES[name](*case, None, {key: "odd"})


@pytest.mark.parametrize("hardness", [1.0, 0.25])
def test_hard_negatives(rng, hardness):
    """They are drawn as often as their softmax says, never the own pair, one of its group, or a row without a picture."""
    u, v, group = rng.normal(size=(B, D)), rng.normal(size=(B, D)), np.array([1, 2, -1, 1, 3], np.float32)
    rows = {"u": u, "v": v, "scale": np.full(B, 0.8), "present": np.array([1, 1, 1, 1, 0.0]), "group": group}
    keys = jax.random.split(jax.random.PRNGKey(int(rng.integers(1000))), 4000)
    settings = {"hardness": hardness} if hardness != 1 else {}
    draws = jax.vmap(lambda key: match_hard.choose(rows, key, settings))(keys)
    for name, scores in (("image", hardness * 0.8 * u @ v.T), ("text", hardness * 0.8 * v @ u.T)):
        for b in range(B):
            usable = [c for c in range(B - 1) if c != b and not group[c] == group[b] >= 0]
            counts = np.bincount(np.asarray(draws[name])[:, b], minlength=B)
            np.testing.assert_allclose(counts[usable] / 4000, np.exp(log_softmax(scores[b, usable])), atol=0.04)
            assert counts[usable].sum() == 4000


class Pairing(Given):
    """A pair's logits tell which text met which picture."""

    def fuse(self, text, image, mode):
        return self.pair.replace(pooled=np.stack([text.x[:, 0], image.x[:, 0]], -1).astype(np.float32))


@pytest.mark.parametrize("raw", [False, True])
def test_match_with_hard_negatives(case, rng, raw):
    verbs, batch = Pairing(rng), case[1]
    batch |= {"caption": rng.normal(size=(B, T)), "image": rng.normal(size=(B, 1))}
    del batch["boxes"]
    rows = {"image": np.array([1, 2, 0, 4, 3]), "text": np.array([4, 3, 1, 0, 2])}
    chosen = taken(Chosen(rows), batch) if raw else Chosen(rows)
    loss, metrics = OBJECTIVES["match_hard"].loss(verbs, batch, None, {}, chosen)
    values, right = [], []
    for b in range(B):
        for text, image, wanted in ((b, b, 1), (b, rows["image"][b], 0), (rows["text"][b], b, 0)):
            told = log_softmax(np.array([batch["caption"][text, 0], batch["image"][image, 0]]))
            values.append(-told[wanted])
            right.append(told.argmax() == wanted)
    np.testing.assert_allclose(float(loss.mean()), np.mean(values), rtol=1e-5)
    np.testing.assert_allclose(float(metrics["match_hard_right"].mean()), np.mean(right), rtol=1e-6)
    batch["alone"] = np.array([TEXT] + [PAIR] * (B - 1))
    told = OBJECTIVES["match_hard"].labels(batch, {})
    assert told.tolist() == [-1] + [1] * (B - 1) + 2 * ([-1] + [0] * (B - 1))
    loss, _ = OBJECTIVES["match_hard"].loss(verbs, batch, None, {}, chosen)
    np.testing.assert_allclose(float(loss.mean()), np.mean(values[3:]), rtol=1e-5)


def exact(cost):
    """The least <T, C> over transports T between uniform marginals."""
    n, m = cost.shape
    rows, columns = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    return linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.r_[np.full(n, 1 / n), np.full(m, 1 / m)]).fun


@pytest.mark.parametrize(("n", "m"), [(4, 4), (7, 10), (20, 36)])
def test_the_transport_comes_to_that_of_the_programme(n, m, rng):
    """The fifty steps of the public models leave up to 3e-3 (4 x 4, of 60 draws; half are within 7e-4), more steps less.
    Padding beside it changes nothing."""
    x, y = rng.normal(size=(n, 16)), rng.normal(size=(m, 16))
    cost = 1 - (x / np.linalg.norm(x, axis=1, keepdims=True)) @ (y / np.linalg.norm(y, axis=1, keepdims=True)).T
    wide = [np.pad(part, ((0, 5), (0, 0)), constant_values=3.0)[None].astype(np.float32) for part in (x, y)]
    masks = [np.arange(len(part) + 5)[None] < len(part) for part in (x, y)]
    found = float(transported(*wide, *masks)[0])
    assert abs(found - exact(cost)) < 1e-2
    assert abs(float(transported(*wide, *masks, steps=400)[0]) - exact(cost)) < 1e-3
    padded = np.full((1, n + 5, m + 5), 7.0, np.float32)
    padded[0, :n, :m] = cost
    plan = np.asarray(transport(padded, *masks))[0]
    assert (plan[n:] == 0).all() and (plan[:, m:] == 0).all()
    np.testing.assert_allclose(plan[:n].sum(1), 1 / n, rtol=0.05)  # the side that the iteration leaves for last
    np.testing.assert_allclose(plan[:, :m].sum(0), 1 / m, rtol=1e-4)
    np.testing.assert_allclose(found, float(transported(x[None], y[None], masks[0][:, :n], masks[1][:, :m])[0]), atol=1e-4)


def test_alignment(case):
    """Words without both marks, image tokens without the class token; pairs count up, wrong pairs down."""
    verbs, batch = case
    loss, metrics = OBJECTIVES["alignment"](verbs, batch, None, {})
    distances = [
        float(transported(verbs.pair.text[b : b + 1, 1 : batch["other_length"][b]], verbs.pair.image[b : b + 1, 1:],
                          np.ones((1, batch["other_length"][b] - 1), bool), np.ones((1, N - 1), bool))[0])
        for b in range(B)
    ]  # fmt: skip
    right, wrong = batch["match"] == 1, batch["match"] == 0
    expected = np.array(distances)[right].sum() - np.array(distances)[wrong].sum()
    np.testing.assert_allclose(float(loss.total), expected, atol=1e-4)
    np.testing.assert_allclose(float(metrics["alignment_wrong"].mean()), np.array(distances)[wrong].mean(), atol=1e-4)

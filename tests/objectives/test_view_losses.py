"""Losses of hidden patches, of a text or a picture alone, of second views and disturbed pairs, against loops in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from tests.conftest import random_params
from tests.objectives.test_objectives import close
from tests.test_zoo_run import small
from xmodal_jax.errors import UserError
from xmodal_jax.models.backbones.encoded import Encoded
from xmodal_jax.models.interactions.fused import Fused
from xmodal_jax.models.pixels import GREY, grey
from xmodal_jax.models.verbs import Verbs
from xmodal_jax.objectives import OBJECTIVES, regress
from xmodal_jax.objectives.attention_guided import pivoted
from xmodal_jax.systems import recipe

B, N, T, D, K, V, C = 4, 9, 6, 5, 3, 11, 7


class Given:
    """A model whose tokens are drawn for each picture and text it has not seen yet, and whose heads are linear."""

    def __init__(self, rng):
        self.rng, self.seen, self.heads = rng, {}, {}
        self.has_teacher = False

    def drawn(self, name, given, *shape):
        key = name, np.asarray(given).tobytes()
        if key not in self.seen:
            self.seen[key] = self.rng.normal(size=shape).astype(np.float32)
        return self.seen[key]

    def once(self, function, *arrays):
        return function(*arrays)

    def encode_image(self, images):
        x = self.drawn("image", images, B, 1 + N, D)
        return Encoded(x, np.ones((B, 1 + N), bool), own=x, class_tokens=1)

    def encode_text(self, ids, length, seen=None):
        return Encoded(None, np.ones((B, T), bool), own=self.drawn("text", ids, B, T, D))

    def fuse(self, text, image, mode):
        return Fused(text.own, image.own, text.mask, image.mask, text.own[:, 0] + (image.own**2).mean(1))

    def predict(self, head, x):
        sizes = {"text_words": V, "match": 2, "projector": D, "predictor": D, "text_teacher": D, "image_teacher": D}
        if head not in self.heads:
            self.heads[head] = self.rng.normal(size=(D, sizes.get(head, C))).astype(np.float32)
        return x @ self.heads[head]


@pytest.fixture
def case(rng):
    batch = {
        "image": rng.integers(0, 256, (B, 6, 6, 3)).astype(np.uint8), "caption": rng.integers(0, V, (B, T)),
        "image_second": rng.integers(0, 256, (B, 6, 6, 3)).astype(np.uint8), "caption_second": rng.integers(0, V, (B, T)),
        "caption_length": np.full(B, T - 1), "caption_second_length": np.full(B, T - 1),
        "masked": rng.integers(0, V, (B, T)), "masked_places": rng.integers(0, T, (B, K)),
        "masked_words": rng.integers(-1, V, (B, K)), "codes": rng.integers(0, C, (B, N)),
        "codes_hidden": rng.random((B, N)) < 0.5,
        "other": rng.integers(0, V, (B, T)), "other_length": np.full(B, T - 1), "match": np.array([1, 0, -1, 1]),
    }  # fmt: skip
    batch["codes_hidden"][0, 0] = True
    batch["masked_words"][0, 0] = 1
    return Given(rng), batch


def test_hidden_patches_are_grey(case):
    _, batch = case
    found = np.asarray(grey(batch["image"], batch["codes_hidden"]))
    for b in range(B):
        for n in range(N):
            y, x = 2 * (n // 3), 2 * (n % 3)
            own = batch["image"][b, y : y + 2, x : x + 2]
            expected = np.full_like(own, GREY) if batch["codes_hidden"][b, n] else own
            np.testing.assert_array_equal(found[b, y : y + 2, x : x + 2], expected)
    assert found.dtype == np.uint8


@pytest.mark.parametrize("name", ["codes", "image_codes", "pairs"])
def test_numbers_of_hidden_patches(case, name):
    """Behind the class token; of a pair alone where that is asked; the picture is one with grey patches."""
    verbs, batch = case
    settings, name = {"pairs": name == "pairs"}, name.replace("pairs", "codes")
    loss, metrics = OBJECTIVES[name](verbs, batch, None, settings)
    tokens = verbs.drawn("image", grey(batch["image"], batch["codes_hidden"]), B, 1 + N, D)
    values, right = [], []
    for b, n in np.argwhere(batch["codes_hidden"]):
        if settings["pairs"] and batch["match"][b] == 0:
            continue
        logits = np.float64(tokens[b, 1 + n]) @ np.float64(verbs.heads[name])
        values.append(-log_softmax(logits)[batch["codes"][b, n]])
        right.append(logits.argmax() == batch["codes"][b, n])
    close(loss.mean(), np.mean(values))
    close(metrics[f"{name}_right"].mean(), np.mean(right))


def test_patches_of_another_size_are_refused(case):
    verbs, batch = case
    batch |= {"codes": batch["codes"][:, :4], "codes_hidden": batch["codes_hidden"][:, :4]}
    with pytest.raises(UserError, match="gives 9 tokens for 4 patches"):
        OBJECTIVES["image_codes"](verbs, batch, None, {})


def test_words_of_a_text_alone(case):
    verbs, batch = case
    loss, metrics = OBJECTIVES["text_words"](verbs, batch, None, {})
    tokens, values = verbs.drawn("text", batch["masked"], B, T, D), []
    for b in range(B):
        for place, word in zip(batch["masked_places"][b], batch["masked_words"][b], strict=True):
            if word >= 0:
                values.append(-log_softmax(np.float64(tokens[b, place]) @ np.float64(verbs.heads["text_words"]))[word])
    close(loss.mean(), np.mean(values))
    assert metrics["text_words_right"].weight == len(values)


def test_masked_words_of_a_joint_pass_are_those_of_the_other_text(case):
    """With its length, not the caption's."""
    verbs, batch = case
    batch["other_length"], seen = np.array([1, 2, 3, 4]), []
    encode = verbs.encode_text
    verbs.encode_text = lambda ids, length, *rest: (seen.append(length), encode(ids, length, *rest))[1]
    OBJECTIVES["text_words"](verbs, batch, None, {"view": "joint"})
    assert np.array_equal(seen[0], batch["other_length"])


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_two_views_are_alike(case):
    """The negative cosine both ways; without a gradient through what is compared with."""
    verbs, batch = case
    loss, metrics = OBJECTIVES["siamese"](verbs, batch, None, {})
    z, p = [], []
    for name in ("image", "image_second"):
        mean = np.float64(verbs.drawn("image", batch[name], B, 1 + N, D)).mean(1)
        z.append(mean @ verbs.heads["projector"])
        p.append(z[-1] @ verbs.heads["predictor"])
    close(loss.mean(), -0.5 * np.mean((unit(p[0]) * unit(z[1])).sum(-1) + (unit(p[1]) * unit(z[0])).sum(-1)))
    close(metrics["siamese_spread"].mean(), unit(z[0]).std(0).mean() * D**0.5)

    def of(projector):
        verbs.heads["projector"] = projector
        return OBJECTIVES["siamese"](verbs, batch, None, {})[0].mean()

    place, step, start = (1, 2), 1e-6, np.float64(verbs.heads["projector"])

    def with_targets_fixed(projector):
        total = 0.0
        for one, other in ((0, 1), (1, 0)):
            mean = np.float64(verbs.drawn("image", batch[("image", "image_second")[one]], B, 1 + N, D)).mean(1)
            total += (unit(mean @ projector @ np.float64(verbs.heads["predictor"])) * unit(z[other])).sum(-1).mean()
        return -0.5 * total

    moved = start.copy()
    moved[place] += step
    slope = (with_targets_fixed(moved) - with_targets_fixed(start)) / step
    np.testing.assert_allclose(jax.grad(of)(np.float32(start))[place], slope, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("name", ["text_regress", "image_regress"])
def test_a_teacher_tells_hidden_tokens(case, rng, name, layers):
    """Smooth L1 to the teacher's normalised tokens of the clean input, or to the mean of its last layers, at hidden places."""
    verbs, batch = case
    verbs.has_teacher, slow = True, Given(rng)
    verbs.teacher = lambda: slow
    given = {"text": rng.normal(size=(3, B, T, D)), "image": rng.normal(size=(3, B, 1 + N, D))}
    tower = name.partition("_")[0]
    slow.states = lambda verb, *args, **more: {tower: {"encoder": {"layers": {"hidden": (jnp.float32(given[tower]),)}}}}
    loss, metrics = OBJECTIVES[name](verbs, batch, None, {"beta": 0.7, "layers": layers})
    if name == "text_regress":
        tokens, clean = verbs.drawn("text", batch["masked"], B, T, D), slow.drawn("text", batch["caption"], B, T, D)
        hidden = [(b, batch["masked_places"][b, k]) for b, k in np.argwhere(batch["masked_words"] >= 0)]
        head = verbs.heads["text_teacher"]
    else:
        shown = grey(batch["image"], batch["codes_hidden"])
        tokens, clean = verbs.drawn("image", shown, B, 1 + N, D)[:, 1:], slow.drawn("image", batch["image"], B, 1 + N, D)[:, 1:]
        hidden, head = np.argwhere(batch["codes_hidden"]).tolist(), verbs.heads["image_teacher"]
    if layers > 1:
        clean = given[tower][1:].mean(0)[:, 1:] if tower == "image" else given[tower][1:].mean(0)
    values, found, wanted = [], [], []
    for b, t in hidden:
        x = np.float64(clean[b, t])
        wanted.append((x - x.mean()) / np.sqrt(x.var() + 1e-5))
        found.append(np.float64(tokens[b, t]) @ head)
        gap = np.abs(found[-1] - wanted[-1])
        values.append(np.where(gap < 0.7, gap**2 / 1.4, gap - 0.35).mean())
    close(loss.mean(), np.mean(values))
    error = np.mean((np.array(found) - wanted) ** 2) / np.mean((np.array(wanted) - np.mean(wanted, 0)) ** 2)
    close(metrics[f"{name}_error"].mean(), error)


def test_layers_of_a_real_teacher():
    """The last layer of BERT is what it gives; a tower without a stack is named."""
    parts = recipe.make(small("data2vec,debug,image_size=32"))
    verbs, batch = Verbs(parts.model, random_params(parts.model, parts.example_batch(2))), parts.batches[0]
    told = verbs.states("encode_text", batch["caption"], batch["caption_length"])
    own = verbs.encode_text(batch["caption"], batch["caption_length"]).own
    np.testing.assert_allclose(regress.last_layers(told, "text", 1), own, rtol=1e-4, atol=1e-5)
    seen = verbs.states("encode_image", batch["image"])
    assert regress.last_layers(seen, "image", 2).shape == verbs.encode_image(batch["image"]).own.shape
    with pytest.raises(UserError, match="the image encoder has no stack"):
        regress.last_layers(told | {"image": {}}, "image", 2)


def test_disturbed_pairs(case):
    """One step uphill from nothing in words and in image tokens, each alone; the row that is not asked takes no part."""
    verbs, batch = case
    rate, k = 0.3, 1.5
    loss, metrics = OBJECTIVES["adversarial"](verbs, batch, None, {"rate": rate, "divergence": k})
    text, image = (
        np.float64(verbs.drawn("text", batch["other"], B, T, D)),
        np.float64(verbs.drawn("image", batch["image"], B, 1 + N, D)),
    )
    head, rows = np.float64(verbs.heads["match"]), [0, 1, 3]

    def logits(text, image):
        return (text[:, 0] + (image**2).mean(1)) @ head

    def told(scores):
        return np.array([-log_softmax(scores[b])[batch["match"][b]] for b in rows])

    plain, total, moved = log_softmax(logits(text, image), axis=-1), 0.0, []
    for name in ("text", "image"):
        pushed = {"text": text, "image": image}
        slope = np.exp(plain)
        slope[rows, batch["match"][rows]] -= 1
        slope = slope @ head.T  # by the pooled vector
        d = np.zeros_like(pushed[name])
        for b in rows:
            if name == "text":
                d[b, 0] = slope[b]
            else:
                d[b] = slope[b] * 2 * image[b] / (1 + N)
            d[b] *= rate / np.linalg.norm(d[b])
        scores = logits(**(pushed | {name: pushed[name] + d}))
        other = log_softmax(scores, axis=-1)
        apart = ((np.exp(plain) - np.exp(other)) * (plain - other)).sum(-1)[rows]
        total += (told(scores) + k * apart).mean() / 2
        moved.append(apart.mean())
    close(loss.mean(), total)
    close(metrics["adversarial_moved"].mean(), np.mean(moved))


def test_what_is_computed_once_is_computed_once():
    calls = []

    def counted(x):
        calls.append(1)
        return x + 1

    verbs, array = Verbs(None, {}), np.ones(3)
    assert verbs.once(counted, array) is verbs.once(counted, array) and len(calls) == 1
    verbs.once(counted, np.ones(3))
    assert len(calls) == 2


def test_next_patches(case):
    """The first from the closing mark's token, each other from the patch before it; nothing sees what comes behind."""
    verbs, batch = case
    batch["caption_length"], modes = np.array([T - 1, 2, 3, 1]), []
    for name in ("codes_hidden", "masked", "other"):
        del batch[name]
    tokens, words = verbs.rng.normal(size=(B, N, D)).astype(np.float32), verbs.rng.normal(size=(B, T, D)).astype(np.float32)
    verbs.fuse = lambda text, image, mode: (modes.append(mode), Fused(words, tokens, None, None, None))[1]
    verbs.encode_image = lambda images, more: Encoded(None, np.ones((B, N), bool), codes=more["codes"])
    loss, metrics = OBJECTIVES["next_codes"](verbs, batch, None, {})
    values, right = [], []
    for b in range(B):
        for n in range(N):
            x = tokens[b, n - 1] if n else words[b, batch["caption_length"][b]]
            logits = np.float64(x) @ np.float64(verbs.heads["codes"])
            values.append(-log_softmax(logits)[batch["codes"][b, n]])
            right.append(logits.argmax() == batch["codes"][b, n])
    close(loss.mean(), np.mean(values))
    close(metrics["next_codes_right"].mean(), np.mean(right))
    assert modes == ["sequence"] and OBJECTIVES["next_codes"].told_by == "caption"


def test_the_pivot_and_what_it_looks_at(rng):
    looks, pivot = rng.random((3, 8, 8)), np.array([0, 5, 7])
    found = np.asarray(pivoted(looks, pivot, 3))
    for b in range(3):
        others = [n for n in np.argsort(-looks[b, pivot[b]]) if n != pivot[b]][:3]
        assert {*np.flatnonzero(found[b])} == {pivot[b], *others}


def test_patches_hidden_by_attention(case):
    """By the last layer's, the mean of its heads; the rest is the loss of a teacher's tokens."""
    verbs, batch = case
    weights = verbs.rng.random((2, B, 3, 1 + N, 1 + N))
    verbs.watched = lambda verb, images: {"image": {"encoder": {"layers": {"attention": {"weights": (weights,)}}}}}
    key = jax.random.PRNGKey(3)
    loss, metrics = OBJECTIVES["attention_guided"](verbs, batch, key, {"attended": 2})
    pivot = np.asarray(jax.random.randint(key, (B,), 0, N))
    hidden = np.asarray(pivoted(weights[1].mean(1)[:, 1:, 1:], pivot, 2))
    assert (hidden.sum(1) == 3).all()
    x = verbs.drawn("image", grey(batch["image"], hidden), B, 1 + N, D)[:, 1:] @ verbs.heads["image_teacher"]
    wanted = np.float64(verbs.drawn("image", batch["image"], B, 1 + N, D))[:, 1:]
    wanted = (wanted - wanted.mean(-1, keepdims=True)) / np.sqrt(wanted.var(-1, keepdims=True) + 1e-5)
    gap = np.abs(x - wanted)[hidden]
    close(loss.mean(), np.where(gap < 1, gap**2 / 2, gap - 0.5).mean())
    assert metrics["attention_guided_error"].weight > 0


def test_entries_of_hidden_cells(case):
    verbs, batch = case
    codes, hidden = verbs.rng.integers(0, C, (B, N)).astype(np.int32), verbs.rng.random((B, N)) < 0.5
    tokens = verbs.rng.normal(size=(B, N, D)).astype(np.float32)
    batch = {name: batch[name] for name in ("image", "caption", "caption_length")} | {"cell_place": np.full(B, 0.3)}
    seen = []
    verbs.encode_image = lambda images, more=None: (
        seen.append(more), Encoded(None, np.ones((B, N), bool), codes=codes, hidden=hidden)
    )[1]  # fmt: skip
    verbs.fuse = lambda text, image, mode: Fused(None, tokens, None, None, None)
    loss, metrics = OBJECTIVES["visual_tokens"](verbs, batch, None, {})
    told = log_softmax(np.float64(tokens) @ np.float64(verbs.heads["visual_tokens"]), axis=-1)
    close(loss.mean(), np.mean([-told[b, n, codes[b, n]] for b, n in np.argwhere(hidden)]))
    close(metrics["visual_tokens_right"].mean(), (told.argmax(-1) == codes)[hidden].mean())
    assert np.array_equal(seen[-1]["place"], batch["cell_place"])


@pytest.mark.parametrize("steps", [0, 1, 50])
def test_a_dictionary_follows_its_cells(rng, steps):
    """Counts and sums decay by min(d n, 0.99); entries without cells become cells; the commitment moves the cells alone."""
    K, n, d = 6, 12, 0.4
    z, table = rng.normal(size=(2, n // 2, D)).astype(np.float32), rng.normal(size=(K, D)).astype(np.float32)
    codes = rng.integers(0, K - 2, (2, n // 2))  # the last two have lost theirs
    old = {"counts": 3 * rng.random(K).astype(np.float32), "sums": rng.normal(size=(K, D)).astype(np.float32)}
    old["counts"][K - 2 :] = [0.0, 5.0]
    verbs = Verbs(None, {"image": {"dictionary_table": table}}, memory={"dictionary": old | {"steps": np.float32(steps)}})
    rows = {"z": z, "codes": codes.astype(np.float32), "counts": np.eye(K)[codes].sum(1)}
    loss, metrics = OBJECTIVES["dictionary"].compare(verbs, rows, {"decay": d})
    close(loss.mean(), 0.25 * ((z - table[codes]) ** 2).mean())
    assert OBJECTIVES["dictionary"].compare(verbs, rows, {"commitment": 0.0})[0].total == 0.0
    close(metrics["dictionary_used"].mean(), len(np.unique(codes)) / K)
    rate, kept = min(d * steps, 0.99), verbs.kept["dictionary"]
    assert kept["steps"] == steps + 1
    flat, own, counts = z.reshape(-1, D), codes.ravel(), []
    for k in range(K):
        counts.append(rate * old["counts"][k] + (1 - rate) * (own == k).sum())
        if counts[k] < 0.01:
            counts[k] = 1.0
            assert (np.abs(flat - kept["sums"][k]).max(-1) < 1e-6).any()
        else:
            expected = rate * old["sums"][k] + (1 - rate) * flat[own == k].sum(0)
            np.testing.assert_allclose(kept["sums"][k], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(kept["counts"], counts, rtol=1e-5)
    (entries,) = OBJECTIVES["dictionary"].writes(kept).values()
    smooth = (np.array(counts) + 1e-5) / (sum(counts) + K * 1e-5) * sum(counts)
    np.testing.assert_allclose(entries, kept["sums"] / smooth[:, None], rtol=1e-4, atol=1e-5)

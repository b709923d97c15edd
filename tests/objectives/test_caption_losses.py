"""The captioner's losses against float64 closed forms, on verbs that return given arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.caption import get_config
from xmodal_jax.errors import UserError
from xmodal_jax.models.captioner import Seen, Told
from xmodal_jax.models.latent import Latents
from xmodal_jax.objectives import OBJECTIVES
from xmodal_jax.objectives.sums import Sum
from xmodal_jax.train.gradient import active, evaluate_with, weighted_mean

B, T, V, N, Z, P = 5, 7, 11, 3, 4, 6


class Given:
    """Verbs that return the arrays they were made with."""

    def __init__(self, logits=None, latents=None, text=None, image=None):
        self.logits, self.latents, self.text, self.image = logits, latents, text, image

    def encode_image(self, images):
        return Seen(None, self.image, self.latents, None)

    def encode_text(self, ids, length, seen):
        return Told(self.text)

    def decode(self, ids, length, seen):
        return Told(logits=self.logits)

    def scale(self):
        return 2.5


@pytest.fixture
def batch(rng):
    """Captions from end mark 0 to end mark 0, padded with 0; one of them holds the id 0 inside."""
    caption, length = np.zeros((B, T), np.int32), rng.integers(2, T, B).astype(np.int32)
    for row, n in zip(caption, length, strict=True):
        row[1:n] = rng.integers(1, V, n - 1)
    caption[0, 1], length[1] = 0, T - 1
    return {"image": np.zeros((B, 1, 1, 3), np.uint8), "caption": caption, "caption_length": length}


def run(name, verbs, batch, **config):
    return OBJECTIVES[name](verbs, batch, jax.random.PRNGKey(0), config)


def log_softmax(scores):
    scores = np.asarray(scores, np.float64)
    shifted = scores - scores.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def test_equation_2_is_the_mean_over_words_and_the_closing_end_mark(rng, batch):
    logits = rng.normal(size=(B, T, V)).astype(np.float32)
    loss, metrics = run("captioning", Given(logits=logits), batch)
    logp, total, right = log_softmax(logits), 0.0, 0
    for b, n in enumerate(batch["caption_length"]):
        for t in range(n):  # the word after the last one is the end mark
            target = batch["caption"][b, t + 1]
            total -= logp[b, t, target]
            right += logits[b, t].argmax() == target
    count = int(batch["caption_length"].sum())
    np.testing.assert_allclose([loss.total, loss.weight], [total, count], rtol=2e-5)
    np.testing.assert_allclose(metrics["right_word"].mean(), right / count, rtol=1e-5)


def test_padding_is_left_out_by_length_though_its_id_is_a_words(rng, batch):
    logits = jnp.asarray(rng.normal(size=(B, T, V)), jnp.float32)
    pull = jax.grad(lambda x: run("captioning", Given(logits=x), batch)[0].total)(logits)
    for b, n in enumerate(batch["caption_length"]):
        assert (np.abs(pull[b, :n]).max(-1) > 0).all() and not np.abs(pull[b, n:]).any()


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("free", [0.0, 0.4])
def test_equation_3(rng, batch, mean, free):
    mu, log_variance = (rng.normal(size=(B, N, Z)).astype(np.float32) for _ in range(2))
    loss, metrics = run("kl", Given(latents=Latents(mu, mu, log_variance)), batch, mean=mean, free_bits=free)
    m, v = mu.astype(np.float64), log_variance.astype(np.float64)
    nats = -0.5 * (1 + v - m**2 - np.exp(v))
    cost = np.maximum(nats, free).sum(-1) / (Z if mean else 1)
    np.testing.assert_allclose(loss.mean(), cost.mean(), rtol=2e-5)
    np.testing.assert_allclose(metrics["kl"].mean(), nats.sum(-1).mean(), rtol=2e-5)
    np.testing.assert_allclose(metrics["active"].mean(), (nats > 0.01).mean(), rtol=1e-5)


def test_the_divergence_is_zero_at_the_prior_and_needs_a_latent(batch):
    zeros = np.zeros((B, N, Z), np.float32)
    assert float(run("kl", Given(latents=Latents(zeros, zeros, zeros)), batch)[0].mean()) == 0
    with pytest.raises(UserError, match="latent"):
        run("kl", Given(), batch)


@pytest.mark.parametrize("summed", [False, True])
def test_equation_4_sums_both_directions(rng, batch, summed):
    u, v = (rng.normal(size=(B, P)).astype(np.float32) for _ in range(2))
    loss, _ = run("contrastive", Given(text=u, image=v), batch, summed=summed)
    scores = 2.5 * u.astype(np.float64) @ v.T.astype(np.float64)
    ways = [-np.diag(log_softmax(s)).mean() for s in (scores, scores.T)]
    np.testing.assert_allclose(loss.mean(), sum(ways) if summed else sum(ways) / 2, rtol=2e-5)


def test_a_weight_warms_up_over_its_steps():
    losses, settings = {"kl": Sum(jnp.float32(6), jnp.float32(2))}, {"kl": {"weight": 0.5, "warmup": 10}}
    found = [float(weighted_mean(settings, losses, step=step)) for step in (0, 5, 10, 99)]
    np.testing.assert_allclose(found, [0, 0.75, 1.5, 1.5], rtol=1e-6)
    assert float(weighted_mean(settings, losses)) == 1.5


@pytest.mark.parametrize(
    ("method", "alpha", "beta", "gamma"),
    [("baseline", 1.0, 0.0, 0.0), ("vae", 0.7, 0.1, 0.0), ("vae_cl", 0.7, 0.1, 0.2), ("dual_encoder", 0.0, 0.0, 1.0)],
)
def test_equation_5_of_every_method_as_the_config_has_it(rng, batch, method, alpha, beta, gamma):
    logits, mu, log_variance = (rng.normal(size=shape).astype(np.float32) for shape in ((B, T, V), (B, N, Z), (B, N, Z)))
    u, v = (rng.normal(size=(B, P)).astype(np.float32) for _ in range(2))
    verbs = Given(logits, Latents(mu, mu, log_variance), u, v)

    def loss(settings):
        objectives = active({name: one.to_dict() for name, one in settings.items()})
        losses, _ = evaluate_with(verbs, objectives, batch, jax.random.PRNGKey(0))
        return float(weighted_mean(objectives, losses))

    ends = [(b, t) for b, n in enumerate(batch["caption_length"]) for t in range(n)]
    words = np.mean([-log_softmax(logits[b, t])[batch["caption"][b, t + 1]] for b, t in ends])
    m, variance = mu.astype(np.float64), log_variance.astype(np.float64)
    divergence = -0.5 * (1 + variance - m**2 - np.exp(variance)).sum(-1).mean()
    scores = 2.5 * u.astype(np.float64) @ v.T.astype(np.float64)
    both = sum(-np.diag(log_softmax(way)).mean() for way in (scores, scores.T))
    settings = get_config(f"{method},scale=paper").objectives
    np.testing.assert_allclose(loss(settings), alpha * words + beta * divergence + gamma * both, rtol=2e-5)
    settings.contrastive.summed = False
    np.testing.assert_allclose(loss(settings), alpha * words + beta * divergence + gamma * both / 2, rtol=2e-5)
    weights = {name: one.weight for name, one in get_config(method).objectives.items()}  # of other scales too
    assert weights == {"captioning": alpha, "kl": beta, "contrastive": gamma, "naming": 1.0}

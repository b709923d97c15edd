"""Pairs whose embeddings are disturbed as badly as a small step allows must be told the same (VILLA, Gan et al., 2020).

    L = 1/2 sum_m [mean_b -log softmax(f(x_m + d_m))_y + k (KL(p || q_m) + KL(q_m || p))],  m: the words, the image tokens
f: logits of the head "match" on the fused pair; p = softmax(f(x)), q_m = softmax(f(x_m + d_m)); x_m: what m's encoder gives.
    d <- d + r g / |g|,  g = gradient of the loss by d, so many `steps` of length r from d = 0, carries no gradient itself
"""

import jax
import jax.numpy as jnp
import optax

from xmodal_jax.models.vectors import unit
from xmodal_jax.objectives.inputs import has_second, only_where_seen, see
from xmodal_jax.objectives.match import labels
from xmodal_jax.objectives.sums import Sum, weighted
from xmodal_jax.objectives.views import text


def adversarial(verbs, batch, key, config):
    """Metrics: adversarial_right (disturbed pairs that are told rightly), adversarial_moved (the mean of both divergences)."""
    del key
    wanted = labels(batch)
    rows = has_second(batch) & (wanted >= 0)
    given = {"text": text(verbs, batch, "matched"), "image": only_where_seen(batch, see(verbs, batch))}

    def logits(disturbance, name):
        one = given[name]
        moved = given | {name: one.replace(own=one.own + disturbance.astype(one.own.dtype))}
        return verbs.predict("match", verbs.fuse(moved["text"], moved["image"], "both").pooled)

    def told(logits):
        return weighted(optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(wanted, 0)), rows)

    plain = jax.nn.log_softmax(logits(jnp.zeros((1, 1, 1)), "text"))
    losses, right, moved = [], [], []
    for name in given:
        worst = jax.lax.stop_gradient(disturbed(lambda d, name=name: told(logits(d, name)).total, given[name], config))
        found = logits(worst, name)
        other = jax.nn.log_softmax(found)
        apart = ((jnp.exp(plain) - jnp.exp(other)) * (plain - other)).sum(-1)  # both divergences
        loss, apart = told(found), weighted(apart, rows)
        losses.append(Sum(loss.total + config.get("divergence", 1.5) * apart.total, loss.weight))
        right.append(weighted(found.argmax(-1) == wanted, rows))
        moved.append(apart)

    def mean(sums):
        return Sum(sum(one.total for one in sums) / len(sums), sums[0].weight)

    return mean(losses), {"adversarial_right": mean(right), "adversarial_moved": mean(moved)}


def disturbed(loss, encoded, config):
    """d [B, N, D], zero where the mask hides a token: what raises loss(d) from nothing."""
    there = encoded.mask[..., None]
    d = jnp.zeros_like(encoded.own, jnp.float32)
    for _ in range(config.get("steps", 1)):
        slope = jnp.where(there, jax.grad(loss)(d), 0)
        d = d + config.get("rate", 0.1) * unit(slope.reshape(len(slope), -1)).reshape(d.shape)
    return d

"""Kullback-Leibler divergence of the latents from N(0, I) (Transformer-VAE-CL, equation 3; Kingma and Welling, 2014).

KL = -1/2 sum_z (1 + log sigma^2 - mu^2 - sigma^2), averaged over tokens and batch
"""

import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.objectives.inputs import see
from xmodal_jax.objectives.sums import weighted


def kl(verbs, batch, key, config):
    """Settings: mean (over a latent's components instead of their sum), free_bits (nats per component that cost nothing: no
    component of a token is pushed below them; Kingma et al., 2016), and as of every objective weight and warmup (steps).

    Metrics: kl (nats per latent), active (share of components with more than 0.01 nats).
    """
    del key
    latents = see(verbs, batch).latents
    if latents is None:
        raise UserError("objectives.kl needs a latent: config.model.latent is 'none'.")
    mu, log_variance = latents.mu, latents.log_variance  # [B, n, Z]
    nats = -0.5 * (1 + log_variance - mu**2 - jnp.exp(log_variance))
    cost = jnp.maximum(nats, config.get("free_bits", 0.0))
    cost = cost.mean(-1) if config.get("mean", False) else cost.sum(-1)  # [B, n]
    one = jnp.ones(())
    return weighted(cost, one), {"kl": weighted(nats.sum(-1), one), "active": weighted(nats > 0.01, one)}

"""Is the latent used? Posterior collapse and active units (Burda et al., 2016, section 5.2; Bowman et al., 2016)."""

import numpy as np

from xmodal_jax.evaluators.held_out import drawn, parts


class LatentEvaluator:
    """Metrics: latent/active_units (share of components with Var_x(mu) > 0.01), latent/kl (nats per latent), latent/collapsed
    (share of components that cost less than 0.01 nats). Nothing of a model without latents.
    """

    def __init__(self, recipe, count=256, rows=64):
        source = recipe.held_out
        self.examples = [source[i] for i in drawn(source, count)]
        self.rows = rows

    def run(self, predictor):
        if predictor.latents(self.examples[:1]) is None:
            return {}, []
        found = [predictor.latents(part) for part in parts(self.examples, self.rows)]
        mu, log_variance = (np.concatenate(arrays).astype(np.float64) for arrays in zip(*found, strict=True))  # [B, n, Z]
        nats = -0.5 * (1 + log_variance - mu**2 - np.exp(log_variance))
        return {
            "latent/active_units": float((mu.var(0) > 0.01).mean()),
            "latent/kl": float(nats.sum(-1).mean()),
            "latent/collapsed": float((nats.mean((0, 1)) < 0.01).mean()),
        }, []

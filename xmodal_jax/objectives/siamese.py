"""Two changed copies of a picture are alike (SimSiam, Chen and He, 2021; within DeCLIP, Li et al., 2022).

    L = -1/2 mean_b [cos(p(z_b), sg z'_b) + cos(p(z'_b), sg z_b)],  z = projector(mean of the picture's tokens), p: predictor
z': of the second copy; sg: no gradient.
"""

import jax

from xmodal_jax.models.vectors import masked_mean, unit
from xmodal_jax.objectives.inputs import has_second, see
from xmodal_jax.objectives.sums import weighted
from xmodal_jax.objectives.views import second


def siamese(verbs, batch, key, config):
    """Metric: siamese_spread, the mean deviation of the channels of unit vectors z, times the root of their number: near 1
    where they differ from picture to picture, 0 where all are the same."""
    del key, config

    def both(batch):
        seen = see(verbs, batch)
        z = verbs.predict("projector", masked_mean(seen.own, seen.mask))  # [B, P]
        return z, verbs.predict("predictor", z)

    (z, p), (other_z, other_p) = both(batch), both(second(batch))

    def alike(p, z):
        return (unit(p) * unit(jax.lax.stop_gradient(z))).sum(-1)

    rows = has_second(batch)
    spread = unit(z).std(0).mean() * z.shape[-1] ** 0.5
    return weighted(-0.5 * (alike(p, other_z) + alike(other_p, z)), rows), {"siamese_spread": weighted(spread, rows[0] | True)}

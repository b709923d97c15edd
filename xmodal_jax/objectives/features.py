"""What the masked regions look like, from the other regions and the text (masked region feature regression).

    L = mean over masked regions r of mean over F of d(features_head(h_r), f_r)
squared: d = (x - y)^2 (UNITER, Chen et al., 2020); smooth: d = smooth L1 (LXMERT, Tan and Bansal, 2019). h: tokens of the fused
pair; f [F]: feature of the region before it was masked, which carries no gradient.
"""

import jax
import optax

from xmodal_jax.errors import UserError
from xmodal_jax.objectives.inputs import see
from xmodal_jax.objectives.sums import Sum, weighted
from xmodal_jax.objectives.views import fused_regions, view_of

DISTANCES = {"squared": lambda x, y: (x - y) ** 2, "smooth": optax.huber_loss}


def features(verbs, batch, key, config):
    """Metric: features_error, the squared error over that of the mean feature of all regions: below 1 is better than it."""
    del key
    distance = config.get("distance", "squared")
    if distance not in DISTANCES:
        raise UserError(f"objectives.features.distance={distance!r}: must be one of {', '.join(DISTANCES)}.")
    wanted, there = jax.lax.stop_gradient(see(verbs, batch).features), batch["regions_there"]  # [B, R, F]
    x = fused_regions(verbs, batch, view_of(config, "regions", "objectives.features"))
    found, masked = verbs.predict("features", x), batch["regions_target"]
    shown = weighted(wanted, there[..., None])
    center = (wanted * there[..., None]).sum((0, 1)) / (shown.weight / wanted.shape[-1] + 1e-8)  # [F]
    error, spread = (weighted(((x - wanted) ** 2).mean(-1), masked) for x in (found, center))
    return weighted(DISTANCES[distance](found, wanted).mean(-1), masked), {"features_error": Sum(error.total, spread.total)}

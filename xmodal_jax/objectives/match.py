"""Are a text and a picture a pair (image-text matching; UNITER, Chen et al., 2020; ViLT, Kim et al., 2021)?

    L = mean_b -log softmax(match_head(p_b))_m
p: pooled vector of the fused pair; m: 1 for a pair, 0 for none, -1 where that is not asked.
"""

import jax.numpy as jnp
import optax

from xmodal_jax.objectives.inputs import has_second
from xmodal_jax.objectives.sums import weighted
from xmodal_jax.objectives.views import fused, view_of


def match(verbs, batch, key, config):
    """Metric: match_right (rows that are told rightly)."""
    del key
    view = view_of(config, "matched", "objectives.match")
    logits = verbs.predict("match", fused(verbs, batch, view).pooled)  # [B, 2]
    wanted = labels(batch)
    values = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(wanted, 0))
    rows = has_second(batch) & (wanted >= 0)
    return weighted(values, rows), {"match_right": weighted(logits.argmax(-1) == wanted, rows)}


def labels(batch, config=None):
    """Which rows are pairs, int [B], -1 where that is not asked."""
    del config
    return batch["match"]

"""Are a text and a picture a pair (image-text matching; UNITER, Chen et al., 2020; ViLT, Kim et al., 2021)?

    L = mean_b -log softmax(match_head(p_b))_m
p: pooled vector of the fused pair; m: 1 for a pair, 0 for none, -1 where that is not asked.
"""

import jax.numpy as jnp

from xmodal_jax.objectives.inputs import has_second
from xmodal_jax.objectives.sums import classified
from xmodal_jax.objectives.views import fused, view_of


def match(verbs, batch, key, config):
    """Metric: match_right (rows that are told rightly)."""
    del key
    view = view_of(config, "matched", "objectives.match")
    logits = verbs.predict("match", fused(verbs, batch, view).pooled)  # [B, 2]
    return classified(logits, jnp.where(has_second(batch), labels(batch), -1), "match_right")


def labels(batch, config=None):
    """Which rows are pairs, int [B], -1 where that is not asked."""
    del config
    return batch["match"]

"""Are a text and a picture a pair (image-text matching; UNITER, Chen et al., 2020; ViLT, Kim et al., 2021)?

L = mean_b -log softmax(match_head(p_b))_m,  p: pooled vector of the fused pair, m: 1 for a pair, else 0
"""

import optax

from xmodal_jax.objectives.inputs import has_second
from xmodal_jax.objectives.sums import weighted
from xmodal_jax.objectives.views import fused


def match(verbs, batch, key, config):
    """Metric: match_right (rows that are told rightly)."""
    del key, config
    logits = verbs.predict("match", fused(verbs, batch, "matched").pooled)  # [B, 2]
    values, rows = optax.softmax_cross_entropy_with_integer_labels(logits, labels(batch)), has_second(batch)
    return weighted(values, rows), {"match_right": weighted(logits.argmax(-1) == labels(batch), rows)}


def labels(batch):
    """Which rows are pairs, int [B]."""
    return batch["match"]

"""What is in this picture? The names of its entities from the second modality alone.

    L = - mean_b 1 / |W_b| sum_{w in W_b} log softmax(h(v_b))_w
W_b: hash buckets of all mentions of entities in the captions, so that the main one weighs most: the object labels where the
source gives them, else the nouns of the sense inventory (Joulin et al., 2016, "Learning visual features from large weakly
supervised data", equation 2). Through the language model alone a small tower learns main objects several times later.
"""

import jax
import jax.numpy as jnp

from xmodal_jax.objectives.inputs import has_second, see
from xmodal_jax.objectives.sums import weighted


def naming(verbs, batch, key, config):
    """Metric: named (share of pictures whose likeliest name is right)."""
    del key, config
    logits = see(verbs, batch).names  # [B, buckets]
    present = batch["names"] >= 0  # [B, names]
    words = jnp.maximum(batch["names"], 0)
    logp = jnp.take_along_axis(jax.nn.log_softmax(logits), words, axis=1)
    count = present.sum(1)
    loss = -jnp.sum(logp * present, axis=1) / jnp.maximum(count, 1)
    rows = has_second(batch) & (count > 0)
    right = ((words == logits.argmax(-1)[:, None]) & present).any(1)
    return weighted(loss, rows), {"named": weighted(right, rows)}

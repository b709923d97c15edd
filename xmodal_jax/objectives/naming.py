"""Which words name this picture? A bag of words from the second modality alone.

    L = - mean_b 1 / |W_b| sum_{w in W_b} log softmax(h(v_b))_w
W_b: hash buckets of the content words in the example's captions (Joulin et al., 2016, "Learning visual features from large
weakly supervised data", equation 2). The tower learns main objects from it several times sooner than from the losses that
pass through the language model.
"""

import jax
import jax.numpy as jnp

from xmodal_jax.objectives.sums import weighted


def naming(verbs, batch, key, config):
    """Metric: named (share of pictures whose likeliest word is one of their own)."""
    del key, config
    logits = verbs.encode_image(batch["second"], batch["second_length"]).names  # [B, buckets]
    present = batch["names"] >= 0  # [B, words]
    words = jnp.maximum(batch["names"], 0)
    logp = jnp.take_along_axis(jax.nn.log_softmax(logits), words, axis=1)
    count = present.sum(1)
    loss = -jnp.sum(logp * present, axis=1) / jnp.maximum(count, 1)
    rows = (batch["second_length"] > 0) & (count > 0)
    right = ((words == logits.argmax(-1)[:, None]) & present).any(1)
    return weighted(loss, rows), {"named": weighted(right, rows)}

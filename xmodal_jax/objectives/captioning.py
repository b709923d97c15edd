"""Captions word by word, teacher-forced (Transformer-VAE-CL, equation 2).

    L_lm = - sum_{b, t <= n_b} log p(w_bt | w_b,<t, image_b) / sum_b n_b
The closing end mark is a target, so that generation stops. The end mark pads as well: padding is left out by length, not by id.
"""

import jax.numpy as jnp

from xmodal_jax.objectives.inputs import see
from xmodal_jax.objectives.language import byte_loss
from xmodal_jax.objectives.sums import weighted


def captioning(verbs, batch, key, config):
    """Setting: label_smoothing. Metric: right_word (share of words that were likeliest)."""
    del key
    ids, length = batch["caption"], batch["caption_length"]  # [B, T], [B]
    logits = verbs.decode(ids, length, see(verbs, batch)).logits[:, :-1]  # [B, T - 1, V]
    loss, right = byte_loss(logits, ids[:, 1:], config.get("label_smoothing", 0.0))
    weights = jnp.arange(ids.shape[1] - 1)[None] < length[:, None]
    return weighted(loss, weights), {"right_word": weighted(right, weights)}

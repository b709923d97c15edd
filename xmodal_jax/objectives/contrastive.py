"""In-batch contrastive alignment of the two modalities before they are fused (InfoNCE; CLIP, Radford et al., 2021).

    L = 1/2 [mean_b -log softmax_c(s u_b . v_c)_b + mean_b -log softmax_c(s v_b . u_c)_b],  s = 1 / temperature
u: text, v: second modality, unit vectors. Over the whole global batch; rows without a second modality take no part.
"""

import jax.numpy as jnp
import optax

from xmodal_jax.objectives.sums import Sum, weighted


def contrastive(verbs, batch, key, config):
    """Clean captions against second modalities. Metric: contrastive_right (share of captions whose own image is nearest)."""
    del key, config
    present = batch["second_length"] > 0  # [B]
    u = verbs.encode_text(batch["caption"]).pooled  # [B, P]
    v = verbs.encode_image(batch["second"], batch["second_length"]).pooled
    scores = verbs.scale() * u @ v.T  # [B text, B second]
    own = jnp.arange(len(u))

    def one_way(scores):
        scores = jnp.where(present[None], scores, -1e9)
        return weighted(optax.softmax_cross_entropy_with_integer_labels(scores, own), present), scores.argmax(-1) == own

    (text_loss, right), (second_loss, _) = one_way(scores), one_way(scores.T)
    total = Sum((text_loss.total + second_loss.total) / 2, text_loss.weight)
    return total, {"contrastive_right": weighted(right, present)}

"""In-batch contrastive alignment of the two modalities before they are fused (InfoNCE; CLIP, Radford et al., 2021).

    L = 1/2 [mean_b -log softmax_c(s u_b . v_c)_b + mean_b -log softmax_c(s v_b . u_c)_b],  s = 1 / temperature
u: text, v: second modality, unit vectors; "summed" adds both directions, without 1/2 (Transformer-VAE-CL, equation 4).
Over the whole global batch; rows without a second modality take no part.
"""

import jax.numpy as jnp
import optax

from xmodal_jax.objectives.inputs import has_second, see
from xmodal_jax.objectives.sums import Sum, weighted


def represent(verbs, batch, config):
    """Rows of a batch or a part of it -> {"u" clean captions [b, P], "v" second modalities [b, P], "present" float32 [b]}."""
    del config
    v = see(verbs, batch)
    if "caption_length" in batch:
        u = verbs.encode_text(batch["caption"], batch["caption_length"], v)
    else:
        u = verbs.encode_text(batch["caption"])
    return {"u": u.pooled, "v": v.pooled, "present": has_second(batch).astype(jnp.float32)}


def compare(verbs, rows, config):
    """The loss Sum of all rows of the global batch. Metric: contrastive_right (captions whose own image is nearest)."""
    present = rows["present"]  # [B]
    scores = verbs.scale() * rows["u"] @ rows["v"].T  # [B text, B second]
    own = jnp.arange(len(scores))

    def one_way(scores):
        scores = jnp.where(present[None] > 0, scores, -1e9)
        return weighted(optax.softmax_cross_entropy_with_integer_labels(scores, own), present), scores.argmax(-1) == own

    (text_loss, right), (second_loss, _) = one_way(scores), one_way(scores.T)
    share = 1.0 if config.get("summed", False) else 0.5
    total = Sum(share * (text_loss.total + second_loss.total), text_loss.weight)
    return total, {"contrastive_right": weighted(right, present)}

"""In-batch contrastive alignment of the two modalities before they are fused: a loss of `ranking` over u_b . v_c.

    L = 1/2 (L_text + L_second);  infonce: CLIP (Radford et al., 2021); triplet: US 12,386,873 B2
u: text, v: second modality, unit vectors; "summed" adds both directions, without 1/2 (Transformer-VAE-CL, equation 4).
Over the whole global batch; rows without a second modality take no part. With "equal", rows of the same caption are no
negatives of each other. With "views" the mean of four such losses, of both views of the text (`examples.views`) with both of
the picture (DeCLIP, Li et al., 2022). With "again" the mean with that of the second vectors, which the pair's experts give and
which have a temperature of their own (VLMo, Bao et al., 2022).
"""

import jax.numpy as jnp

from xmodal_jax.objectives.inputs import has_second, see
from xmodal_jax.objectives.ranking import both_ways
from xmodal_jax.objectives.sums import Sum, weighted
from xmodal_jax.objectives.views import caption, second


def represent(verbs, batch, config):
    """Rows of a batch or a part of it -> {"u" clean captions [b, P], "v" second modalities [b, P], "present" float32 [b]}."""
    v, u = read(verbs, batch)
    rows = {"u": u.pooled, "v": v.pooled, "present": has_second(batch).astype(jnp.float32)}
    if config.get("views", False):
        v, u = read(verbs, second(batch))
        rows |= {"u_second": u.pooled, "v_second": v.pooled}
    if config.get("again", False):
        rows |= {"u_again": u.again, "v_again": v.again}
    return rows | captions(batch, config)


def read(verbs, batch):
    """(second modality, caption), both encoded."""
    v = see(verbs, batch)
    if "caption_length" in batch:
        return v, caption(verbs, batch)
    return v, verbs.encode_text(batch["caption"])


def captions(batch, config):
    """What tells equal captions, where that is asked for: {"ids" float32 [b, T]}, exact below 2 ** 24."""
    return {"ids": batch["caption"].astype(jnp.float32)} if config.get("equal", False) else {}


def equal(rows):
    """bool [B, B] of rows whose captions are equal, or None where that was not asked for."""
    return (rows["ids"][:, None] == rows["ids"][None]).all(-1) if "ids" in rows else None


def compare(verbs, rows, config):
    """The loss Sum of all rows of the global batch. Metric: contrastive_right (captions whose own image is nearest)."""
    present = rows["present"]  # [B]
    offset = verbs.offset() if config.get("loss") == "sigmoid" else 0.0
    texts, pictures = ([rows[key] for key in (name, f"{name}_second") if key in rows] for name in "uv")
    compared = [(u @ v.T, verbs.scale()) for u in texts for v in pictures]
    if config.get("again", False):
        compared.append((rows["u_again"] @ rows["v_again"].T, verbs.scale(True)))
    losses, metrics = zip(
        *(total(cosines, scale, rows, config, "contrastive_right", present, offset) for cosines, scale in compared), strict=True
    )
    return Sum(sum(loss.total for loss in losses) / len(losses), losses[0].weight), metrics[0]


def total(cosines, scale, rows, config, metric, present, offset=0.0):
    """(loss Sum, {metric: Sum}) of cosines [B text, B second]."""
    text, second, right = both_ways(cosines, scale, present, config, equal(rows), offset)
    share = 1.0 if config.get("summed", False) else 0.5
    return Sum(share * (text.total + second.total), text.weight), {metric: weighted(right, present)}

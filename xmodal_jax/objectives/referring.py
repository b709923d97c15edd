"""A phrase finds its object's region and box, or that the picture has none (US 12,386,873 B2; MDETR, Kamath et al., 2021).

    referring: L = mean_k -sum_n t_kn log softmax_n(logits_k)
    boxes:     L = mean over phrases that mean an object of sum_n t_kn [5 |b_kn - b*_k|_1 + 2 (1 - GIoU(b_kn, b*_k))]
t: even over the cells whose middle lies in the phrase's box b* (the nearest one where none does), or "nothing" alone; b_kn: the
box that a cell proposes. Both weights are DETR's (Carion et al., 2020), |.|_1 its sum over the four sides by 4.
"""

import math

import jax
import jax.numpy as jnp

from xmodal_jax.models.locator import centres, iou
from xmodal_jax.objectives.inputs import see
from xmodal_jax.objectives.sums import weighted

L1, GIOU = 5.0, 2.0


def locate(verbs, batch):
    """-> (Located of every phrase, boxes [B K, 4], what each phrase is [B K], t [B K, 1 + N])."""
    found = verbs.refer(see(verbs, batch), batch["phrase"], batch["phrase_length"])
    box, said = batch["phrase_box"].reshape(-1, 4), batch["phrase_said"].reshape(-1)
    side = math.isqrt(found.boxes.shape[1])
    return found, box, said, targets(box, said, (side, side))


def referring(verbs, batch, key, config):
    """Metric: referred (phrases whose likeliest is right: a cell of the object, or nothing)."""
    del key, config
    found, _, said, target = locate(verbs, batch)
    counted = said >= 0
    best = jax.nn.one_hot(found.logits.argmax(-1), target.shape[1])
    loss = weighted(-(target * jax.nn.log_softmax(found.logits)).sum(-1), counted)
    return loss, {"referred": weighted((target * best).sum(-1) > 0, counted)}


def boxes(verbs, batch, key, config):
    """Metric: refer_iou (of the likeliest cell's box and the phrase's)."""
    del key, config
    found, box, said, target = locate(verbs, batch)
    overlap, generalised = iou(found.boxes, box[:, None])  # [B K, N]
    away = jnp.abs(found.boxes - box[:, None]).mean(-1)
    loss = (target[:, 1:] * (L1 * away + GIOU * (1 - generalised))).sum(-1)
    best = jax.nn.one_hot(found.logits[:, 1:].argmax(-1), overlap.shape[1])
    return weighted(loss, said == 1), {"refer_iou": weighted((overlap * best).sum(-1), said == 1)}


def targets(box, said, grid):
    """What each phrase's logits should be: shares [B K, 1 + N] that sum to 1."""
    x, y = centres(grid)
    inside = (x > box[:, None, 0]) & (x < box[:, None, 2]) & (y > box[:, None, 1]) & (y < box[:, None, 3])  # [B K, N]
    away = (x - box[:, None, ::2].mean(-1)) ** 2 + (y - box[:, None, 1::2].mean(-1)) ** 2
    nearest = jax.nn.one_hot(away.argmin(-1), len(x), dtype=bool)
    inside = jnp.where(inside.any(-1, keepdims=True), inside, nearest) & (said == 1)[:, None]
    whole = jnp.concatenate([(said != 1)[:, None], inside], axis=1).astype(jnp.float32)
    return whole / whole.sum(-1, keepdims=True)

"""Where a teacher's tokens look in its last layer (DistillVLM, Fang et al., 2021, "Compressing visual-linguistic model via
knowledge distillation").

    L = mean over real tokens i of mean over heads of sum_j (A_ij - A'_ij)^2
A: attention of the fused pair's last layer, each row sums to 1; A': the teacher's of the same view, without a gradient. Where
their numbers of heads differ each is the mean over its own. Without dropout.
"""

import jax
import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.models.stacks import sown
from xmodal_jax.objectives.inputs import only_where_seen, see
from xmodal_jax.objectives.sums import Sum, weighted
from xmodal_jax.objectives.views import text, view_of


def attention_maps(verbs, batch, key, config):
    """Metric: attention_maps_error, the loss over that of looking at all tokens alike: below 1 is better than it."""
    del key
    view = view_of(config, "clean", "objectives.attention_maps")
    (own, there), (slow, theirs) = (last(one, batch, view) for one in (verbs, verbs.teacher()))
    if own.shape[-1] != slow.shape[-1]:
        raise UserError(
            f"objectives.attention_maps: the teacher fuses {slow.shape[-1]} tokens, this model {own.shape[-1]}: both must have "
            "the same kind of image encoder."
        )
    slow = jax.lax.stop_gradient(slow)
    there = there & theirs  # [B, M]
    if own.shape[1] != slow.shape[1]:
        own, slow = own.mean(1, keepdims=True), slow.mean(1, keepdims=True)
    even = (there / there.sum(-1, keepdims=True))[:, None, None]  # [B, 1, 1, M]
    distance, worst = (((a - slow) ** 2).sum(-1).mean(1) for a in (own, even))  # [B, M]
    loss = weighted(distance, there)
    return loss, {"attention_maps_error": Sum(loss.total, weighted(worst, there).total)}


def last(verbs, batch, view):
    """Attention of the fused pair's last layer [B, H, M, M], and which tokens are there, bool [B, M]."""
    words, image = text(verbs, batch, view), only_where_seen(batch, see(verbs, batch, view == "joint"))
    weights = of_one_stream(verbs, words, image)
    if weights is None:
        raise UserError("objectives.attention_maps needs an interaction of one stream, of this model and of its teacher.")
    return weights[-1], jnp.concatenate([words.mask, image.mask], axis=1)


def of_one_stream(verbs, words, image):
    """Attention of a pair that is fused in one stream [L, B, H, M, M]; None where it is fused otherwise."""
    stack = verbs.watched("fuse", words, image, "both").get("interaction", {}).get("encoder")
    return None if stack is None else sown(stack["layers"], "attention", "weights")

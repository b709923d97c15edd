"""A model learns the vectors of a larger one: embedding distillation (as in Hinton et al., 2015, of what a dual encoder gives).

    L = 1/2 mean_b (1 - u_b . u'_b) + 1/2 mean_b (1 - v_b . v'_b)
u, v: unit vectors of a row's text and picture; u', v': those of the teacher, which learns nothing.
"""

import jax
import jax.numpy as jnp

from xmodal_jax.objectives.contrastive import represent
from xmodal_jax.objectives.sums import Sum, weighted


def distillation(verbs, batch, key, config):
    """Metric: distilled (mean cosine of both kinds of vectors with the teacher's)."""
    del key
    own, teachers = (represent(one, batch, config) for one in (verbs, verbs.teacher()))
    cosines = [jnp.sum(own[name] * jax.lax.stop_gradient(teachers[name]), axis=-1) for name in ("u", "v")]  # [B] each
    loss = weighted(1 - (cosines[0] + cosines[1]) / 2, own["present"])
    return loss, {"distilled": Sum(loss.weight - loss.total, loss.weight)}

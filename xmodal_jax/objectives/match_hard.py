"""Are a text and a picture a pair, where the wrong ones are hard to tell (ALBEF, Li et al., 2021)?

    L = 1/3 mean_b [-log p(pair | u_b, v_b) - log p(none | u_b, v_j) - log p(none | u_k, v_b)]
j and k are drawn from the batch, by softmax of h s u_b . v_c, the scaled similarities of the contrastive vectors, neither the
own pair nor one of the same group, nor a row without a picture; h: `hardness`, 1 as published, at 0 all are alike. The draw is
the argmax of scores with Gumbel noise of the batch's rows, and carries no gradient.
"""

import jax
import jax.numpy as jnp

from xmodal_jax.objectives.contrast import represent as vectors
from xmodal_jax.objectives.inputs import has_second, see
from xmodal_jax.objectives.sums import Sum, classified
from xmodal_jax.objectives.views import text

NEVER = -1e9


def represent(verbs, batch, config):
    """-> {"u", "v" [b, P], "present", "group" float32 [b], "scale" float32 [b]}."""
    rows = vectors(verbs, batch, {})
    return {name: rows[name] for name in ("u", "v", "present", "group")} | {"scale": jnp.full(len(rows["u"]), verbs.scale())}


def choose(rows, key, config):
    """Of the rows of the whole batch -> {"image", "text": int32 [B]}, where each row's wrong picture and wrong text stand."""
    scores = config.get("hardness", 1.0) * rows["scale"][0] * rows["u"] @ rows["v"].T  # [B text, B image]
    own = jnp.eye(len(scores), dtype=bool)
    alike = own | ((rows["group"][:, None] == rows["group"]) & (rows["group"] >= 0))
    usable = ~alike & (rows["present"] > 0)[None]

    def draw(scores, key):
        return jnp.where(usable, scores + jax.random.gumbel(key, scores.shape), NEVER).argmax(-1).astype(jnp.int32)

    first, second = jax.random.split(key)
    return {"image": draw(scores, first), "text": draw(scores.T, second)}


def labels(batch, config=None):
    """1 of the right pairs, then 0 of those with a wrong picture and with a wrong text, int [3 B]; -1 without a picture."""
    del config
    there = has_second(batch)
    return jnp.concatenate([jnp.where(there, wanted, -1) for wanted in (1, 0, 0)])


def match_hard(verbs, batch, key, config, chosen):
    """Metric: match_hard_right (pairs, right and wrong, that are told rightly)."""
    del key, config
    own = text(verbs, batch, "clean"), see(verbs, batch)
    others = chosen.texts(verbs, batch, "text"), chosen.images(verbs, batch, "image")
    pairs = (own[0], own[1]), (own[0], others[1]), (others[0], own[1])
    words, places = (jax.tree.map(lambda *parts: jnp.concatenate(parts), *side) for side in zip(*pairs, strict=True))
    logits = verbs.predict("match", verbs.fuse(words, places, "both").pooled)  # [3 B, 2]
    loss, right = classified(logits, labels(batch), "match_hard_right")
    return Sum(loss.total / 3, loss.weight / 3), right

"""What is in the masked regions, from the other regions and the text (masked region classification; UNITER, Chen et al., 2020).

    hard: L = mean over masked regions r of known class of -log softmax(classes_head(h_r))_c
    soft: L = mean over masked regions r of KL(q_r || softmax(classes_head(h_r))),  q_r = softmax(detector_head(f_r))
    attributes: L = mean over masked regions r of known attribute of -log softmax(attributes_head(h_r))_a (LXMERT)
    detector: L = mean over regions of known class of -log softmax(detector_head(f_r))_c
h: tokens of the fused pair; f: features of the regions, before any is masked. Public models take q from a detector that was
trained elsewhere; here a linear classifier learns it beside, and q carries no gradient. With "pairs" wrong pairs do not count;
where = "all" counts regions that are not masked too (LXMERT).
"""

import jax
import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.objectives.inputs import see
from xmodal_jax.objectives.sums import classified, weighted
from xmodal_jax.objectives.views import fused_regions, view_of

TARGETS = ("hard", "soft")
WHERE = ("masked", "all")


def classes(verbs, batch, key, config):
    """Metric: classes_right (masked regions of known class whose likeliest is right)."""
    del key
    x = fused_regions(verbs, batch, view_of(config, "regions", "objectives.classes"))
    logits, targets = verbs.predict("classes", x), config.get("targets", TARGETS[0])  # [B, R, C]
    loss, right = classified(logits, labels(batch, config), "classes_right")  # [B, R]
    if targets == "hard":
        return loss, right
    if targets != "soft":
        raise UserError(f"objectives.classes.targets={targets!r}: must be one of {', '.join(TARGETS)}.")
    told = jax.lax.stop_gradient(jax.nn.log_softmax(verbs.predict("detector", see(verbs, batch).features)))
    values = (jnp.exp(told) * (told - jax.nn.log_softmax(logits))).sum(-1)
    return weighted(values, counted(batch, config)), right


def attributes(verbs, batch, key, config):
    """Metric: attributes_right (masked regions of known attribute whose likeliest is right)."""
    del key
    x = fused_regions(verbs, batch, view_of(config, "regions", "objectives.attributes"))
    return classified(verbs.predict("attributes", x), like(batch, config), "attributes_right")


def counted(batch, config):
    """Regions that count, bool [B, R]."""
    where = config.get("where", WHERE[0])
    if where not in WHERE:
        raise UserError(f"objectives.classes.where={where!r}: must be one of {', '.join(WHERE)}.")
    regions = batch["regions_target" if where == "masked" else "regions_there"]
    return regions & (batch["match"] != 0)[:, None] if config.get("pairs", False) else regions


def labels(batch, config):
    """Classes of the regions that count int [B, R], -1 where there is none or it is unknown."""
    return jnp.where(counted(batch, config), batch["region_class"], -1)


def like(batch, config):
    """Attributes of the regions that count int [B, R], -1 where there is none or it is unknown."""
    return jnp.where(counted(batch, config), batch["region_attribute"], -1)


def detector(verbs, batch, key, config):
    """Metric: detector_right (regions of known class whose likeliest is right)."""
    del key, config
    return classified(verbs.predict("detector", see(verbs, batch).features), seen(batch), "detector_right")


def seen(batch, config=None):
    """Classes of all regions int [B, R], -1 where there is none or it is unknown."""
    del config
    return jnp.where(batch["regions_there"], batch["region_class"], -1)

"""Masked words, from the other words and the picture (masked language modelling; BERT, Devlin et al., 2019).

    L = mean over masked places t of -log softmax(words_head(h_t))_w
h: tokens of the fused pair; w: what stood there. With a momentum teacher (ALBEF, Li et al., 2021) the target is
(1 - a) [w] + a softmax(words_head(h'_t)), h' the teacher's, a the setting `distil` after a ramp; with `second_picture` beside
the second view of the picture, which the teacher has seen for the contrast (TCL, Yang et al., 2022). In rows that are causal
(`examples.causal`) words see only those before them (Unified VLP, Zhou et al., 2020).
"""

import jax
import jax.numpy as jnp

from xmodal_jax.objectives.contrast import distilled
from xmodal_jax.objectives.sums import weighted
from xmodal_jax.objectives.views import fused, second_picture, view_of


def words(verbs, batch, key, config):
    """Metric: words_right (masked words whose likeliest is right)."""
    del key
    wanted, view = labels(batch, config), view_of(config, "masked", "objectives.words")  # [B, K]

    def told(verbs, batch):
        x = fused(verbs, batch, view, batch.get("causal", "both")).text  # [B, T, D]
        return verbs.predict("words", jnp.take_along_axis(x, batch["masked_places"][..., None], axis=1))  # [B, K, V]

    logits = told(verbs, batch)
    logp = jax.nn.log_softmax(logits)
    values = -jnp.take_along_axis(logp, jnp.maximum(wanted, 0)[..., None], axis=-1)[..., 0]
    if config.get("distil", 0.0) and verbs.has_teacher:
        share = distilled(verbs, config)
        shown = second_picture(batch) if config.get("second_picture", False) else batch
        soft = jax.lax.stop_gradient(jax.nn.softmax(told(verbs.teacher(), shown)))
        values = (1 - share) * values - share * (soft * logp).sum(-1)
    return weighted(values, wanted >= 0), {"words_right": weighted(logits.argmax(-1) == wanted, wanted >= 0)}


def labels(batch, config):
    """The masked words int [B, K], -1 where there is none; with `pairs`, of a joint pass, and beside another picture too."""
    wanted = batch["masked_words"]
    return jnp.where((batch["match"] != 0)[:, None], wanted, -1) if config.get("pairs", False) else wanted


def momentum(config):
    """Patterns of the parameters that a teacher of it has: none without `distil`."""
    return (r"^(image|text|interaction|words_head)/",) if config.get("distil", 0.0) else ()

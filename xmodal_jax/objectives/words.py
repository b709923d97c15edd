"""Masked words, from the other words and the picture (masked language modelling; BERT, Devlin et al., 2019).

    L = mean over masked places t of -log softmax(words_head(h_t))_w
h: tokens of the fused pair; w: what stood there. With a momentum teacher (ALBEF, Li et al., 2021) the target is
(1 - a) [w] + a softmax(words_head(h'_t)), h' the teacher's, a the setting `distil` after a ramp.
"""

import jax.numpy as jnp
import optax

from xmodal_jax.objectives.sums import weighted
from xmodal_jax.objectives.views import fused, view_of


def words(verbs, batch, key, config):
    """Metric: words_right (masked words whose likeliest is right)."""
    del key
    places, wanted = batch["masked_places"], labels(batch)  # [B, K]
    x = jnp.take_along_axis(
        fused(verbs, batch, view_of(config, "masked", "objectives.words")).text, places[..., None], axis=1
    )  # [B, K, D]
    logits = verbs.predict("words", x)  # [B, K, V]
    values = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(wanted, 0))
    return weighted(values, wanted >= 0), {"words_right": weighted(logits.argmax(-1) == wanted, wanted >= 0)}


def labels(batch, config=None):
    """The masked words int [B, K], -1 where there is none."""
    del config
    return batch["masked_words"]


def momentum(config):
    """Patterns of the parameters that a teacher of it has: none without `distil`."""
    return (r"^(image|text|interaction|words_head)/",) if config.get("distil", 0.0) else ()

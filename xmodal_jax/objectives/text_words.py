"""Masked words from the other words of a text alone (BERT, Devlin et al., 2019; beside pairs in FLAVA, Singh et al., 2022, and
DeCLIP, Li et al., 2022): the loss of `words`, on what the text encoder itself gives."""

import jax.numpy as jnp

from xmodal_jax.objectives.sums import classified
from xmodal_jax.objectives.views import text, view_of


def text_words(verbs, batch, key, config):
    """Metric: text_words_right (masked words whose likeliest is right)."""
    del key
    x = text(verbs, batch, view_of(config, "masked", "objectives.text_words")).deepest
    logits = verbs.predict("text_words", jnp.take_along_axis(x, batch["masked_places"][..., None], axis=1))  # [B, K, V]
    return classified(logits, batch["masked_words"], "text_words_right")

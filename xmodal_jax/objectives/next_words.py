"""Each next word of a caption, from those before it and the picture, by the fused layers themselves under a causal mask.

    L = - sum_{b, t <= n_b} log softmax(words_head(h_bt))_{w_b,t+1} / sum_b n_b
h: tokens of the pair fused in the setting `mode`, "causal", or "sequence", in which words do not see the picture. Captioning
without a decoder of its own: CoCa (Yu et al., 2022), whose upper layers read the image; UniLM's sequence to sequence (Unified
VLP, Zhou et al., 2020); XGPT (Xia et al., 2020).
"""

import jax.numpy as jnp

from xmodal_jax.objectives.sums import classified
from xmodal_jax.objectives.views import fused


def next_words(verbs, batch, key, config):
    """Metric: next_words_right (words whose likeliest is right)."""
    del key
    logits = verbs.predict("words", fused(verbs, batch, "clean", config.get("mode", "causal")).text[:, :-1])  # [B, T - 1, V]
    return classified(logits, labels(batch), "next_words_right")


def labels(batch, config=None):
    """The next words int [B, T - 1], -1 behind the closing end mark and in rows without a text."""
    del config
    following = batch["caption"][:, 1:]
    there = jnp.arange(following.shape[1])[None] < batch["caption_length"][:, None]
    return jnp.where(there & (batch["caption_length"] > 1)[:, None], following, -1)

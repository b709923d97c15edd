"""Each next patch of a picture as a number, row by row, from the text and the patches before it (DALL-E, Ramesh et al., 2021).

    L = - mean_b mean_n log softmax(codes_head(h_b,n-1))_{c_bn},  h_b,-1: the token of the text's closing mark
h: tokens of text and picture fused in the mode "sequence", in which each sees what stands before it alone.
"""

import jax.numpy as jnp

from xmodal_jax.models.vectors import at
from xmodal_jax.objectives.sums import classified
from xmodal_jax.objectives.views import fused


def next_codes(verbs, batch, key, config):
    """Metric: next_codes_right (patches whose likeliest number is right)."""
    del key, config
    pair = fused(verbs, batch, "clean", "sequence")
    x = jnp.concatenate([at(pair.text, batch["caption_length"])[:, None], pair.image[:, :-1]], axis=1)  # [B, N, D]
    return classified(verbs.predict("codes", x), labels(batch), "next_codes_right")


def labels(batch, config=None):
    """Numbers of all patches, int [B, N]."""
    del config
    return batch["codes"]

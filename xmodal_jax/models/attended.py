"""Attended similarity of a text and a picture (US 12,386,873 B2, attention module 230; SCAN, Lee et al., 2018).

    w_tn = softmax_n(k e_t . r_n),  a_t = sum_n w_tn r_n,  S = sum_t i_t cos(e_t, a_t)
e_t: words, r_n: regions, unit vectors, or zeros for a region that there is not; i_t: importance of each word, which sum to 1;
k: sharpness of the attention.
Letters: B texts, C pictures, T words, N regions, P width.
"""

import jax
import jax.numpy as jnp

from xmodal_jax.models.vectors import inverse_length

NEVER = -1e9
ROWS = 16  # texts compared at a time


def attended(words, importance, regions, sharpness):
    """words [B, T, P], importance [B, T], regions [C, N, P] -> S float32 [B, C]."""
    gram, none = jnp.einsum("cnp,cmp->cnm", regions, regions), absent(regions)

    @jax.checkpoint  # [T, C, N] of each text is not kept for the gradient
    def of_text(text):
        words, importance = text
        cosines = jnp.einsum("tp,cnp->tcn", words, regions)
        weights = jax.nn.softmax(jnp.where(none, NEVER, sharpness * cosines))
        length = jnp.einsum("tcn,cnm,tcm->tc", weights, gram, weights)
        return importance @ ((weights * cosines).sum(-1) * inverse_length(length))  # [C]

    return jax.lax.map(of_text, (words, importance), batch_size=min(ROWS, len(words)))


def attention(words, regions, sharpness):
    """Where each word of a text looks in its picture: [B, T, P], [B, N, P] -> w [B, T, N]."""
    cosines = jnp.einsum("btp,bnp->btn", words, regions)
    return jax.nn.softmax(jnp.where(absent(regions)[:, None], NEVER, sharpness * cosines))


def absent(regions):
    """Which regions [..., N, P] there are not, bool [..., N]."""
    return ~(regions != 0).any(-1)

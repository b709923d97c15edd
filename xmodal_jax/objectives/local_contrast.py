"""Contrast of what stands at one place with the whole, within a modality (TCL, Yang et al., 2022, "local MI").

    L_b = mean over n in N_b of -log( e_bn / (e_bn + sum_{c /= b} sum_{m in N_c} e_cm) ),  e_cm = exp(s l'_cm . g_b)
g_b: unit vector of row b; l'_bn: its places as a teacher sees them, N_b those that are there. Places of a picture are the means
of windows of its patches. Letters: B rows, N places, P width.
"""

import math

import jax
import jax.numpy as jnp

from xmodal_jax.models.vectors import unit

NEVER = -1e9


def windows(image):
    """Of an encoded image: means over windows of the unit vectors of its patches, float32 [B, N, P]. A side of S patches has
    windows of floor(sqrt(S)); what is left of the side at its end belongs to none."""
    x = unit(image.x)[:, image.class_tokens :]
    B, S = len(x), math.isqrt(x.shape[1])
    if x.shape[1] != S * S:
        return x  # regions are no grid: each is a place
    k = math.isqrt(S)
    n = S // k
    x = x.reshape(B, S, S, -1)[:, : n * k, : n * k]
    return x.reshape(B, n, k, n, k, -1).mean((2, 4)).reshape(B, n * n, -1)


def words(text):
    """Of an encoded text: (unit vectors float32 [B, T, P] of what follows its first token, which of them are there [B, T])."""
    return unit(text.x)[:, 1:], text.mask[:, 1:].astype(jnp.float32)


def local_contrast(g, places, there, scale, usable):
    """g [B, P], places [B, N, P], there float32 [B, N], usable bool [B, B] (row b takes c for a negative) -> L [B]."""
    scores = scale * jnp.einsum("bp,cmp->bcm", g, places)  # [B, B, N]
    own = jnp.diagonal(scores).T  # [B, N]
    others = usable[..., None] & (there > 0)[None] & ~jnp.eye(len(g), dtype=bool)[..., None]
    rest = jax.nn.logsumexp(jnp.where(others, scores, NEVER), axis=(1, 2))[:, None]  # [B, 1]
    return ((jnp.logaddexp(own, rest) - own) * there).sum(1) / jnp.maximum(there.sum(1), 1.0)

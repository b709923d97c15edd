"""Contrast by attended similarity: how well a picture's regions answer each word (US 12,386,873 B2, module 230).

    L = 1/2 (L_text + L_image) over S_bc = models.attended of the words of text b and the regions of picture c
a loss of `ranking`, as `contrastive`'s over one vector each; SCAN (Lee et al., 2018) is the text-to-image form with triplets.
"""

import jax.numpy as jnp

from xmodal_jax.objectives.contrastive import captions, read, total
from xmodal_jax.objectives.inputs import has_second


def represent(verbs, batch, config):
    """Rows of a batch or a part of it -> {"words" [b, T, P], "importance" [b, T], "regions" [b, N, P], "present" [b]}."""
    v, u = read(verbs, batch)
    words, importance = verbs.words(u)
    rows = {"words": words, "importance": importance, "regions": verbs.regions(v)}
    return {**rows, "present": has_second(batch).astype(jnp.float32), **captions(batch, config)}


def compare(verbs, rows, config):
    """The loss Sum of all rows of the global batch. Metric: attended_right (captions whose own image is nearest)."""
    cosines = verbs.attend(rows["words"], rows["importance"], rows["regions"])
    return total(cosines, verbs.attended_scale(), rows, config, "attended_right", rows["present"])

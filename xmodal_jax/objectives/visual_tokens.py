"""A visual dictionary (SOHO, Huang et al., 2021): the entries of hidden cells, and entries that follow the cells.

visual_tokens:  L = mean over hidden cells of -log softmax(head(h))_k
h: tokens of the fused pair; k: number of the cell's entry before it was hidden; hidden are all cells of one entry, so that none
of them tells another.

dictionary:  L = c mean |z - sg(e_k)|^2 / D (c: `commitment`, 1/4 in van den Oord et al., 2017, 0 in SOHO's public code)
and with every step n of the batch's cells, for each entry k, with decay d_n = min(d n, 0.99):
    c_k <- d_n c_k + (1 - d_n) n_k,  s_k <- d_n s_k + (1 - d_n) sum of its z,  e_k = s_k / c'_k,  c' = smoothed c (Laplace)
An entry that has lost its cells, c_k below `LEAST`, becomes one of the batch's cells.
"""

import jax
import jax.numpy as jnp

from xmodal_jax.models.images.dictionary import TABLE
from xmodal_jax.objectives.inputs import has_second, see
from xmodal_jax.objectives.sums import Sum, classified, weighted
from xmodal_jax.objectives.views import fused, view_of

SMOOTH, LEAST, MOST = 1e-5, 1e-2, 0.99


def visual_tokens(verbs, batch, key, config):
    """Metric: visual_tokens_right (hidden cells whose likeliest entry is right)."""
    del key
    seen = see(verbs, batch, True)
    view = view_of(config, "regions", "objectives.visual_tokens")
    logits = verbs.predict("visual_tokens", fused(verbs, batch, view).image[:, seen.class_tokens :])  # [B, N, K]
    wanted = jnp.where(seen.hidden & has_second(batch)[:, None], seen.codes, -1)
    return classified(logits, wanted, "visual_tokens_right")


def represent(verbs, batch, config):
    """-> {"z" [b, N, D], "codes" float32 [b, N], "counts" float32 [b, K]: cells of each entry}."""
    del config
    seen, entries = see(verbs, batch), len(verbs.params["image"][TABLE])
    counts = jax.nn.one_hot(seen.codes, entries).sum(1)
    return {"z": seen.features, "codes": seen.codes.astype(jnp.float32), "counts": counts}


def remember(config, rows):
    """Nothing yet of any entry."""
    del config
    count, width = rows["counts"].shape[-1], rows["z"].shape[-1]
    return {"counts": jnp.zeros(count), "sums": jnp.zeros((count, width)), "steps": jnp.zeros(())}


def compare(verbs, rows, config):
    """The loss Sum. Metric: dictionary_used, the share of the entries that cells of the batch are nearest to."""
    memory, table = verbs.recalled("dictionary"), verbs.params["image"][TABLE]
    z, codes = rows["z"].reshape(-1, rows["z"].shape[-1]), rows["codes"].reshape(-1).astype(jnp.int32)
    loss = weighted(((z - jax.lax.stop_gradient(table[codes])) ** 2).mean(-1), jnp.ones(len(z)))
    z, mine = jax.lax.stop_gradient(z), rows["counts"].sum(0)
    if memory is not None:
        verbs.keep("dictionary", moved(memory, z, codes, mine, config.get("decay", 0.4)))
    return Sum(config.get("commitment", 0.25) * loss.total, loss.weight), {
        "dictionary_used": Sum((mine > 0).sum().astype(jnp.float32), jnp.float32(len(mine)))
    }


def moved(memory, z, codes, counts, decay):
    """Counts and sums with those of a batch."""
    rate = jnp.minimum(decay * memory["steps"], MOST)
    counts = rate * memory["counts"] + (1 - rate) * counts
    sums = rate * memory["sums"] + (1 - rate) * jnp.zeros_like(memory["sums"]).at[codes].add(z)
    dead = counts < LEAST
    cells = z[(jnp.cumsum(dead) - 1) * (len(z) // len(counts) + 1) % len(z)]  # spread over the batch
    counts, sums = jnp.where(dead, 1.0, counts), jnp.where(dead[:, None], cells, sums)
    return {"counts": counts, "sums": sums, "steps": memory["steps"] + 1}


def written(memory):
    """{path: entries [K, D]} of what is remembered."""
    counts = memory["counts"]
    smoothed = (counts + SMOOTH) / (counts.sum() + len(counts) * SMOOTH) * counts.sum()
    return {f"image/{TABLE}": memory["sums"] / jnp.maximum(smoothed, SMOOTH)[:, None]}

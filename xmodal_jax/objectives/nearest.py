"""Contrast of pictures with the text that is nearest to their own among earlier ones (nearest-neighbour supervision; DeCLIP, Li
et al., 2022; Dwibedi et al., 2021, "With a little help from my friends").

    L = 1/2 mean_b [-log softmax_c(s v_b . q(u_c))_b - log softmax_c(s q(u_b) . v_c)_b]
v, u: unit vectors of pictures and texts; q(u): the vector of the queue whose cosine with u is largest, u itself as long as the
queue is empty. The queue holds the texts' vectors of the last steps, and carries no gradient.
"""

import jax
import jax.numpy as jnp

from xmodal_jax.objectives.contrast import pushed
from xmodal_jax.objectives.contrastive import represent as vectors
from xmodal_jax.objectives.contrastive import total


def represent(verbs, batch, config):
    """-> {"u", "v" [b, P], "present" float32 [b]}."""
    del config
    return vectors(verbs, batch, {})


def remember(config, rows):
    """An empty queue of texts, newest first."""
    size = config.get("queue", 1024)
    return {"u": jnp.zeros((size, rows["u"].shape[1])), "valid": jnp.zeros(size, bool)}


def compare(verbs, rows, config):
    """The loss Sum of all rows of the global batch. Metric: nearest_right (pictures whose own text's neighbour is nearest)."""
    memory, neighbours = verbs.recalled("nearest"), rows["u"]
    if memory is not None:
        scores = jnp.where(memory["valid"][None], jax.lax.stop_gradient(rows["u"]) @ memory["u"].T, -2.0)
        found = memory["u"][scores.argmax(-1)]
        neighbours = jnp.where(memory["valid"].any(), found, rows["u"])
        verbs.keep("nearest", pushed(memory, rows, {"u": "u"}))
    return total(neighbours @ rows["v"].T, verbs.scale(), rows, config, "nearest_right", rows["present"])

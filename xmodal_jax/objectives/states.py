"""A pair's vector against its teacher's and those of other pairs (the hidden states of DistillVLM, Fang et al., 2021).

    L = mean_b -log softmax_c(s_b . K_c / temperature)_b,  K = [t of the batch ; queue of earlier t]
    s_b = unit(W mean_i x_bi),  t_b = unit(mean_i x'_bi)
x: real tokens of the fused pair; x': the teacher's of the same view, without a gradient; W: the head "states", of which nothing
is left in the finished model.
"""

import jax
import jax.numpy as jnp

from xmodal_jax.models.vectors import masked_mean, unit
from xmodal_jax.objectives.contrast import NEVER, pushed
from xmodal_jax.objectives.inputs import has_second
from xmodal_jax.objectives.sums import weighted
from xmodal_jax.objectives.views import fused, view_of


def represent(verbs, batch, config):
    """-> {"s", "t" [b, width of the teacher], "present" float32 [b]}."""
    view = view_of(config, "clean", "objectives.states")

    def vector(verbs):
        pair = fused(verbs, batch, view)
        tokens = jnp.concatenate([pair.text, pair.image], axis=1)
        return masked_mean(tokens, jnp.concatenate([pair.text_mask, pair.image_mask], axis=1))

    slow = jax.lax.stop_gradient(unit(vector(verbs.teacher())))
    return {"s": unit(verbs.predict("states", vector(verbs))), "t": slow, "present": has_second(batch).astype(jnp.float32)}


def remember(config, rows):
    """An empty queue of the teacher's vectors, newest first."""
    size = config.get("queue", 4096)
    return {"t": jnp.zeros((size, rows["t"].shape[1])), "valid": jnp.zeros(size, bool)}


def compare(verbs, rows, config):
    """The loss Sum of all rows of the global batch. Metric: states_right (pairs nearest to their own of the teacher)."""
    keys, valid, memory = rows["t"], rows["present"] > 0, verbs.recalled("states")
    own = jnp.arange(len(keys))
    if memory is not None:
        keys, valid = jnp.concatenate([keys, memory["t"]]), jnp.concatenate([valid, memory["valid"]])
        verbs.keep("states", pushed(memory, rows, {"t": "t"}))
    scores = jnp.where(valid[None], rows["s"] @ keys.T / config.get("temperature", 0.1), NEVER)  # [B, B + Q]
    losses = -jnp.take_along_axis(jax.nn.log_softmax(scores), own[:, None], axis=1)[:, 0]
    return weighted(losses, rows["present"]), {"states_right": weighted(scores.argmax(-1) == own, rows["present"])}

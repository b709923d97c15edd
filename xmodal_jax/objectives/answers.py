"""Which answer a question about a picture has, of those that can be given (LXMERT, Tan and Bansal, 2019).

    L = mean over answered questions beside their own picture of -log softmax(answers_head(p_b))_a
p: pooled vector of the fused pair; a: the usual answer, -1 for a text that is no question, or whose answer cannot be given.
"""

import jax.numpy as jnp

from xmodal_jax.objectives.sums import classified
from xmodal_jax.objectives.views import fused, view_of


def answers(verbs, batch, key, config):
    """Metric: answers_right (questions whose likeliest answer is right)."""
    del key
    view = view_of(config, "clean", "objectives.answers")
    logits, wanted = verbs.predict("answers", fused(verbs, batch, view).pooled), labels(batch, config)  # [B, K], [B]
    return classified(logits, wanted, "answers_right")


def labels(batch, config):
    """The usual answers int [B], -1 where there is none, and in a joint pass beside another picture."""
    return jnp.where(batch["match"] == 1, batch["answer"], -1) if config.get("view") == "joint" else batch["answer"]

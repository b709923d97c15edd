"""Which answer would people give? Cross-entropy over the answers that can be given.

    soft:   L = - sum_a s_a / (sum_c s_c) log softmax(f)_a,   s_a = accuracy of answer a with the annotators
    hard:   L = - log softmax(f)_argmax s
    binary: L = - sum_a [s_a log sigma(f_a) + (1 - s_a) log(1 - sigma(f_a))]   (Teney et al., 2018)
Questions none of whose answers can be given carry no weight, but in the binary loss.
"""

import jax
import jax.numpy as jnp
import optax

from xmodal_jax.errors import UserError
from xmodal_jax.objectives.inputs import gather
from xmodal_jax.objectives.sums import weighted

TARGETS = ("soft", "hard", "binary")


def answering(verbs, batch, key, config):
    """Metric: answer_accuracy, the annotators' agreement with the likeliest answer."""
    del key
    targets = config.get("targets", "soft")
    if targets not in TARGETS:
        raise UserError(f"objectives.answering.targets={targets!r}: must be one of {', '.join(TARGETS)}.")
    logits = verbs.fuse(gather(verbs, batch)).logits  # [B, K]
    numbers, scores = jnp.maximum(batch["answers"], 0), batch["scores"] * (batch["answers"] >= 0)  # [B, A]
    total = scores.sum(1)
    rows = total > 0
    if targets == "binary":
        wanted = jnp.zeros_like(logits).at[jnp.arange(len(logits))[:, None], numbers].add(scores)
        loss, counted = optax.sigmoid_binary_cross_entropy(logits, wanted).sum(1), jnp.ones_like(rows)
    else:
        shares = scores / jnp.maximum(total, 1e-6)[:, None]
        if targets == "hard":
            shares = jax.nn.one_hot(scores.argmax(1), scores.shape[1])
        logp = jnp.take_along_axis(jax.nn.log_softmax(logits), numbers, axis=1)
        loss, counted = -jnp.sum(shares * logp, axis=1), rows
    agreed = jnp.sum(scores * (numbers == logits.argmax(1)[:, None]), axis=1)
    return weighted(loss, counted), {"answer_accuracy": weighted(agreed, jnp.ones_like(rows))}

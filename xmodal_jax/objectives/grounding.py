"""What each named word is associated with must tell the word: a learning signal of the association's own, without boxes.

    L = - mean over bytes t of named words of log softmax(h(sum_k A_tk z_k))_w(t)
A: association of the word's bytes (of captions as they are), or of the gap that was made of it (of masked texts; of prompts of
captions, in the better order, see `gaps`); z: what is left of the second modality after reduction; w: the hash bucket of the
word's thing. The head sees nothing of the text, so that "dog" can be told only by looking at the dog: the alignment of words
and regions of FILIP (Yao et al., 2022) and GLIP (Li et al., 2022), with a vocabulary in place of a batch of captions.
"""

import jax
import jax.numpy as jnp

from xmodal_jax.objectives import gaps
from xmodal_jax.objectives.inputs import has_second, see
from xmodal_jax.objectives.sums import added, weighted

TEXTS = {  # of a metric: the ids, what stands at each, and who tells it
    "caption": ("caption", "caption_names", "name_words"), "masked": ("text", "text_names", "name_words"),
    "attributes": ("caption", "caption_attributes", "name_attributes"),
}  # fmt: skip


def grounding(verbs, batch, key, config):
    """Metrics: grounded_caption, grounded_masked (bytes of named words, and of gaps, whose likeliest thing is right), and where
    attributes are told grounded_attributes (bytes of words of things whose likeliest attribute is right). Setting: attributes,
    what a byte that tells an attribute counts beside one that tells a thing (1)."""
    del key
    second, losses, metrics = see(verbs, batch), [], {}
    for name, (ids, names, teller) in TEXTS.items():
        if names not in batch:
            continue
        text = verbs.encode_text(batch[ids], batch["segments"]) if name == "masked" else verbs.encode_text(batch[ids])
        logits = getattr(verbs, teller)(verbs.fuse(text, second).taken)  # [B, T, buckets]
        wanted = by_token(batch[names], logits.shape[1])
        counted = (wanted >= 0) & has_second(batch)[:, None]
        values = -jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.maximum(wanted, 0)[..., None], axis=-1)[..., 0]
        losses.append(weighted(values, counted * (config.get("attributes", 1.0) if name == "attributes" else 1.0)))
        metrics[f"grounded_{name}"] = weighted(logits.argmax(-1) == wanted, counted)
    if "told_names" in batch:
        _, costs, count = gaps.matched(verbs, batch)
        losses.append(weighted(costs / jnp.maximum(count, 1), count * has_second(batch)))
    return added(losses), metrics


def by_token(names, tokens):
    """Names of bytes int [B, T'] -> of text tokens [B, T]: that of a token's first named byte, -1 where there is none."""
    return names.reshape(len(names), tokens, -1).max(-1)

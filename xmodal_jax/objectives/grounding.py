"""What each named word is associated with must tell the word: a learning signal of the association's own, without boxes.

    L = - mean over bytes t of named words of log softmax(h(sum_k A_tk z_k))_w(t)
A: association of the word's bytes (of captions as they are), or of the gap that was made of it (of masked texts); z: what is
left of the second modality after reduction; w: the hash bucket of the word's thing. The head sees nothing of the text, so that
"dog" can be told only by looking at the dog: the alignment of words and regions of FILIP (Yao et al., 2022) and GLIP (Li et
al., 2022), with a vocabulary in place of a batch of captions.
"""

import jax
import jax.numpy as jnp

from xmodal_jax.objectives.inputs import has_second, see
from xmodal_jax.objectives.sums import Sum, weighted

TEXTS = {"caption": ("caption", "caption_names"), "masked": ("text", "text_names")}


def grounding(verbs, batch, key, config):
    """Metrics: grounded_caption, grounded_masked (bytes of named words, and of gaps, whose likeliest thing is right)."""
    del key, config
    second, losses, metrics = see(verbs, batch), [], {}
    for name, (ids, names) in TEXTS.items():
        text = verbs.encode_text(batch[ids], batch["segments"]) if name == "masked" else verbs.encode_text(batch[ids])
        logits = verbs.name_words(verbs.fuse(text, second).taken)  # [B, T, buckets]
        wanted = by_token(batch[names], logits.shape[1])
        counted = (wanted >= 0) & has_second(batch)[:, None]
        values = -jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.maximum(wanted, 0)[..., None], axis=-1)[..., 0]
        losses.append(weighted(values, counted))
        metrics[f"grounded_{name}"] = weighted(logits.argmax(-1) == wanted, counted)
    return Sum(*(sum(part) for part in zip(*losses, strict=True))), metrics


def by_token(names, tokens):
    """Names of bytes int [B, T'] -> of text tokens [B, T]: that of a token's first named byte, -1 where there is none."""
    return names.reshape(len(names), tokens, -1).max(-1)

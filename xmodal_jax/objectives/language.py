"""Next-byte cross-entropy of the decoder, for rows of chosen tasks: masked words (claims 5-7) and generated strings.

    L = - sum_{b, s} w_bs log p(target_bs | target_b,<s, text_b, image_b) / sum w
w is 1 on target bytes (the closing end mark included, so that generation stops) of rows of the objective's tasks, and of what
rows owe beside (`ByteExamples.beside`): their pictures are encoded once for all of it.
"""

import jax
import jax.numpy as jnp
import optax

from xmodal_jax.data.bytes import FIRST_SENTINEL, PAD
from xmodal_jax.data.examples import ANSWER, CAPTION, FILL
from xmodal_jax.objectives import gaps
from xmodal_jax.objectives.inputs import has_second, see
from xmodal_jax.objectives.sums import added, weighted

BESIDE = {CAPTION: ("prompt", "told"), ANSWER: ("question", "answer")}  # what a row is asked, what it owes


def target_logits(verbs, batch):
    """Teacher-forced logits [B, S, V] of a batch: both objectives below share one computation."""
    second = see(verbs, batch)
    text = verbs.encode_text(batch["text"], batch["segments"])
    return verbs.decode(batch["inputs"], verbs.fuse(text, second))[0]


def masked_words(verbs, batch, key, config):
    """The masked words of fill rows. Sentinels are given, not guessed: they carry no weight.

    Metrics: masked_byte (share of right bytes), masked_word (share of rows with every masked word right).
    """
    del key
    logits, target = target_logits(verbs, batch), batch["target"]
    is_word = (target != PAD) & (target < FIRST_SENTINEL)
    weights = is_word & (batch["task"] == FILL)[:, None]
    loss, right = byte_loss(logits, target, config.get("label_smoothing", 0.0))
    rows = weights.any(1)
    return weighted(loss, weights), {
        "masked_byte": weighted(right, weights),
        "masked_word": weighted((right | ~is_word).all(1), rows),
    }


def generation(verbs, batch, key, config):
    """Captions and answers, written byte by byte. Metric: generated_byte (share of right bytes)."""
    del key
    return written(verbs, batch, config, (CAPTION, ANSWER), "generated_byte")


def answer_bytes(verbs, batch, key, config):
    """Answers alone, beside `generation`, in whose mean over bytes the longer captions prevail. Metric: answered_byte."""
    del key
    return written(verbs, batch, config, (ANSWER,), "answered_byte")


def written(verbs, batch, config, tasks, name):
    rows = jnp.isin(batch["task"], jnp.array(tasks))
    parts = [(target_logits(verbs, batch), batch["target"], rows, False)]
    for asked, owed in (BESIDE[task] for task in tasks if BESIDE[task][0] in batch):
        segments = verbs.once(jnp.zeros_like, batch[asked])  # that of a row's own text
        fused = verbs.fuse(verbs.encode_text(batch[asked], segments), see(verbs, batch))
        marks = owed == "told" and "told_names" in batch
        target = gaps.in_order(batch[owed], gaps.matched(verbs, batch)[0]) if marks else batch[owed]
        parts.append((verbs.decode(verbs.once(shifted, target), fused)[0], target, has_second(batch), marks))
    losses, rights = [], []
    for logits, target, rows, marks in parts:
        weights = (target != PAD) & ((target < FIRST_SENTINEL) | marks) & rows[:, None]  # a gap's sentinel is else given
        loss, right = byte_loss(logits, target, config.get("label_smoothing", 0.0))
        losses.append(weighted(loss, weights))
        rights.append(weighted(right, weights))
    return added(losses), {name: added(rights)}


def shifted(target):
    """Decoder input of targets [B, S]: PAD starts, the last id falls away."""
    return jnp.pad(target[:, :-1], ((0, 0), (1, 0)), constant_values=PAD)


def byte_loss(logits, target, smoothing=0.0):
    """Cross-entropy [B, S] (nats per byte) and whether the likeliest byte is right [B, S]."""
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, target)
    if smoothing:
        loss = (1 - smoothing) * loss + smoothing * (jax.nn.logsumexp(logits, -1) - logits.mean(-1))
    return loss, logits.argmax(-1) == target

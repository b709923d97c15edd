"""Contrast with a teacher and a queue: keys come from a slow copy of the model, and many of them from earlier batches.

    L = 1/2 (L_text + L_image),  L_text = mean_b H(y_b, softmax(s u_b . K)),  y_b = a softmax(s u'_b . K) + (1 - a) [b's own]
    K = [v' of the batch ; queue of v']
u, v: unit vectors of texts and images; u', v': the teacher's; L_image with u and v exchanged.
ALBEF (Li et al., 2021): a = 0.4 after a ramp, s learned. WenLan (Huo et al., 2021): negatives are the queue's alone, the sum of
both directions, s = 1 / 0.07; MoCo (He et al., 2020). With `intra` (TCL, Yang et al., 2022) the teacher sees the second view
of the picture (`examples.views`), and L is the mean of L_text, L_image and two within a modality, u_b . [u' ; queue of u'] and
v_b . [v' ; queue of v'], whose targets are hard; with `local` two more: `local_contrast` of u with the teacher's words and of v
with its windows of patches. Without a queue and a teacher it is CLIP's.
Rows without a picture neither enter the queue nor count; keys of the row's own group are no negatives.
"""

import jax
import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.objectives import local_contrast
from xmodal_jax.objectives.contrastive import read
from xmodal_jax.objectives.inputs import has_second
from xmodal_jax.objectives.sums import Sum, weighted
from xmodal_jax.objectives.views import second_picture

MOMENTUM = (r"^(image|text)/", r"^(to_shared|weigh)_")
NEGATIVES = ("batch", "queue")
NEVER = -1e9
KEYS = {"u": "teacher_u", "v": "teacher_v", "group": "group"}


def represent(verbs, batch, config):
    """-> {"u", "v" [b, P], "teacher_u", "teacher_v" [b, P], "present" float32 [b], "group" float32 [b]}; with `local` also
    "places_u", "places_v" [b, N, P] and "there_u", "there_v" float32 [b, N]."""
    v, u = read(verbs, batch)
    shown = second_picture(batch) if config.get("intra", False) else batch
    slow_v, slow_u = jax.lax.stop_gradient(read(verbs.teacher(), shown)) if verbs.has_teacher else (v, u)
    present = has_second(batch).astype(jnp.float32)
    group = batch["group"].astype(jnp.float32) if "group" in batch else jnp.full(present.shape, -1.0)
    rows = {
        "u": u.pooled, "v": v.pooled, "teacher_u": slow_u.pooled, "teacher_v": slow_v.pooled, "present": present, "group": group
    }  # fmt: skip
    if config.get("local", False):
        (words, there), cells = local_contrast.words(slow_u), local_contrast.windows(slow_v)
        rows |= {"places_u": words, "there_u": there, "places_v": cells, "there_v": jnp.ones(cells.shape[:2])}
    return rows


def remember(config, rows):
    """An empty queue: keys of both modalities, newest first, which of them are there, and their groups."""
    size, width = config.get("queue", 0), rows["u"].shape[1]
    return {
        "u": jnp.zeros((size, width)), "v": jnp.zeros((size, width)), "valid": jnp.zeros(size, bool),
        "group": jnp.full(size, -1.0),
    }  # fmt: skip


def compare(verbs, rows, config):
    """The loss Sum of all rows of the global batch. Metric: contrast_right (texts whose own image is nearest)."""
    negatives, memory = config.get("negatives", "batch"), verbs.recalled("contrast")
    if negatives not in NEGATIVES:
        raise UserError(f"objectives.contrast.negatives={negatives!r}: must be one of {', '.join(NEGATIVES)}.")
    scale = 1 / config["temperature"] if config.get("temperature", 0.0) else verbs.scale()
    share, present, both = distilled(verbs, config), rows["present"], []
    for query, key in (("u", "v"), ("v", "u")):
        values, right = one_way(rows, memory, query, key, scale, share, negatives)
        both.append((weighted(values, present), weighted(right, present)))
    (text, right), (image, _) = both
    within = []  # a modality
    for name in ("u", "v"):
        if config.get("intra", False):
            within.append(one_way(rows, memory, name, name, scale, 0.0, negatives)[0])
        if config.get("local", False):
            usable = (present > 0) & ~in_group(rows["group"], rows["group"])
            places, there = rows[f"places_{name}"], rows[f"there_{name}"]
            within.append(local_contrast.local_contrast(rows[name], places, there, scale, usable))
    total = text.total + image.total + sum(weighted(values, present).total for values in within)
    if memory is not None:
        verbs.keep("contrast", pushed(memory, rows))
    ways = 1 if config.get("summed", False) else 2 + len(within)
    return Sum(total / ways, text.weight), {"contrast_right": right}


def distilled(verbs, config):
    """a: the share of the teacher in the targets, `distil` after a ramp of so many steps; 0 without a teacher."""
    share = config.get("distil", 0.0) if verbs.has_teacher else 0.0
    if share and config.get("ramp", 0) and verbs.step is not None:
        return share * jnp.minimum(1.0, verbs.step / config["ramp"])
    return share


def one_way(rows, memory, query, key, scale, share, negatives):
    """(cross-entropies [B], whether the own key is nearest [B]) of one direction."""
    keys, valid, groups = rows[f"teacher_{key}"], rows["present"] > 0, rows["group"]
    own = jnp.eye(len(keys), dtype=bool)
    if memory is not None:
        keys, valid = jnp.concatenate([keys, memory[key]]), jnp.concatenate([valid, memory["valid"]])
        groups, own = jnp.concatenate([groups, memory["group"]]), jnp.pad(own, ((0, 0), (0, len(memory[key]))))
    usable = valid[None] & ~in_group(rows["group"], groups)
    if negatives == "queue" and memory is not None:  # held-out pairs meet no queue, and are told from each other
        usable &= jnp.arange(len(keys))[None] >= len(rows["u"])
    scores = jnp.where(usable | own, scale * rows[query] @ keys.T, NEVER)  # [B, B + Q]
    told = own.astype(jnp.float32)
    if not isinstance(share, float) or share:
        slow = jnp.where(usable | own, scale * rows[f"teacher_{query}"] @ keys.T, NEVER)
        told = jax.lax.stop_gradient(share * jax.nn.softmax(slow) + (1 - share) * told)
    return -(told * jax.nn.log_softmax(scores)).sum(-1), scores.argmax(-1) == jnp.arange(len(scores))


def in_group(groups, others):
    """bool [B, C]: which of `others` [C] are of the group of each of `groups` [B]; -1: of none."""
    return (groups[:, None] == others[None]) & (others >= 0)[None]


def pushed(memory, rows, keys=KEYS):
    """The queue with the rows that are present before what it holds. keys: {its name: that of the rows}."""
    order = jnp.argsort(rows["present"] <= 0, stable=True)  # those that are there first
    count, size, rest = (rows["present"] > 0).sum(), len(memory["valid"]), len(order)
    place = jnp.arange(size)
    place = jnp.where(place < count, place, rest + place - count)  # in [rows ; queue]

    def push(new, old):
        return jnp.concatenate([new[order], old])[place]

    there = {"valid": push(rows["present"] > 0, memory["valid"])}
    return there | {name: jax.lax.stop_gradient(push(rows[key], memory[name])) for name, key in keys.items()}

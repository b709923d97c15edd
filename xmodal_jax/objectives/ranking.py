"""Losses of a square of similarities S [B text, B second modality], each row's own on the diagonal, in both directions.

infonce:  mean_b -log softmax_c(s S_bc)_b, s = 1 / temperature (CLIP, Radford et al., 2021); with `smoothing` e the target is
          (1 - e) [b] + e / n over the n usable ones (ALIGN, Jia et al., 2021)
sigmoid:  mean_b sum_c -log sigmoid(z_bc (s S_bc + o)), z_bc = 1 for b = c, else -1; o: an offset that is learned (SigLIP, Zhai
          et al., 2023); both directions are the same
triplet:  mean_b max(0, margin - S_bb + S_bn), n one negative of b (US 12,386,873 B2; VSE++, Faghri et al., 2018):
          "hardest", the c with the largest S_bc; "semi-hard", that with the largest S_bc below S_bb (FaceNet, Schroff et al.,
          2015), else the smallest; "random", the next that is one (rows of a batch are in random order)
Rows that are not present, and pairs that are `same`, are no negatives. Settings: loss, margin, negatives, smoothing, similarity
("cosine", or "euclidean": S = -sqrt(2 - 2 cosine), the negative distance of unit vectors).
"""

import jax
import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.objectives.sums import weighted

LOSSES = ("infonce", "triplet", "sigmoid")
NEGATIVES = ("semi-hard", "random", "hardest")
SIMILARITIES = ("cosine", "euclidean")
NONE = -1e9  # similarity of what is no negative


def chosen(config, where="an objective"):
    """(loss, margin, negatives, similarity) of an objective's settings; UserError for a name that there is not."""
    found = []
    for name, valid in (("loss", LOSSES), ("negatives", NEGATIVES), ("similarity", SIMILARITIES)):
        value = config.get(name, valid[0])
        if value not in valid:
            raise UserError(f"{where}.{name}={value!r}: must be one of {', '.join(valid)}.")
        found.append(value)
    loss, negatives, similarity = found
    return loss, config.get("margin", 0.2), negatives, similarity


def both_ways(cosines, scale, present, config, same=None, offset=0.0):
    """-> (Sum from texts, Sum from second modalities, texts whose own is nearest bool [B]).

    cosines [B, B] of texts and second modalities; scale: 1 / temperature; present [B]: rows that count; same: symmetric bool
    [B, B], pairs of rows that are alike, on the diagonal whatever; offset: of the sigmoid loss.
    """
    loss, margin, negatives, similarity = chosen(config)
    scores = cosines if similarity == "cosine" else -jnp.sqrt(jnp.maximum(2 - 2 * cosines, 1e-6))
    if loss != "triplet":
        scores = scale * scores + offset
    eye = jnp.eye(len(scores), dtype=bool)
    usable = jnp.broadcast_to(present[None] > 0, scores.shape)
    if same is not None:
        usable &= ~same | eye

    def one_way(scores):
        own = jnp.arange(len(scores))
        shown = jnp.where(usable, scores, NONE)
        if loss == "infonce":
            values = cross_entropy(shown, usable, config.get("smoothing", 0.0))
        elif loss == "sigmoid":
            values = -jnp.where(usable, jax.nn.log_sigmoid(jnp.where(eye, scores, -scores)), 0).sum(-1)
        else:
            values = triplet(scores, usable & ~eye, margin, negatives)
        return weighted(values, present), shown.argmax(-1) == own

    (text, right), (second, _) = one_way(scores), one_way(scores.T)
    return text, second, right


def cross_entropy(scores, usable, smoothing):
    """[B] of scores [B, B], each row's own on the diagonal, against it and, with `smoothing`, all usable ones alike."""
    logp = jax.nn.log_softmax(scores)
    values = -jnp.diagonal(logp)
    if not smoothing:
        return values
    mean = -jnp.where(usable, logp, 0).sum(-1) / jnp.maximum(usable.sum(-1), 1)
    return (1 - smoothing) * values + smoothing * mean


def triplet(scores, usable, margin, negatives):
    """[B] of scores [B, B] whose negatives are `usable`; 0 for a row that has none."""
    own = jnp.diagonal(scores)
    if negatives == "random":
        order = (jnp.arange(len(scores)) - jnp.arange(len(scores))[:, None]) % len(scores)  # 0 for the own, 1 the next, ...
        chosen = jnp.where(usable, -order, NONE).argmax(-1)
    else:
        shown = jnp.where(usable, scores, NONE)
        chosen = shown.argmax(-1)
        if negatives == "semi-hard":
            easier = usable & (scores < own[:, None])
            least = jnp.where(usable, scores, -NONE).argmin(-1)
            chosen = jnp.where(easier.any(-1), jnp.where(easier, scores, NONE).argmax(-1), least)
    negative = jnp.take_along_axis(scores, chosen[:, None], axis=-1)[:, 0]
    return jnp.where(usable.any(-1), jnp.maximum(0.0, margin - own + negative), 0.0)

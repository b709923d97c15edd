"""What a teacher that sees all tells of hidden words or patches (data2vec, Baevski et al., 2022), of a modality alone.

    L = mean over hidden tokens t of mean over D of h(head(x_t) - norm(x'_t)),  h: smooth L1, quadratic below beta
x: the encoder's tokens of a text with masked words, or of a picture with hidden patches; x': the momentum teacher's of all of
it, the mean of what its last `layers` layers give, normalised over the channels.
"""

import jax
import jax.numpy as jnp
import optax

from xmodal_jax.errors import UserError
from xmodal_jax.models.stacks import sown
from xmodal_jax.objectives.inputs import see
from xmodal_jax.objectives.sums import Sum, weighted
from xmodal_jax.objectives.views import text, types_of

MOMENTUM = {"text": (r"^text/",), "image": (r"^image/",)}


def text_regress(verbs, batch, key, config):
    """Metric: text_regress_error, the squared error over that of the mean target: below 1 is better than it. Settings: beta;
    layers of the teacher that are taken, the last ones, 1: what its encoder gives."""
    del key
    places, there = batch["masked_places"], batch["masked_words"] >= 0  # [B, K]
    teacher = verbs.teacher() if verbs.has_teacher else verbs
    if config.get("layers", 1) > 1:
        told = teacher.states("encode_text", batch["caption"], batch["caption_length"], **types_of(batch, "caption"))
        slow = last_layers(told, "text", config["layers"])
    else:
        slow = text(teacher, batch, "clean").own
    found, wanted = (jnp.take_along_axis(x, places[..., None], axis=1) for x in (text(verbs, batch, "masked").own, slow))
    return of_tokens(verbs.predict("text_teacher", found), wanted, there, "text_regress", config)


def image_regress(verbs, batch, key, config):
    """Metric: image_regress_error."""
    del key
    seen, teacher = see(verbs, batch, True), verbs.teacher() if verbs.has_teacher else verbs
    if config.get("layers", 1) > 1:
        slow = last_layers(teacher.states("encode_image", batch["image"]), "image", config["layers"])
    else:
        slow = see(teacher, batch).own
    slow = slow[:, seen.class_tokens :]
    found = verbs.predict("image_teacher", seen.own[:, seen.class_tokens :])
    return of_tokens(found, slow, batch["codes_hidden"], "image_regress", config)


def last_layers(states, tower, count):
    """The mean of what the last `count` layers of a tower gave (of all where it has fewer), [B, N, D], of what `Verbs.states`
    found."""
    try:
        hidden = sown(states[tower]["encoder"]["layers"], "hidden")  # [L, B, N, D]
    except KeyError:
        raise UserError(f"objectives.{tower}_regress.layers={count}: the {tower} encoder has no stack of layers.") from None
    return hidden[-count:].mean(0)


def of_tokens(found, slow, there, name, config):
    """found, slow [B, n, D]; there bool [B, n]: which are hidden."""
    slow = jax.lax.stop_gradient(slow.astype(jnp.float32))
    wanted = (slow - slow.mean(-1, keepdims=True)) * jax.lax.rsqrt(slow.var(-1, keepdims=True) + 1e-5)
    beta = config.get("beta", 4.0)
    loss = weighted(optax.huber_loss(found, wanted, delta=beta).mean(-1) / beta, there)
    mean = (wanted * there[..., None]).sum((0, 1)) / jnp.maximum(there.sum(), 1)  # [D]
    error, spread = (weighted(((x - wanted) ** 2).mean(-1), there) for x in (found, mean))
    return loss, {f"{name}_error": Sum(error.total, spread.total)}

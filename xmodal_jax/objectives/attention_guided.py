"""What hidden patches look like, where those that belong together are hidden together (Visual Parsing, Xue et al., 2021).

    L = mean over hidden patches n of mean over D of h(head(x_n) - norm(x'_n)),  h: smooth L1 with beta 1
Hidden (their pixels grey) are a patch drawn at random, the pivot, and the `attended` patches that it attends to most in the
last layer of the image encoder, mean over heads: else a neighbour would give it away. x: tokens of the fused pair; x': the
encoder's of the whole picture, normalised over their channels, without a gradient.
"""

import jax
import jax.numpy as jnp

from xmodal_jax.models.stacks import sown
from xmodal_jax.objectives import regress
from xmodal_jax.objectives.inputs import grey, see
from xmodal_jax.objectives.views import caption


def attention_guided(verbs, batch, key, config):
    """Metric: attention_guided_error, the squared error over that of the mean target: below 1 is better than it."""
    clean = see(verbs, batch)
    first = clean.class_tokens
    watched = verbs.watched("encode_image", batch["image"])["image"]["encoder"]["layers"]
    weights = sown(watched, "attention", "weights")  # [L, B, H, 1 + N, 1 + N]
    looks = jax.lax.stop_gradient(weights[-1].mean(1))[:, first:, first:]  # [B, N, N]
    hidden = pivoted(looks, jax.random.randint(key, (len(looks),), 0, looks.shape[1]), config.get("attended", 8))
    seen = verbs.encode_image(grey(batch["image"], hidden))
    x = verbs.fuse(caption(verbs, batch), seen, "both").image[:, first:]
    found = verbs.predict("image_teacher", x)
    return regress.of_tokens(found, clean.own[:, first:], hidden, "attention_guided", {"beta": 1.0})


def pivoted(looks, pivot, count):
    """Attention [B, N, N], a patch of each picture int [B] -> bool [B, N]: it and the `count` others that it looks at most."""
    N = looks.shape[-1]
    own = jnp.arange(N)[None] == pivot[:, None]
    row = jnp.where(own, jnp.inf, jnp.take_along_axis(looks, pivot[:, None, None], axis=1)[:, 0])
    chosen = jax.lax.top_k(row, min(count + 1, N))[1]
    return (chosen[..., None] == jnp.arange(N)).any(1)

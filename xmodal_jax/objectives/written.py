"""One text is written from another and a picture, word by word, teacher-forced: only source and target tell the tasks apart.

    L = - sum_{b, t <= n_b} log p(w_bt | w_b,<t, source_b, image_b) / sum_b n_b     mean = "token"
    L = mean_b - sum_{t <= n_b} log p(w_bt | ...) / n_b                             mean = "example" (VL-T5, Cho et al., 2021)
Prefix and rest of a caption: PrefixLM (SimVLM, Wang et al., 2022). A corrupted caption and the whole one: denoising
auto-encoding (XGPT, Xia et al., 2020; BART, Lewis et al., 2020). Nothing and the caption: captioning. The closing end mark is a
target.
"""

import jax.numpy as jnp
import optax

from xmodal_jax.errors import UserError
from xmodal_jax.objectives.inputs import only_where_seen, see
from xmodal_jax.objectives.sums import Sum, weighted

MEANS = ("token", "example")


def written(verbs, batch, key, config):
    """Metric: written_right (words whose likeliest is right)."""
    del key
    mean = config.get("mean", MEANS[0])
    if mean not in MEANS:
        raise UserError(f"objectives.written.mean={mean!r}: must be one of {', '.join(MEANS)}.")
    text, image = verbs.encode_text(batch["source"], batch["source_length"]), only_where_seen(batch, see(verbs, batch))
    pair = verbs.fuse(text, image, "both")
    logits = verbs.decode(batch["target"], batch["target_length"], pair)[:, :-1]  # [B, T - 1, V]
    wanted = labels(batch)
    counted = wanted >= 0
    values = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(wanted, 0))
    right = {"written_right": weighted(logits.argmax(-1) == wanted, counted)}
    if mean == "token":
        return weighted(values, counted), right
    own = (values * counted).sum(-1) / jnp.maximum(counted.sum(-1), 1)
    return Sum(own.sum(), jnp.float32(len(own))), right


def labels(batch, config=None):
    """The words to be written int [B, T - 1], -1 behind the closing end mark."""
    del config
    following = batch["target"][:, 1:]
    return jnp.where(jnp.arange(following.shape[1])[None] < batch["target_length"][:, None], following, -1)

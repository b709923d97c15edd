"""The numbers of hidden patches, from the other patches and, where they are fused, the text (masked image modelling; BEiT, Bao
et al., 2022; FLAVA, Singh et al., 2022; X-LXMERT, Cho et al., 2020).

    L = mean over hidden patches n of -log softmax(codes_head(h_n))_c
h: tokens of the fused pair, or of the image alone; c: the number of the patch (`data.patch_codes`).
"""

import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.objectives.inputs import see
from xmodal_jax.objectives.sums import classified
from xmodal_jax.objectives.views import fused_regions, view_of


def codes(verbs, batch, key, config):
    """Metric: codes_right (hidden patches whose likeliest number is right)."""
    del key
    return of_tokens(verbs, batch, fused_regions(verbs, batch, view_of(config, "regions", "objectives.codes")), "codes", config)


def image_codes(verbs, batch, key, config):
    """The same of the image alone. Metric: image_codes_right."""
    del key
    seen = see(verbs, batch, True)
    return of_tokens(verbs, batch, seen.deepest[:, seen.class_tokens :], "image_codes", config)


def of_tokens(verbs, batch, x, name, config):
    """x [B, N, D]."""
    wanted = labels(batch, config)
    if x.shape[1] != wanted.shape[1]:
        raise UserError(
            f"objectives.{name}: the image encoder gives {x.shape[1]} tokens for {wanted.shape[1]} patches: "
            "examples.code_patch must be the pixels of a token's side."
        )
    return classified(verbs.predict(name, x), wanted, f"{name}_right")


def labels(batch, config):
    """Numbers of the hidden patches int [B, N], -1 of the others; with `pairs`, and beside another picture's text, of all."""
    rows = (batch["match"] != 0)[:, None] if config.get("pairs", False) else True
    return jnp.where(batch["codes_hidden"] & rows, batch["codes"], -1)

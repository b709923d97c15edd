"""Which arrays of a batch a verb takes: bytes of a second modality with their number, or pictures."""

import jax.numpy as jnp


def see(verbs, batch):
    """`encode_image` of a batch; every objective gets the one computation."""
    if "image" in batch:
        return verbs.encode_image(batch["image"])
    return verbs.encode_image(batch["second"], batch["second_length"])


def has_second(batch):
    """Rows that have a picture (or sound), bool [B]."""
    return jnp.ones(len(batch["image"]), bool) if "image" in batch else batch["second_length"] > 0

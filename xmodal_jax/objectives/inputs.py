"""Which arrays of a batch the verbs take: bytes of a second modality with their number or pictures, and what is with them."""

import jax.numpy as jnp

from xmodal_jax.data.pair_examples import PAIR, TEXT
from xmodal_jax.models.pixels import grey


def see(verbs, batch, hidden=False):
    """`encode_image` of a batch; every objective gets the one computation. hidden: with its regions or patches hidden."""
    if hidden and "codes_hidden" in batch:
        batch = batch | {"image": verbs.once(grey, batch["image"], batch["codes_hidden"])}
    return verbs.encode_image(*of_picture(batch, hidden))


def of_picture(batch, hidden=False):
    """What `encode_image` takes of a batch: pixels, and what the encoder reads beside them; or bytes and their number."""
    if "image" not in batch:
        return batch["second"], batch["second_length"]
    more = None
    if "boxes" in batch:
        more = {"boxes": batch["boxes"], "there": batch["regions_there"]}
        more |= {"features": batch["region_features"]} if "region_features" in batch else {}
        if hidden:
            more["hidden"] = batch["codes_hidden" if "codes" in batch else "regions_hidden"]
            more |= {"replaced": batch["regions_replaced"]} if "regions_replaced" in batch else {}
    elif "cell_place" in batch and hidden:
        more = {"place": batch["cell_place"]}
    elif "codes" in batch and "codes_hidden" not in batch:
        more = {"codes": batch["codes"]}
    return (batch["image"],) if more is None else (batch["image"], more)


def has_second(batch):
    """Rows that have both a text and a picture (or sound), bool [B]."""
    if "alone" in batch:
        return batch["alone"] == PAIR
    return jnp.ones(len(batch["image"]), bool) if "image" in batch else batch["second_length"] > 0


def only_where_seen(batch, image):
    """An encoded image, its tokens masked in rows of a text alone."""
    return image.replace(mask=image.mask & (batch["alone"] != TEXT)[:, None]) if "alone" in batch else image


def gather(verbs, batch):
    """Every modality of a question and its picture, encoded: the question, the picture, then what else there is."""
    sources = [verbs.encode_text(batch["question"], batch["question_length"]), see(verbs, batch)]
    if "caption" in batch:
        sources.append(verbs.encode_text(batch["caption"], batch["caption_length"]))
    if "sound" in batch:
        sources.append(verbs.encode_sound(batch["sound"]))
    return sources

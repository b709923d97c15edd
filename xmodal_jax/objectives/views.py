"""Views of a batch of pairs: the forms in which objectives see it. Each is encoded and fused once, whoever asks.

"clean": picture and text; "masked": words of the text hidden; "regions": regions of the picture hidden; "matched": a text that
is the picture's own or another's; "joint": the last three at once.
"""

from xmodal_jax.errors import UserError
from xmodal_jax.objectives.inputs import only_where_seen, see

TEXTS = {  # ids, and the text whose length and types are theirs
    "clean": ("caption", "caption"), "masked": ("masked", "caption"), "regions": ("caption", "caption"),
    "matched": ("other", "other"), "joint": ("masked", "other"),
}  # fmt: skip
HIDING = ("regions", "joint")


def view_of(config, usual, where):
    """The view of an objective's settings, "joint" or what is usual for it."""
    view = config.get("view", usual)
    if view not in (usual, "joint"):
        raise UserError(f"{where}.view={view!r}: must be {usual} or joint.")
    return view


def text(verbs, batch, view):
    """`encode_text` of a view."""
    ids, name = TEXTS[view]
    if ids == "caption":
        return caption(verbs, batch)
    return verbs.encode_text(batch[ids], batch[f"{name}_length"], **types_of(batch, name))


def caption(verbs, batch):
    """`encode_text` of the caption, which the vector of some models' texts sees the picture for."""
    return verbs.encode_text(batch["caption"], batch["caption_length"], see(verbs, batch), **types_of(batch, "caption"))


def types_of(batch, name):
    """The segments of a text, where it has several."""
    return {"types": batch[f"{name}_types"]} if f"{name}_types" in batch else {}


def fused(verbs, batch, view, mode="both"):
    """`fuse` of a view's text and picture."""
    return verbs.fuse(text(verbs, batch, view), only_where_seen(batch, see(verbs, batch, view in HIDING)), mode)


def fused_regions(verbs, batch, view):
    """Tokens of the regions [B, R, D] in a view that hides some, without tokens in front of them."""
    skipped = see(verbs, batch, True).class_tokens
    return fused(verbs, batch, view).image[:, skipped:]


def second(batch):
    """The batch with the second views of its pictures and captions in place of the first."""
    names = {"image": "image_second", "caption": "caption_second", "caption_length": "caption_second_length"}
    return batch | {name: batch[other] for name, other in names.items()}


def second_picture(batch):
    """The batch with the second views of its pictures, and the captions that it has."""
    return batch | {"image": batch["image_second"]}

"""Views of a batch of pairs: the forms in which objectives see it. Each is encoded and fused once, whoever asks.

"clean": picture and caption; "masked": words of the caption hidden; "matched": a text that is the picture's own or another's.
"""

from xmodal_jax.objectives.inputs import see

TEXTS = {"clean": ("caption", "caption_length"), "masked": ("masked", "caption_length"), "matched": ("other", "other_length")}


def text(verbs, batch, view):
    """`encode_text` of a view."""
    return verbs.encode_text(*(batch[name] for name in TEXTS[view]))


def fused(verbs, batch, view, mode="both"):
    """`fuse` of a view's text and the picture."""
    return verbs.fuse(text(verbs, batch, view), see(verbs, batch), mode)

"""Architectures by name. Each is a linen module whose fields are its configuration and whose methods are its verbs."""

from xmodal_jax.models.captioner import Captioner
from xmodal_jax.models.composed import Composed
from xmodal_jax.models.crossmodal_bytes import CrossmodalBytes
from xmodal_jax.models.vqa import VQA

MODELS = {"crossmodal_bytes": CrossmodalBytes, "captioner": Captioner, "vqa": VQA, "composed": Composed}

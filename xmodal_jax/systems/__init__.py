"""The systems by config.model.name: what each is made of, one file a system."""

from xmodal_jax.config import choose
from xmodal_jax.systems import captioner, composed, crossmodal_bytes, vqa
from xmodal_jax.systems.base import System

SYSTEMS = {
    "crossmodal_bytes": crossmodal_bytes.SYSTEM, "captioner": captioner.SYSTEM, "vqa": vqa.SYSTEM, "composed": composed.SYSTEM,
}  # fmt: skip


def system_of(config) -> System:
    return choose(SYSTEMS, config.model.name, "config.model.name")

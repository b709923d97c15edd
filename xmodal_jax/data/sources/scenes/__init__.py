"""Drawn scenes: the built-in source of pictures, captions, questions and sounds, with words of several senses."""

from xmodal_jax.data.sources.scenes.inventory import scene_senses
from xmodal_jax.data.sources.scenes.source import Scenes

__all__ = ["Scenes", "scene_senses"]

"""The former place of `xmodal_jax.systems.recipe`, for programs that import it from here."""

import importlib
import sys

sys.modules[__name__] = importlib.import_module("xmodal_jax.systems.recipe")

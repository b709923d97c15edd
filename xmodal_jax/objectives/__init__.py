"""Objectives by name: pure functions (verbs, batch, key, config) -> (loss Sum, {metric: Sum})."""

import dataclasses
from collections.abc import Callable

from xmodal_jax.errors import UserError
from xmodal_jax.models.verbs import offered
from xmodal_jax.objectives.contrastive import contrastive
from xmodal_jax.objectives.language import generation, masked_words
from xmodal_jax.objectives.naming import naming


@dataclasses.dataclass(frozen=True)
class Objective:
    """A loss, the verbs it asks for, and whether it compares examples of the whole batch with each other."""

    loss: Callable
    needs: tuple[str, ...]
    whole_batch: bool = False


OBJECTIVES = {
    "masked_words": Objective(masked_words, ("encode_image", "encode_text", "fuse", "decode")),
    "generation": Objective(generation, ("encode_image", "encode_text", "fuse", "decode")),
    "naming": Objective(naming, ("encode_image",)),
    "contrastive": Objective(contrastive, ("encode_image", "encode_text"), whole_batch=True),
}


def check(model, objectives, accumulate=1):
    """Raise a UserError before training where an objective is unknown or asks for what the model does not offer."""
    for name, settings in objectives.items():
        if name not in OBJECTIVES:
            raise UserError(f"objectives.{name} is unknown: there are {', '.join(OBJECTIVES)}.")
        lacking = [verb for verb in OBJECTIVES[name].needs if verb not in offered(model)]
        if lacking:
            raise UserError(
                f"objectives.{name} needs {', '.join(lacking)}, but the model {type(model).__name__} offers only "
                f"{', '.join(offered(model))}."
            )
        if accumulate > 1 and OBJECTIVES[name].whole_batch and settings.get("weight", 1.0):
            raise UserError(
                f"objectives.{name} compares all examples of a batch, which accumulate={accumulate} splits: "
                f"use accumulate=1, or --config.objectives.{name}.weight=0."
            )
    if not any(settings.get("weight", 1.0) for settings in objectives.values()):
        raise UserError("No objective has a weight above 0: there is nothing to train.")

"""Stages of a run: what is trained by which objectives on which view of the parameters, a pure function of the step's number.

    config.stages.see = {"until": 700, "objectives": {"masked_words": 0.0}, "freeze": ("decoder",)}
    config.stages.fill = {"until": 0}      # to the end
Curricula (weights of objectives by stage), stage-wise pre-training (what is frozen by stage) and the two alternating steps of
system 3 are the same thing. Every stage is a program of its own, compiled before the first step; all of them share one state.
"""

import bisect
import dataclasses
from collections.abc import Callable

from xmodal_jax.config import choose
from xmodal_jax.errors import UserError
from xmodal_jax.models import lora

KEYS = {"until": 0, "objectives": {}, "freeze": ()}


def merged(params, key=None):
    """The usual view of the parameters: with adapters taken in."""
    del key
    return lora.merge(params)


@dataclasses.dataclass(frozen=True)
class Stage:
    """One kind of step.

    Attributes:
      weights: ((objective, weight), ...) instead of the config's. freeze: patterns of parameters that stay as they are in it.
      view: (params, key) -> the parameters that the model computes with.
      teacher: params -> the parameters of a teacher, for the losses that have one; None: there is none.
      penalty: (params) -> (float32 [], {metric: float32 []}), added to the loss of the objectives; None: none.
      after: (params, step) -> params, once they are updated; None: as they are.
      arguments: ((name, value), ...) for an optimiser that does not do the same in every stage.
    """

    name: str = "training"
    weights: tuple = ()
    freeze: tuple = ()
    view: Callable = merged
    teacher: Callable | None = None
    penalty: Callable | None = None
    after: Callable | None = None
    arguments: tuple = ()

    def of(self, objectives):
        """The objectives with this stage's weights."""
        own = {name: {"weight": weight} for name, weight in self.weights}
        return {name: settings | own.get(name, {}) for name, settings in objectives.items()}


@dataclasses.dataclass(frozen=True)
class Stages:
    """stages: the kinds there are; turns: ((first step, number of the stage), ...) in order."""

    stages: tuple = (Stage(),)
    turns: tuple = ((0, 0),)

    def at(self, step):
        """The number of the stage that a step belongs to."""
        return self.turns[bisect.bisect_right(self.turns, step, key=lambda turn: turn[0]) - 1][1]

    def longest(self, total):
        """The number of the stage that most of `total` steps belong to."""
        ends = [*(first for first, _ in self.turns[1:]), total]
        steps = [0] * len(self.stages)
        for (first, number), end in zip(self.turns, ends, strict=True):
            steps[number] += end - first
        return steps.index(max(steps))


def in_turn(lengths, total):
    """Turns of stages that follow each other: ((stage, steps), ...), the last one's to the end."""
    turns, first = [], 0
    for stage, steps in lengths:
        if first < total:
            turns.append((first, stage))
        first += steps
    return tuple(turns)


def from_config(config, objectives):
    """`Stages` of config.stages. Raises UserError where a name is unknown or the ends are out of order."""
    if not config:
        return Stages()
    given = {name: KEYS | dict(settings) for name, settings in config.items()}
    for name, settings in given.items():
        for key in settings:
            choose(KEYS, key, f"config key stages.{name}")
        for objective in settings["objectives"]:
            choose(objectives, objective, f"config.stages.{name}.objectives")
    order = sorted(given, key=lambda name: given[name]["until"] or float("inf"))
    ends = [given[name]["until"] for name in order]
    if ends[-1] or len(set(ends)) < len(ends):
        raise UserError(f"config.stages: each ends at a step of its own, `until`, and one of them at 0, the end; not {ends}.")
    stages = tuple(Stage(name, tuple(dict(given[name]["objectives"]).items()), tuple(given[name]["freeze"])) for name in order)
    return Stages(stages, tuple(zip((0, *ends[:-1]), range(len(order)), strict=True)))

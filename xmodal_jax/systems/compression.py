"""System 3: a run that learns which weights of a text and a vision transformer to share and to prune (Algorithm 1).

Each epoch has two kinds of steps. First the weights, all of them in use, while those that will be shared are drawn together
(equation 11): L(W) + gamma R_w(W, m, s). Then theta, over fewer examples, on the weights that a drawn structure makes of W
(equation 9): L(W; m, s) + lambda R(P(m, s), p P_total). In the end the structure is decided, and what it leaves is trained for
the rest of the steps. One state, one order of the data: the step's number says which it is.

Among the parameters, under "compress": theta and z of the hypernetwork, and the decision so far, 0 and 1.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from xmodal_jax.compress import baselines, hypernetwork
from xmodal_jax.compress.decide import decided
from xmodal_jax.compress.effective import alignment, effective
from xmodal_jax.compress.pair import Pair
from xmodal_jax.compress.structure import DISTANCES, constrained, fixed, kept, whole
from xmodal_jax.config import choose
from xmodal_jax.errors import UserError
from xmodal_jax.models import lora
from xmodal_jax.train.stages import Stage, Stages, in_turn

NAME = "compress"  # of what belongs to it among the parameters
LEARNED = {"hypernetwork": 5e-3, "direct": 1e-1}  # their usual learning rates
GIVEN = ("magnitude", "random", "layers")


def further_steps(total_steps):
    """Steps that a compression takes unless it is told, on top of those of the model that it starts from."""
    return max(60, total_steps // 4)


@dataclasses.dataclass(frozen=True)
class CompressConfig:
    """How weights are shared and pruned.

    Attributes:
      keep: p, the share of the weights of self-attention and MLPs that stays.
      method: how the structure is found: "hypernetwork", "direct" (m and s are learned themselves), or without learning:
        "magnitude" (the shortest vectors are pruned), "random", "layers" (whole layers are shared).
      prune, share: whether vectors may be pruned, and shared. blocks: of text layers that may share with their first (0: none).
      even: heads keep equal numbers of vectors, and layers numbers of vectors that are multiples of this (0: any number).
      size: R, "log", "mse" or "mae"; size_weight: lambda; alignment_weight: gamma.
      distill: weight of the distance from the vectors of the full model as it was at the start (`objectives.distillation`), in
        the steps that see a smaller one; 0: no such loss.
      share_bias: how much further from its threshold s begins than m: the larger, the more is pruned before anything is shared.
        Where nothing may be pruned it is 0.
      learning_rate: of theta; 0: the method's own.
      epochs, weight_steps, structure_steps: Algorithm 1's; what remains of the run's steps trains the decided model.
      text, vision: paths of the stacks' layers; "": the ones of the text and of the image tower.
    """

    keep: float = 0.6
    method: str = "hypernetwork"
    prune: bool = True
    share: bool = True
    blocks: int = 0
    even: int = 8
    size: str = "log"
    size_weight: float = 4.0
    alignment_weight: float = 1e-3
    distill: float = 0.0
    share_bias: float = 3.0
    learning_rate: float = 0.0
    epochs: int = 3
    weight_steps: int = 30
    structure_steps: int = 30
    text: str = ""
    vision: str = ""

    def __post_init__(self):
        choose(dict.fromkeys((*LEARNED, *GIVEN)), self.method, "config.compress.method")
        choose(DISTANCES, self.size, "config.compress.size")
        if not 0 < self.keep <= 1:
            raise UserError(f"config.compress.keep={self.keep}: the share of the weights that stays, above 0 and at most 1.")
        if min(self.epochs, self.weight_steps, self.structure_steps, self.even, self.blocks) < 0:
            raise UserError("config.compress: epochs, weight_steps, structure_steps, even and blocks are at least 0.")

    @property
    def searching(self):
        """Steps before the structure is decided."""
        return self.epochs * (self.weight_steps + self.structure_steps) if self.method in LEARNED else 0


@dataclasses.dataclass(frozen=True)
class Compression:
    """What a run does to two stacks of its model."""

    config: CompressConfig
    pair: Pair

    def extended(self, key, params):
        """Parameters with what is learned beside the weights."""
        own = {"decision": whole(self.pair)}
        if self.config.distill:
            own["teacher"] = jax.tree.map(jnp.copy, params)
        if self.config.method in LEARNED:
            own |= hypernetwork.start(key, self.pair, direct=self.config.method == "direct")
        return params | {NAME: own}

    def plain(self, params, key=None):
        """The view of the weights' steps: all of them, adapters taken in."""
        del key
        return lora.merge({name: value for name, value in params.items() if name != NAME})

    def used(self, params, key=None):
        """The view of the decided model."""
        del key
        return effective(self.plain(params), params[NAME]["decision"], self.pair)

    def drawn(self, params, key):
        """The view of theta's steps: weights of a structure that is drawn anew at every step."""
        structure = hypernetwork.drawn(self.logits(params), key)
        return effective(self.plain(params), constrained(self.allowed(structure), self.pair), self.pair)

    def teacher(self, params):
        """The full model as it was at the start."""
        return lora.merge(params[NAME]["teacher"])

    def logits(self, params):
        """A structure of logits, those of s further from the threshold."""
        found = hypernetwork.logits_of(params[NAME]["theta"], params[NAME]["z"], self.pair)
        further = self.config.share_bias * self.config.prune
        return {tower: {**kinds, "s": jax.tree.map(lambda s: s + further, kinds["s"])} for tower, kinds in found.items()}

    def allowed(self, structure):
        return fixed(structure, self.pair, self.config.prune, self.config.share)

    def decision(self, logits, final=False):
        """The structure as it stands; `final`: of the wanted size, with even heads."""
        config = self.config
        size = dict(p=config.keep, multiple=config.even) if final else {}
        return decided(logits, self.pair, prune=config.prune, share=config.share, **size)

    def given(self, params, key):
        """The decision of a method that learns nothing, from the weights as they are at the start."""
        config = self.config
        if config.method == "magnitude":
            return baselines.magnitude(params, self.pair, config.keep, config.even)
        if config.method == "random":
            return baselines.random(key, self.pair, config.keep, config.even, config.prune, config.share)
        return baselines.layers(self.pair, config.keep)

    def started(self, state):
        """A fresh state, once its weights are there: with the teacher, and with the decision where nothing is learned."""
        if self.config.distill:
            own = {**state.params[NAME], "teacher": jax.tree.map(jnp.copy, without(state.params))}
            state = state.replace(params={**state.params, NAME: own})
        if self.config.method in LEARNED:
            return state
        decision = self.given(self.plain(state.params), state.key)
        places = jax.tree.map(lambda leaf: leaf.sharding, state.params[NAME]["decision"])
        own = {**state.params[NAME], "decision": jax.device_put(decision, places)}
        return state.replace(params={**state.params, NAME: own})

    def align(self, params):
        """gamma R_w, of equation (11)."""
        decision = jax.lax.stop_gradient(params[NAME]["decision"])
        value = alignment(self.plain(params), decision, self.pair)
        return self.config.alignment_weight * value, {"alignment": value}

    def keep_size(self, params):
        """lambda R, of equation (9), of the structure without noise: the one that will be decided."""
        share = kept(self.allowed(hypernetwork.settled(self.logits(params))), self.pair)
        return self.config.size_weight * DISTANCES[self.config.size](share, self.config.keep), {"kept": share}

    def decide(self, params, step):
        """Parameters with the decision that theta has come to."""
        logits, last = self.logits(params), step + 1 == self.config.searching
        decision = jax.lax.cond(last, lambda: self.decision(logits, final=True), lambda: self.decision(logits))
        return {**params, NAME: {**params[NAME], "decision": decision}}

    def stages(self, total_steps):
        """Algorithm 1 as stages."""
        config, weights = self.config, dict(freeze=(f"^{NAME}/",), arguments=(("group", "weights"),))
        taught = dict(teacher=self.teacher, weights=(("distillation", config.distill),)) if config.distill else {}
        final = Stage("fine-tuning", view=self.used, **weights, **taught)
        if not config.searching:
            return Stages((final,), ((0, 0),))
        if config.searching >= total_steps:
            raise UserError(
                f"config.total_steps={total_steps}: Algorithm 1 takes {config.searching} (epochs x (weight_steps + "
                "structure_steps)), and then the decided model is trained."
            )
        first = Stage("weights", view=self.plain, penalty=self.align, **weights)
        second = Stage(
            "structure", view=self.drawn, penalty=self.keep_size, after=self.decide, freeze=(f"^(?!{NAME}/theta)",),
            arguments=(("group", "structure"),), **taught,
        )  # fmt: skip
        lengths = [(0, config.weight_steps), (1, config.structure_steps)] * config.epochs + [(2, total_steps)]
        return Stages((first, second, final), in_turn(lengths, total_steps))

    def weight_steps(self, total_steps):
        """Steps of the weights in a run of `total_steps`."""
        return total_steps - self.config.epochs * self.config.structure_steps * bool(self.config.searching)

    def optimizer(self, weights):
        """An optax transformation whose update takes `group`, "weights" or "structure": those that the step trains.

        weights: the optimiser of the weights. What the step does not train keeps its moments and its count.
        """
        structure = optax.adamw(self.config.learning_rate or LEARNED.get(self.config.method, 0.0), weight_decay=0.0)
        learned = self.config.method in LEARNED

        def init(params):
            own = {"structure": structure.init(params[NAME]["theta"])} if learned else {}
            return {"weights": weights.init(without(params))} | own

        def update(grads, state, params, *, group):
            updates = jax.tree.map(jnp.zeros_like, grads)
            if group == "weights":
                made, new = weights.update(without(grads), state["weights"], without(params))
                return updates | made, {**state, "weights": new}
            made, new = structure.update(grads[NAME]["theta"], state["structure"], params[NAME]["theta"])
            return {**updates, NAME: {**updates[NAME], "theta": made}}, {**state, "structure": new}

        return optax.GradientTransformationExtraArgs(init, update)


def without(tree):
    """A tree of parameters without what belongs to the compression."""
    return {name: value for name, value in tree.items() if name != NAME}

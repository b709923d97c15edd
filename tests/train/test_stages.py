"""Stages: which step belongs to which, what a stage freezes, weighs, sees and leaves."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xmodal_jax.errors import UserError
from xmodal_jax.models.backbones.encoded import Encoded
from xmodal_jax.train.gradient import evaluate_objectives
from xmodal_jax.train.optimizers import OptimizerConfig, make_optimizer
from xmodal_jax.train.stages import Stage, Stages, from_config, in_turn, merged
from xmodal_jax.train.step import init_state, make_step

OBJECTIVES = {"masked_words": {"weight": 1.0}, "naming": {"weight": 0.5}, "contrastive": {"weight": 0.0}}


def test_the_steps_number_alone_says_which_stage_it_is():
    order = Stages((Stage("a"), Stage("b"), Stage("c")), in_turn([(0, 2), (1, 3)] * 2 + [(2, 99)], total=13))
    assert [order.at(step) for step in range(13)] == [0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [Stages().at(step) for step in (0, 10**6)] == [0, 0]
    assert in_turn([(0, 5), (1, 5)], total=5) == ((0, 0),)
    assert [order.longest(total) for total in (11, 13, 99)] == [1, 1, 2] and Stages().longest(5) == 0


def test_stages_of_a_config_follow_their_ends_whatever_their_names():
    see = {"until": 700, "objectives": {"masked_words": 0.0}, "freeze": ("decoder",)}
    order = from_config({"z": see, "b": {"until": 900}, "a": {}}, OBJECTIVES)
    assert [order.stages[order.at(step)].name for step in (0, 699, 700, 899, 900, 10**6)] == ["z", "z", "b", "b", "a", "a"]
    assert order.stages[0].freeze == ("decoder",)
    weights = {name: settings["weight"] for name, settings in order.stages[0].of(OBJECTIVES).items()}
    assert weights == {"masked_words": 0.0, "naming": 0.5, "contrastive": 0.0}
    assert from_config({}, OBJECTIVES) == Stages()


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"a": {"until": 5}}, "one of them at 0"),
        ({"a": {"until": 5}, "b": {"until": 5}, "c": {}}, "each ends at a step of its own"),
        ({"a": {"untill": 5}}, "did you mean 'until'"),
        ({"a": {"objectives": {"kl": 1.0}}}, "config.stages.a.objectives 'kl'"),
    ],
)
def test_mistakes_are_named(config, told):
    with pytest.raises(UserError, match=told):
        from_config(config, OBJECTIVES)


class Toy(nn.Module):
    """Names what is in a picture: two matrices."""

    def setup(self):
        self.first, self.last = nn.Dense(4), nn.Dense(5)

    def encode_image(self, images, train=False):
        x = images.reshape(len(images), -1) / 255
        return Encoded(x[:, None], None, names=self.last(nn.tanh(self.first(x))))

    def __call__(self, batch):
        return self.encode_image(batch["image"]).names


def test_a_stage_trains_what_it_is_told_to(rng):
    """Frozen arrays keep their bits under weight decay; the penalty adds to the loss and its gradient; `after` comes last."""
    batch = {"image": rng.integers(0, 256, (3, 2, 2, 3)).astype(np.uint8), "names": rng.integers(-1, 5, (3, 4))}
    optimizer, schedule = make_optimizer(OptimizerConfig(name="sgd", learning_rate=1.0, warmup=0.0, b1=0.0, clip=0.0), 10)
    seen = []

    def view(params, key):
        seen.append(key)
        return {**params, "first": jax.tree.map(lambda x: 2 * x, params["first"])}

    stage = Stage(
        weights=(("naming", 0.25),), freeze=("last/kernel",), view=view,
        penalty=lambda params: (1e-2 * jnp.square(params["last"]["bias"]).sum(), {"squares": jnp.float32(7)}),
        after=lambda params, step: {**params, "last": {**params["last"], "bias": params["last"]["bias"] + 1 + step}},
    )  # fmt: skip
    model, objectives = Toy(), {"naming": {"weight": 1.0}}
    state = init_state(model, optimizer, batch, 0, 0.0)
    bias = jnp.asarray(rng.normal(size=5), jnp.float32)
    state = state.replace(params={**state.params, "last": {**state.params["last"], "bias": bias}})
    new, report = jax.jit(make_step(model, objectives, optimizer, schedule, stage=stage))(state, batch)

    def loss(params):
        doubled = {**params, "first": jax.tree.map(lambda x: 2 * x, params["first"])}
        losses, _ = evaluate_objectives(model, objectives, doubled, batch, state.key, train=False)
        return 0.25 * losses["naming"].mean() + 1e-2 * jnp.square(params["last"]["bias"]).sum()

    value, grads = jax.value_and_grad(loss)(state.params)
    np.testing.assert_allclose(report["loss"], value, rtol=1e-5)
    assert seen and float(report["squares"]) == 7
    wanted = jax.tree.map(lambda p, g: p - g, state.params, grads)
    wanted["last"] = {"kernel": state.params["last"]["kernel"], "bias": wanted["last"]["bias"] + 1}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), new.params, wanted)
    np.testing.assert_array_equal(new.params["last"]["kernel"], state.params["last"]["kernel"])
    assert merged({"a": 1}) == {"a": 1}

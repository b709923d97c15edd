"""Stages: which step belongs to which, what a stage freezes, weighs, sees and leaves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.small import MODEL
from xmodal_jax.errors import UserError
from xmodal_jax.train import stages
from xmodal_jax.train.optimizers import OptimizerConfig, make_optimizer
from xmodal_jax.train.stages import Stage, Stages, from_config, in_turn
from xmodal_jax.train.step import init_state, make_step

OBJECTIVES = {"masked_words": {"weight": 1.0}, "naming": {"weight": 0.5}, "contrastive": {"weight": 0.0}}


def test_the_steps_number_alone_says_which_stage_it_is():
    order = Stages((Stage("a"), Stage("b"), Stage("c")), in_turn([(0, 2), (1, 3)] * 2 + [(2, 99)], total=13))
    assert [order.at(step) for step in range(13)] == [0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [Stages().at(step) for step in (0, 10**6)] == [0, 0]
    assert in_turn([(0, 5), (1, 5)], total=5) == ((0, 0),)


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


def test_a_stage_trains_what_it_is_told_to(tiny, make_batch):
    """Frozen arrays keep their bits under weight decay; the penalty adds to the loss and its gradient; `after` comes last."""
    batch = make_batch(4, 768)
    optimizer, schedule = make_optimizer(OptimizerConfig(learning_rate=1e-2, warmup=0.0, weight_decay=1.0), 10)
    seen = []

    def view(params, key):
        seen.append(key)
        return jax.tree.map(lambda x: x, params)

    stage = Stage(
        weights=(("naming", 0.0),), freeze=("embedding",), view=view,
        penalty=lambda params: (1e-3 * jnp.square(params["log_scale"]).sum(), {"squares": jnp.float32(7)}),
        after=lambda params, step: {**params, "log_scale": params["log_scale"] + step},
    )  # fmt: skip
    state = init_state(MODEL, optimizer, batch, 0, 0.0)
    new, report = jax.jit(make_step(MODEL, OBJECTIVES, optimizer, schedule, stage=stage))(state, batch)
    assert seen and "naming" not in report and float(report["squares"]) == 7
    wanted = report["masked_words"] + 1e-3 * float(state.params["log_scale"]) ** 2
    np.testing.assert_allclose(report["loss"], wanted, rtol=1e-5)
    for path, leaf in jax.tree_util.tree_leaves_with_path(new.params):
        before = dict(jax.tree_util.tree_leaves_with_path(state.params))[path]
        same = np.array_equal(leaf, before)
        if "embedding" in str(path):
            assert same, path
        elif path[-1].key == "kernel" and "to_shared" not in str(path):
            assert not same, path
    assert stages.merged({"a": 1}) == {"a": 1}

"""Layout over devices: every array has a rule, and the rule says what it means."""

import re
import types

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from xmodal_jax.errors import UserError
from xmodal_jax.models import CrossmodalBytes
from xmodal_jax.train.mesh import AXES, RULES, batch_sharding, local_rows, make_mesh, partition, path_of, shardings
from xmodal_jax.train.optimizers import OptimizerConfig, make_optimizer
from xmodal_jax.train.step import init_state

TINY = {
    "width": 16,
    "heads": 4,
    "text_layers": 1,
    "second_layers": 1,
    "layers": 1,
    "decoder_layers": 1,
    "slots": 4,
    "shared_width": 8,
}
VARIANTS = {
    "raw": ({"group": 48, "grid": 4}, 768), "conv": ({"group": 48, "grid": 4, "stem": "conv"}, 768),
    "table": ({"group": 48, "grid": 4, "table_width": 2}, 768), "file": ({"second": "file", "stride": 8}, 64),
    **{name: ({"group": 48, "grid": 4, "reducer": name, "second_width": 8}, 768) for name in ("slots", "none")},
}  # fmt: skip
MESH = types.SimpleNamespace(shape={"data": 2, "fsdp": 2, "tensor": 2})  # the rules ask for sizes alone


def state_shapes(variant, make_batch):
    settings, length = VARIANTS[variant]
    optimizer, _ = make_optimizer(OptimizerConfig(), 10)
    model, batch = CrossmodalBytes(**(TINY | settings)), make_batch(2, length)
    return jax.eval_shape(lambda: init_state(model, optimizer, batch, 0, ema=0.9))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_array_of_the_state_has_a_rule_and_divides(variant, make_batch):
    leaves = jax.tree_util.tree_leaves_with_path(state_shapes(variant, make_batch))
    specs = {path_of(path): partition(path_of(path), leaf.shape, MESH) for path, leaf in leaves}
    moments = {path.split("/", 1)[1]: spec for path, spec in specs.items() if path.startswith("params/")}
    assert len(moments) > 20
    for path, spec in specs.items():
        same = [other for name, other in moments.items() if path.endswith(f"/{name}")]
        assert not same or same[0] == spec, f"{path}: moments and averages lie as their parameters do"
    kernels = [path for path in moments if path.endswith("kernel")]
    assert all(any(axis is not None for axis in moments[path]) for path in kernels), "no weight matrix is left whole"


@pytest.mark.parametrize(
    ("path", "shape", "spec"),
    [
        ("params/fusion/layers/attention/qkv/kernel", (2, 16, 3, 2, 8), P(None, "fsdp", None, "tensor", None)),
        ("params/decoder/layers/cross/kv/kernel", (2, 16, 2, 2, 8), P(None, "fsdp", None, "tensor", None)),
        ("params/fusion/layers/attention/out/kernel", (2, 16, 16), P(None, "tensor", "fsdp")),
        ("params/fusion/layers/up/kernel", (2, 16, 64), P(None, "fsdp", "tensor")),
        ("params/fusion/layers/down/kernel", (2, 64, 16), P(None, "tensor", "fsdp")),
        ("params/text_bytes/table/embedding", (384, 16), P(None, "fsdp")),
        ("params/logits/kernel", (16, 384), P("fsdp", "tensor")),
        ("params/text_bytes/local/kernel", (5, 16, 16), P(None, None, "fsdp")),
        ("params/second_bytes/group/kernel", (32, 16, 16), P(None, None, "fsdp")),
        ("params/second_bytes/conv_fine/kernel", (3, 3, 8, 8), P(None, None, None, "fsdp")),
        ("params/second_bytes/project/kernel", (48, 16), P(None, "fsdp")),
        ("params/reduce/slots/kernel", (16, 4), P(None, "fsdp")),
        ("params/reduce/slots", (4, 16), P()),
        ("params/fusion/layers/norm_mlp/scale", (2, 16), P()),
        ("params/modality", (2, 16), P()),
        ("key", (2,), P()),
        ("opt_state/1/0/count", (), P()),
    ],
)  # fmt: skip
def test_rules_mean_what_they_say(path, shape, spec):
    found = partition(path, shape, MESH)
    assert tuple(found) == tuple(P(*[None] * (len(shape) - len(spec)), *spec)) or found == spec


def test_first_match_wins_and_every_rule_is_a_pattern():
    assert partition("a/b", (4, 4), MESH, ((r"b$", P("data", None)), (r"a", P()))) == P("data", None)
    for pattern, _ in RULES:
        re.compile(pattern)


def test_an_array_without_a_rule_or_that_does_not_divide_is_named():
    with pytest.raises(UserError, match=r"No sharding rule matches the parameter params/new/thing of shape \(3, 4\)"):
        partition("params/new/thing", (3, 4), MESH)
    with pytest.raises(UserError, match=r"logits/kernel of shape \(3001, 385\) cannot be split 2 ways over fsdp"):
        partition("params/logits/kernel", (3001, 385), MESH)


def test_an_axis_that_does_not_divide_its_dimension_takes_another_or_leaves_a_small_array_whole():
    assert partition("params/reduce/slots/kernel", (768, 3), MESH) == P("fsdp", None)
    assert partition("params/logits/kernel", (15, 384), MESH) == P(None, "tensor")
    assert partition("params/layers/up/kernel", (3, 15, 15), MESH) == P(None, None, None)


def test_shardings_of_a_state_and_a_batch(make_batch):
    mesh = make_mesh({"data": -1})
    shapes = state_shapes("raw", make_batch)
    found = shardings(shapes, mesh)
    assert jax.tree.structure(found) == jax.tree.structure(shapes)
    assert all(isinstance(leaf, NamedSharding) for leaf in jax.tree.leaves(found))
    rows = batch_sharding(mesh)
    assert rows(3).spec == P(("data", "fsdp"), None, None) and rows(1).spec == P(("data", "fsdp")) and rows(0).spec == P()
    assert jax.device_put(np.ones((4, 2)), rows(2)).shape == (4, 2)


def test_rows_of_this_process_and_a_batch_that_does_not_divide():
    mesh = make_mesh({"data": -1})
    assert local_rows(mesh, 8) == list(range(8))
    split = types.SimpleNamespace(shape={"data": 4, "fsdp": 2, "tensor": 1})
    with pytest.raises(UserError, match="batch_size=12 must be a multiple of the mesh's data x fsdp = 8"):
        local_rows(split, 12)


def test_mesh_sizes():
    count = jax.device_count()
    for sizes in ({}, {"data": -1}, {"tensor": -1}, {"data": 1, "fsdp": -1, "tensor": 1}):
        if sizes or count == 1:
            mesh = make_mesh(sizes)
            assert mesh.axis_names == AXES and mesh.size == count
    for sizes, told in (
        ({"model": 2}, "no axis model: the axes are data, fsdp, tensor"), ({"data": -1, "fsdp": -1}, "one may be -1"),
        ({"data": 0}, "at least 1"), ({"data": count + 1}, f"needs {count + 1} devices; there are {count}"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=told):
            make_mesh(sizes)

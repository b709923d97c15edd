"""Checkpoint folders: shards, types, layouts over a mesh, memory, and what is refused."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.interop.oracle import close, randomise, torch, transformers
from tests.interop.test_vit import SIZES, channels_first
from xmodal_jax.errors import UserError
from xmodal_jax.interop.files import tensors_of
from xmodal_jax.interop.pretrained import (
    FAMILIES,
    OWN_CONFIGS,
    from_config,
    load_pretrained,
    parameter_shapes,
    save_pretrained,
)
from xmodal_jax.interop.trees import leaves
from xmodal_jax.train.mesh import make_mesh, shardings


@pytest.fixture
def folder(tmp_path, rng):
    """A small ViT checkpoint."""
    config = transformers.ViTConfig(**SIZES["tiny"])
    randomise(transformers.ViTModel(config), rng).save_pretrained(tmp_path)
    return tmp_path


def same(a, b):
    a, b = leaves(a), leaves(b)
    return set(a) == set(b) and all(np.array_equal(a[name], b[name]) for name in a)


def test_shards_give_what_one_file_gives(folder, tmp_path):
    whole = load_pretrained(folder).params
    model = transformers.ViTModel.from_pretrained(folder)
    model.save_pretrained(tmp_path / "shards", max_shard_size="10KB")
    assert not (tmp_path / "shards" / "model.safetensors").exists()
    assert same(load_pretrained(tmp_path / "shards").params, whole)
    os.remove(sorted((tmp_path / "shards").glob("*.safetensors"))[0])
    with pytest.raises(UserError, match="missing, though the index names it"):
        load_pretrained(tmp_path / "shards")


def test_bfloat16_files_and_parameters(folder, tmp_path):
    model = transformers.ViTModel.from_pretrained(folder).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "half")
    half, whole = load_pretrained(tmp_path / "half").params, load_pretrained(folder, dtype="bfloat16").params
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(half)} == {"float32"}
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(whole)} == {"bfloat16"}
    for name, leaf in leaves(half).items():
        assert np.array_equal(leaf, np.asarray(leaves(whole)[name], np.float32)), name
    save_pretrained(tmp_path / "whole", *load_pretrained(tmp_path / "half"))
    assert transformers.AutoModel.from_pretrained(tmp_path / "whole").dtype == torch.float32  # not as the config that was read


def test_parameters_lie_as_the_rules_of_a_mesh_say(folder):
    mesh = make_mesh({"data": 1}, jax.devices()[:1])
    params = load_pretrained(folder, sharding=lambda shapes: shardings(shapes, mesh)).params
    for leaf in jax.tree.leaves(params):
        assert leaf.sharding.mesh.axis_names == mesh.axis_names
    assert same(params, load_pretrained(folder).params)


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_rules_of_the_mesh_cover_every_family(kind):
    config = OWN_CONFIGS[kind]() if kind in OWN_CONFIGS else transformers.AutoConfig.for_model(kind)
    family = FAMILIES[kind]
    groups = {entry.group for entry in family.entries(config)} - {""}
    shapes = parameter_shapes(family.module(config, groups), *family.example(config))  # at its usual size, nothing is allocated
    shardings(shapes, make_mesh({"data": 1}, jax.devices()[:1]))
    assert {entry.ours for entry in family.entries(config)} >= set(leaves(shapes))


@pytest.mark.parametrize("name, heads", [("ViTModel", ("pooler",)), ("ViTForImageClassification", ("classifier",))])
def test_a_model_begun_here_loads_in_pytorch(call, tmp_path, rng, name, heads):
    config = transformers.ViTConfig(**SIZES["tiny"], num_labels=4)
    module, params, settings = from_config(config, heads, jax.random.PRNGKey(rng.integers(1000)))
    save_pretrained(tmp_path, module, params, settings)
    model, report = getattr(transformers, name).from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    x = rng.normal(size=(2, 24, 24, 3)).astype(np.float32)
    out, theirs = call(module, "__call__", params, x), model.eval()(channels_first(x))
    close(*((out.logits, theirs.logits.detach()) if heads == ("classifier",) else (out.x, theirs[0].detach())), 1e-4, "output")
    with pytest.raises(UserError, match="head of a vit model.*classifier"):
        from_config(config, ("masked_lm",))


def test_every_array_that_does_not_fit_is_listed(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors.pop("layernorm.bias")
    tensors["extra"] = np.zeros((2, 3), np.float32)
    tensors["layernorm.weight"] = np.zeros(7, np.float32)
    save_file(tensors, path)
    with pytest.raises(UserError) as error:
        load_pretrained(folder)
    for sentence in (
        "missing: layernorm.bias",
        r"left over: extra [2, 3]",
        "layernorm.weight is [7], the config asks for [24]",
    ):
        assert sentence in str(error.value)


def test_pickles_truncated_and_unknown_checkpoints_are_refused(folder, tmp_path):
    path = folder / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-100])
    with pytest.raises(UserError, match="truncated or broken"):
        load_pretrained(folder)
    path.write_bytes(data[:5])
    with pytest.raises(UserError, match="truncated or broken"):
        tensors_of(folder)
    path.rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickle.*run any code"):
        load_pretrained(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(UserError, match="holds no weights"):
        load_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    with pytest.raises(UserError, match="model_type.*mamba.*vit"):
        load_pretrained(folder)
    with pytest.raises(UserError, match="no folder here, and the hub does not give it"):
        load_pretrained(str(tmp_path / "nowhere" / "at" / "all"))


MEMORY = """
import sys
sys.modules["torch"] = None  # an installed PyTorch would be imported by transformers, and count
import resource
import jax
from xmodal_jax.interop.pretrained import load_pretrained
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
jax.numpy.zeros(1).block_until_ready()
import transformers
transformers.AutoConfig
before = peak()
params = jax.block_until_ready(load_pretrained(sys.argv[1]).params)
print(peak() - before, sum(leaf.nbytes for leaf in jax.tree.leaves(params)) / 1e6)
"""


@pytest.mark.slow
def test_loading_takes_the_memory_of_the_parameters_once(tmp_path):
    config = transformers.ViTConfig(hidden_size=1024, num_hidden_layers=8, num_attention_heads=16, intermediate_size=4096)
    transformers.ViTModel(config).save_pretrained(tmp_path)
    done = subprocess.run([sys.executable, "-c", MEMORY, tmp_path], capture_output=True, text=True, check=True)
    more, size = map(float, done.stdout.split()[-2:])
    assert more < size + 120, f"{more:.0f} MB for {size:.0f} MB of parameters"

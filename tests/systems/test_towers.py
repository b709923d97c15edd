"""Towers from checkpoints inside a larger model: grafted, frozen, refused."""

import json
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image
from transformers import GPT2Config, ViTConfig

from configs.caption import get_config
from tests.interop.test_processing import CLASSES
from xmodal_jax import systems
from xmodal_jax.config import build, load_config
from xmodal_jax.data.images import picture_of
from xmodal_jax.errors import UserError
from xmodal_jax.interop.pretrained import from_config, save_pretrained
from xmodal_jax.interop.trees import leaves
from xmodal_jax.models.pixels import standardised
from xmodal_jax.systems import model, recipe
from xmodal_jax.train import loop
from xmodal_jax.train import mesh as layout
from xmodal_jax.train.checkpoints import Checkpoints
from xmodal_jax.train.program import state_maker


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A ViT with a head, of other images, and a GPT-2 without cross-attention, as checkpoints; their parameters."""
    root, found = tmp_path_factory.mktemp("checkpoints"), {}
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 24}
    vit = ViTConfig(**sizes, image_size=32, patch_size=8)
    gpt2 = GPT2Config(vocab_size=120, n_positions=40, n_embd=16, n_layer=2, n_head=2)
    for name, config, heads in (("vit", vit, ("classifier",)), ("gpt2", gpt2, ())):
        module, params, settings = from_config(config, heads, jax.random.PRNGKey(7))
        save_pretrained(str(root / name), module, params, settings)
        found[name] = (str(root / name), params)
    return found


def config_of(folders, **changes):
    arguments = f"baseline,debug,image=vit,init_image={folders['vit'][0]},init_text={folders['gpt2'][0]}"
    config = get_config(arguments)
    config.examples.tokenizer, config.data.count, config.mesh.data = "words:1", 24, 1
    config.batch_size, config.total_steps, config.log_every, config.checkpoint_every = 4, 2, 1, 2
    config.evaluators = {}
    config.update_from_flattened_dict(changes)
    return config


def fresh_state(config):
    parts = recipe.make(config)
    mesh = layout.make_mesh(config.mesh, jax.devices()[:1])
    with jax.set_mesh(mesh):
        return parts, state_maker(parts, mesh)[0]()


def test_a_new_state_starts_from_the_checkpoints(folders):
    parts, state = fresh_state(config_of(folders, ema=0.9))
    for name, tower in (("vit", "image"), ("gpt2", "decoder")):
        theirs, ours = leaves(folders[name][1]), leaves(state.params[tower])
        for path, array in theirs.items():
            if path.startswith("classifier"):
                assert path not in ours
            elif path != "position_table":  # interpolated from 4 x 4 to 8 x 8
                np.testing.assert_array_equal(ours[path], array, err_msg=path)
    assert state.params["image"]["position_table"].shape == (1, 65, 16)
    new = [path for path in leaves(state.params["decoder"]) if "cross" in path]
    assert new and not [path for path in new if path in leaves(folders["gpt2"][1])]
    jax.tree.map(np.testing.assert_array_equal, state.params, state.ema)


def test_a_byte_model_sees_through_a_checkpoint(folders):
    """Its patches are the checkpoint's without the class token, of the pixels as they lie in the picture; without a picture
    there is nothing to see."""
    config = load_config("configs/pretrain.py", f"debug,init_image={folders['vit'][0]},image_size=32")
    config.update_from_flattened_dict({"data.count": 24, "evaluators": {}, "mesh.data": 1, "batch_size": 4})
    parts, state = fresh_state(config)
    maker, params = parts.maker, jax.device_get(state.params)
    for path, array in leaves(params["image"]).items():
        np.testing.assert_array_equal(array, leaves(folders["vit"][1])[path], err_msg=path)
    examples = [parts.train[i] for i in range(2)]
    raw = np.stack([maker.config.second_modality(example)[0] for example in examples])
    seen = parts.model.apply({"params": params}, raw, np.array([raw.shape[1], 0]), method="encode_image")
    pixels = standardised(np.stack([example["image"] for example in examples]), config.model.mean, config.model.std, "float32")
    own = parts.model.image.apply({"params": params["image"]}, pixels)
    assert own.class_tokens == 1 and seen.reduced.assignment.shape[2] == 16 == parts.model.groups(raw.shape[1])
    np.testing.assert_allclose(seen.summary[0], own.pooled[0], rtol=1e-5, atol=1e-6)
    assert not np.asarray(seen.summary[1]).any() and not np.asarray(seen.mask[1]).any() and not np.asarray(seen.x[1]).any()


@pytest.mark.slow
def test_what_a_tower_freezes_stays_as_it_is(folders, tmp_path):
    config = config_of(folders, **{"model.image.freeze": ("patch_embed", "layers/attention")})
    loop.train(recipe.make(config), str(tmp_path / "run"))
    parts, start = fresh_state(config)
    mesh = layout.make_mesh(config.mesh, jax.devices()[:1])
    with jax.set_mesh(mesh):
        _, shapes = state_maker(parts, mesh)
        end, _ = Checkpoints(str(tmp_path / "run" / "checkpoints")).restore(shapes)
    before, after = leaves(start.params["image"]), leaves(end.params["image"])
    moved = {path for path in before if not np.array_equal(before[path], after[path])}
    still = {path for path in before if "patch_embed" in path or "layers/attention" in path}
    assert still and not moved & still and len(moved) > len(before) // 2 - len(still)
    decoder = leaves(start.params["decoder"])["decoder/layers/attention/qkv/kernel"]
    assert not np.array_equal(decoder, leaves(end.params["decoder"])["decoder/layers/attention/qkv/kernel"])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model.image.name": "beit"}, "holds a ViT, not a BEiT"),
        ({"model.image.name": "vitt"}, "did you mean 'vit'"),
        ({"model.image.freeze": ("patches",)}, "patches.*found in no parameter"),
        ({"examples.length": 64}, "40 positions"),
        ({"model.image.init": "nowhere/at-all"}, "nowhere/at-all"),
    ],
)
def test_mistakes_are_named(folders, changes, told, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=told):
        fresh_state(config_of(folders, **changes))


def test_a_checkpoints_width_cannot_be_chosen(folders):
    config = config_of(folders)
    with config.unlocked():
        config.model.image.width = 32
    with pytest.raises(UserError, match="width cannot be chosen"):
        recipe.make(config)


@pytest.mark.parametrize("kind", ["caption", "search", "vqa", "pretrain"])
def test_a_model_from_a_checkpoint_is_shown_that_ones_pixels(folders, tmp_path, kind, caplog):
    """The source's, and those that a finished model is asked about, are transformers' to 1e-6."""
    place = tmp_path / "vit"
    shutil.copytree(folders["vit"][0], place)
    processor = CLASSES["ViT"](size={"height": 32, "width": 32}, image_mean=[0.2, 0.3, 0.4], image_std=[0.3, 0.2, 0.1])
    processor.save_pretrained(place)
    rng, rows = np.random.default_rng(0), []
    for number in range(4):
        picture = Image.fromarray(rng.integers(0, 256, (70, 90, 3), np.uint8))
        picture.save(tmp_path / f"{number}.jpg")
        rows.append({"image": f"{number}.jpg", "caption": "a dog", "split": "train" if number < 3 else "val"})
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = "scenes" if kind == "vqa" else f"captions,path={tmp_path}"
    config = load_config(f"configs/{kind}.py", f"debug,data={data},image=vit,init_image={place}")
    if kind in ("caption", "search"):
        config.examples.tokenizer = "words:1"
    examples = build(systems.system_of(config).examples, config.examples, "examples")
    shown = [picture_of(str(tmp_path / f"{number}.jpg"), examples.image_size, examples.mode) for number in range(4)]
    if kind != "vqa":
        shown += [recipe.open_source(config.data, examples, "train")[number]["image"] for number in range(3)]
    files = [str(tmp_path / f"{number}.jpg") for number in (0, 1, 2, 3, 0, 1, 2)][: len(shown)]
    expected = processor([Image.open(file) for file in files], return_tensors="np")["pixel_values"].transpose(0, 2, 3, 1)
    got = standardised(np.stack(shown), config.model.mean, config.model.std, "float32")
    np.testing.assert_allclose(got, expected, atol=1e-6)
    model.tell_pixels(config, SimpleNamespace(mean=config.model.mean, std=config.model.std))
    assert "was trained with" not in caplog.text
    model.tell_pixels(config, SimpleNamespace(mean=0.45, std=0.25))
    assert "config.model.mean=0.45, but" in caplog.text and "config.model.std=0.25, but" in caplog.text

"""CLIP against the original in PyTorch."""

import numpy as np
import pytest
from safetensors.torch import save_file

from tests.interop.oracle import check_family, close, hidden_states, numbered, randomise, torch, transformers
from xmodal_jax.errors import UserError
from xmodal_jax.interop import clip, pretrained
from xmodal_jax.interop.pretrained import load_pretrained, save_pretrained

END = 29
VISION = dict(hidden_size=24, num_hidden_layers=3, num_attention_heads=3, intermediate_size=40, image_size=24, patch_size=8)
TEXT = dict(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, vocab_size=30, max_position_embeddings=11,
    bos_token_id=0, eos_token_id=END, pad_token_id=1,
)  # fmt: skip
SIZES = {
    "tiny": dict(text_config=TEXT, vision_config=VISION, projection_dim=12),
    "exact gelu, old end": dict(
        text_config=TEXT | dict(hidden_act="gelu", eos_token_id=2), vision_config=VISION | dict(hidden_act="gelu"),
        projection_dim=20,
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def family(monkeypatch):
    monkeypatch.setitem(pretrained.FAMILIES, "clip", clip.FAMILY)


def pictures(rng, size=24):
    rows, columns = (size, size) if isinstance(size, int) else size
    return rng.normal(size=(3, rows, columns, 3)).astype(np.float32)


def texts(rng, rows=4, length=9):
    """ids and mask: texts of every length, ended; what follows the end of the first is the end again, as CLIP pads."""
    ids, mask = rng.integers(3, END, (rows, length)), np.zeros((rows, length), bool)
    for row, size in enumerate([length // 2, length, 2, *rng.integers(2, length + 1, rows)][:rows]):
        ids[row, size - 1], mask[row, :size] = END, True
    ids[0, length // 2 :] = END
    return ids, mask


def channels_first(x):
    return torch.tensor(x.transpose(0, 3, 1, 2).copy())


def both(x, ids, mask):
    """(theirs, ours) of `check_family`."""

    def theirs(model):
        more = {} if mask is None else {"attention_mask": torch.tensor(mask).long()}
        out = model(torch.tensor(ids).long(), channels_first(x), output_hidden_states=True, **more)
        image, text = out.vision_model_output, out.text_model_output
        found = {
            "image": image.last_hidden_state, "text": text.last_hidden_state, "pooled image": image.pooler_output,
            "pooled text": text.pooler_output, "logits": out.logits_per_image,
        }  # fmt: skip
        for name, tower in (("image", image), ("text", text)):
            found |= {f"{name} {key}": value for key, value in numbered(tower.hidden_states[1:]).items()}
        return found

    def ours(module, variables):
        (image, text, logits), kept = module.apply(variables, x, ids, mask, mutable="intermediates")
        found = {"image": image.x, "text": text.x, "pooled image": image.pooled, "pooled text": text.pooled, "logits": logits}
        for name, tower in (("image", "vision"), ("text", "text")):
            states = hidden_states({"intermediates": kept["intermediates"][tower]})
            found |= {f"{name} {key}": value for key, value in states.items()}
        return found

    return theirs, ours


@pytest.mark.parametrize("length", [9, 4])
@pytest.mark.parametrize("size", SIZES)
def test_clip_equals_the_original(tmp_path, rng, size, length):
    model = randomise(transformers.CLIPModel(transformers.CLIPConfig(**SIZES[size])), rng)
    ids, mask = texts(rng, length=length)
    check_family(tmp_path, model, *both(pictures(rng), ids, mask if length == 9 else None), rng)


def test_verbs(call, tmp_path, rng):
    model = randomise(transformers.CLIPModel(transformers.CLIPConfig(**SIZES["tiny"])), rng)
    model.save_pretrained(tmp_path)
    module, params, _ = load_pretrained(tmp_path, remat="full")
    x, (ids, mask) = pictures(rng), texts(rng)
    image = call(module, "encode_image", params, x)
    text = call(module, "encode_text", params, ids, mask)
    close(image.pooled, model.get_image_features(channels_first(x)).pooler_output.detach(), 1e-4, "image")
    expected = model.get_text_features(torch.tensor(ids), torch.tensor(mask).long()).pooler_output
    close(text.pooled, expected.detach(), 1e-4, "text")
    assert image.class_tokens == 1 and np.array_equal(text.mask, mask)


@pytest.mark.parametrize("size", [40, 16, (16, 32)])
def test_another_image_size(call, tmp_path, rng, size):
    model = randomise(transformers.CLIPModel(transformers.CLIPConfig(**SIZES["tiny"])), rng)
    model.save_pretrained(tmp_path)
    module, params, _ = load_pretrained(tmp_path, image_size=size)
    x = pictures(rng, size)
    expected = model.get_image_features(channels_first(x), interpolate_pos_encoding=True)
    found = call(module, "encode_image", params, x)
    close(found.x, expected.last_hidden_state.detach(), 1e-4, "last")
    close(found.pooled, expected.pooler_output.detach(), 1e-4, "pooled")


@pytest.mark.parametrize("prefixed", [False, True])
@pytest.mark.parametrize("kind", ["Vision", "Text"])
def test_a_tower_alone(call, tmp_path, rng, kind, prefixed):
    """As its own model, its names with the prefix of transformers before 5 and without, and back."""
    config = getattr(transformers, f"CLIP{kind}Config")(**{"Vision": VISION, "Text": TEXT}[kind])
    model = randomise(getattr(transformers, f"CLIP{kind}Model")(config), rng)
    first, back = tmp_path / "first", tmp_path / "back"
    model.save_pretrained(first)
    plain = {name: value.contiguous() for name, value in model.state_dict().items()}
    prefix = f"{kind.lower()}_model." if prefixed else ""
    save_file({prefix + name: value for name, value in plain.items()}, first / "model.safetensors", {"format": "pt"})
    module, params, settings = load_pretrained(first)
    x, (ids, mask) = pictures(rng), texts(rng)
    given = (x,) if kind == "Vision" else (ids, mask)
    found = call(module, "__call__", params, *given)
    with torch.no_grad():
        theirs = model(channels_first(x)) if kind == "Vision" else model(torch.tensor(ids), torch.tensor(mask).long())
    close(found.x, theirs.last_hidden_state, 1e-4, "last")
    close(found.pooled, theirs.pooler_output, 1e-4, "pooled")
    save_pretrained(back, module, params, settings)
    again = type(model).from_pretrained(back)
    assert all(torch.equal(again.state_dict()[name], value) for name, value in plain.items())


def test_wrong_sizes_are_refused(tmp_path, rng):
    randomise(transformers.CLIPModel(transformers.CLIPConfig(**SIZES["tiny"])), rng).save_pretrained(tmp_path)
    module, params, _ = load_pretrained(tmp_path)
    with pytest.raises(UserError, match="4 x 4 patches.*3 x 3.*image_size"):
        module.apply({"params": params}, pictures(rng, 32), method="encode_image")
    with pytest.raises(UserError, match="12 tokens.*positions for 11"):
        module.apply({"params": params}, np.zeros((1, 12), np.int32), method="encode_text")

"""ViT against the original in PyTorch."""

import numpy as np
import pytest

from tests.interop.oracle import check_family, close, hidden_states, numbered, randomise, torch, transformers
from xmodal_jax.errors import UserError
from xmodal_jax.interop.pretrained import load_pretrained

SIZES = {
    "tiny": dict(hidden_size=24, num_hidden_layers=3, num_attention_heads=3, intermediate_size=40, image_size=24, patch_size=8),
    "oblong": dict(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, image_size=(16, 24), patch_size=4,
        hidden_act="gelu_new",
    ),
}  # fmt: skip


def pictures(config, rng, size=None):
    size = size or config.image_size
    rows, columns = (size, size) if isinstance(size, int) else size
    return rng.normal(size=(2, rows, columns, 3)).astype(np.float32)


def channels_first(x):
    return torch.tensor(x.transpose(0, 3, 1, 2).copy())


@pytest.mark.parametrize("size", SIZES)
def test_vit_equals_the_original(tmp_path, rng, size):
    config = transformers.ViTConfig(**SIZES[size])
    model, x = randomise(transformers.ViTModel(config), rng), pictures(config, rng)

    def theirs(model):
        out = model(channels_first(x), output_hidden_states=True)
        return {"last": out.last_hidden_state, "pooled": out.pooler_output} | numbered(out.hidden_states[1:])

    def ours(module, variables):
        out, kept = module.apply(variables, x, mutable="intermediates")
        return {"last": out.x, "pooled": out.pooled} | hidden_states(kept)

    check_family(tmp_path, model, theirs, ours, rng)


def test_classifier(tmp_path, rng):
    config = transformers.ViTConfig(**SIZES["tiny"], num_labels=5)
    model, x = randomise(transformers.ViTForImageClassification(config), rng), pictures(config, rng)
    check_family(
        tmp_path, model, lambda m: {"logits": m(channels_first(x)).logits}, lambda m, v: {"logits": m.apply(v, x).logits}, rng
    )


@pytest.mark.parametrize("size", [40, 16, (16, 32)])
def test_another_image_size(tmp_path, rng, size):
    config = transformers.ViTConfig(**SIZES["tiny"])
    model, x = randomise(transformers.ViTModel(config), rng), pictures(config, rng, size)
    model.save_pretrained(tmp_path)
    module, params, _ = load_pretrained(tmp_path, image_size=size)
    expected = model(channels_first(x), interpolate_pos_encoding=True).last_hidden_state
    close(module.apply({"params": params}, x).x, expected.detach(), 1e-4, "last")


def test_images_of_a_wrong_size_are_refused(tmp_path, rng):
    config = transformers.ViTConfig(**SIZES["tiny"])
    randomise(transformers.ViTModel(config), rng).save_pretrained(tmp_path)
    module, params, _ = load_pretrained(tmp_path)
    with pytest.raises(UserError, match="4 x 4 patches.*3 x 3.*image_size"):
        module.apply({"params": params}, np.zeros((1, 32, 32, 3), np.float32))
    with pytest.raises(UserError, match="cut into patches of 8 x 8"):
        module.apply({"params": params}, np.zeros((1, 30, 24, 3), np.float32))

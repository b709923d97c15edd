"""BEiT against the original in PyTorch."""

import numpy as np
import pytest

from tests.interop.oracle import check_family, close, hidden_states, numbered, randomise, torch, transformers
from xmodal_jax.errors import UserError
from xmodal_jax.interop import beit, pretrained
from xmodal_jax.interop.pretrained import load_pretrained

TINY = dict(hidden_size=24, num_attention_heads=3, intermediate_size=40, image_size=24, patch_size=8)
SIZES = {
    "relative": dict(**TINY, num_hidden_layers=3, use_relative_position_bias=True),
    "shared": dict(
        **TINY, num_hidden_layers=2, use_shared_relative_position_bias=True, use_mask_token=True, use_mean_pooling=False
    ),
    "both": dict(
        **(TINY | {"image_size": (16, 32)}), num_hidden_layers=2, use_relative_position_bias=True, use_mask_token=True,
        use_shared_relative_position_bias=True, hidden_act="gelu_new",
    ),
    "absolute": dict(**TINY, num_hidden_layers=1, use_absolute_position_embeddings=True, layer_scale_init_value=0.0),
    "all": dict(
        **TINY, num_hidden_layers=1, use_absolute_position_embeddings=True, use_relative_position_bias=True,
        use_shared_relative_position_bias=True, use_mask_token=True,
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def family(monkeypatch):
    monkeypatch.setitem(pretrained.FAMILIES, "beit", beit.FAMILY)


def pictures(size, rng):
    rows, columns = (size, size) if isinstance(size, int) else size
    return rng.normal(size=(2, rows, columns, 3)).astype(np.float32)


def channels_first(x):
    return torch.tensor(x.transpose(0, 3, 1, 2).copy())


def both(x, masked=None):
    """(theirs, ours) of `check_family`."""

    def theirs(model):
        out = model(channels_first(x), None if masked is None else torch.tensor(masked), output_hidden_states=True)
        return {"last": out.last_hidden_state, "pooled": out.pooler_output} | numbered(out.hidden_states[1:])

    def ours(module, variables):
        out, kept = module.apply(variables, x, masked, mutable="intermediates")
        return {"last": out.x, "pooled": out.pooled} | hidden_states(kept)

    return theirs, ours


@pytest.mark.parametrize("size", SIZES)
def test_beit_equals_the_original(tmp_path, rng, size):
    config = transformers.BeitConfig(**SIZES[size])
    model, x = randomise(transformers.BeitModel(config), rng), pictures(config.image_size, rng)
    masked = rng.random((2, x.shape[1] * x.shape[2] // 64)) < 0.4 if config.use_mask_token else None
    check_family(tmp_path, model, *both(x, masked), rng)


def test_classifier(tmp_path, rng):
    config = transformers.BeitConfig(**SIZES["relative"], num_labels=5)
    model, x = randomise(transformers.BeitForImageClassification(config), rng), pictures(24, rng)
    check_family(
        tmp_path, model, lambda m: {"logits": m(channels_first(x)).logits}, lambda m, v: {"logits": m.apply(v, x).logits}, rng
    )


@pytest.mark.parametrize("size", [40, 16, (8, 56)])
@pytest.mark.parametrize("kind", [*(pytest.param(kind, marks=pytest.mark.slow) for kind in ("relative", "shared")), "both"])
def test_relative_positions_for_another_image_size(tmp_path, rng, kind, size):
    config = transformers.BeitConfig(**SIZES[kind])
    check_family(tmp_path, randomise(transformers.BeitModel(config), rng), *both(pictures(size, rng)), rng)


def test_absolute_positions_for_another_image_size(call, tmp_path, rng):
    model = randomise(transformers.BeitModel(transformers.BeitConfig(**SIZES["absolute"])), rng)
    model.save_pretrained(tmp_path)
    module, params, _ = load_pretrained(tmp_path, image_size=(16, 40))
    x = pictures((16, 40), rng)
    close(call(module, "__call__", params, x).x, model(channels_first(x)).last_hidden_state.detach(), 1e-4, "last")


def test_what_cannot_be_is_said(tmp_path, rng):
    randomise(transformers.BeitModel(transformers.BeitConfig(**SIZES["relative"])), rng).save_pretrained(tmp_path / "relative")
    randomise(transformers.BeitModel(transformers.BeitConfig(**SIZES["absolute"])), rng).save_pretrained(tmp_path / "absolute")
    with pytest.raises(UserError, match="load it without image_size"):
        load_pretrained(tmp_path / "relative", image_size=32)
    module, params, _ = load_pretrained(tmp_path / "absolute")
    with pytest.raises(UserError, match="4 x 4 patches.*positions for 3 x 3"):
        module.apply({"params": params}, np.zeros((1, 32, 32, 3), np.float32))
    with pytest.raises(UserError, match="no mask token"):
        module.apply({"params": params}, np.zeros((1, 24, 24, 3), np.float32), np.zeros((1, 9), bool))

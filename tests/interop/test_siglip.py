"""SigLIP against the original in PyTorch."""

import jax
import numpy as np
import pytest

from tests.interop.oracle import check_family, close, randomise, torch, transformers
from tests.interop.test_clip import both, channels_first, pictures
from xmodal_jax.errors import UserError
from xmodal_jax.interop.pretrained import load_pretrained, save_pretrained, settings_of
from xmodal_jax.models.backbones.siglip import SiglipText, SiglipVision

VISION = dict(hidden_size=24, num_hidden_layers=3, num_attention_heads=3, intermediate_size=40, image_size=24, patch_size=8)
TEXT = dict(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, vocab_size=30, max_position_embeddings=11,
    projection_size=24,
)  # fmt: skip


def whole(rng):
    return randomise(transformers.SiglipModel(transformers.SiglipConfig(text_config=TEXT, vision_config=VISION)), rng)


@pytest.mark.parametrize("masked", [pytest.param(False, marks=pytest.mark.slow), True])
def test_siglip_equals_the_original(tmp_path, rng, masked):
    """The sigmoid's logits too; without a mask all of a text counts, as the public models were trained."""
    x, ids, mask = pictures(rng), rng.integers(0, 30, (4, 9)), None
    if masked:
        mask = np.arange(9)[None] < rng.integers(1, 10, (4, 1))

    check_family(tmp_path, whole(rng), *both(x, ids, mask), rng)


@pytest.mark.parametrize("size", [(16, 32)])
def test_another_image_size(call, tmp_path, rng, size):
    """Positions of a grid without a class token."""
    model = whole(rng)
    model.save_pretrained(tmp_path)
    module, params, _ = load_pretrained(tmp_path, image_size=size)
    x = pictures(rng, size)
    expected = model.get_image_features(channels_first(x), interpolate_pos_encoding=True)
    found = call(module, "encode_image", params, x)
    close(found.x, expected.last_hidden_state.detach(), 1e-4, "last")
    close(found.pooled, expected.pooler_output.detach(), 1e-4, "pooled")


@pytest.mark.parametrize("kind", ["Vision", "Text"])
def test_a_tower_alone(call, tmp_path, rng, kind):
    config = getattr(transformers, f"Siglip{kind}Config")(**{"Vision": VISION, "Text": TEXT}[kind])
    model = randomise(getattr(transformers, f"Siglip{kind}Model")(config), rng)
    model.save_pretrained(tmp_path / "first")
    module, params, settings = load_pretrained(tmp_path / "first")
    x, ids = pictures(rng), rng.integers(0, 30, (2, 11))
    found = call(module, "__call__", params, x if kind == "Vision" else ids)
    with torch.no_grad():
        theirs = model(channels_first(x) if kind == "Vision" else torch.tensor(ids))
    close(found.pooled, theirs.pooler_output, 1e-4, "pooled")
    save_pretrained(tmp_path / "back", module, params, settings)
    again = type(model).from_pretrained(tmp_path / "back")
    assert all(torch.equal(again.state_dict()[name], value) for name, value in model.state_dict().items())


def test_settings_of_new_towers(rng):
    for module in (SiglipVision(width=24, heads=2, layers=1, grid=(2, 3), pool=False), SiglipText(width=24, heads=2, layers=1)):
        assert settings_of(module).config.hidden_size == 24
    with pytest.raises(UserError, match="12 tokens.*positions for 11"):
        SiglipText(positions=11).init(jax.random.PRNGKey(0), np.zeros((1, 12), np.int32))

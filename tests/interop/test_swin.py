"""Swin against the original in PyTorch."""

import jax
import numpy as np
import pytest

from tests.interop.oracle import check_family, randomise, transformers
from tests.interop.test_clip import channels_first
from xmodal_jax.errors import UserError
from xmodal_jax.interop.pretrained import settings_of
from xmodal_jax.models.backbones.swin import Swin, grid_of_windows, together, windows

FILLED = "filled up, odd grids"
SIZES = {
    "whole windows": (32, dict(depths=[2, 2], num_heads=[2, 4], window_size=4)),
    FILLED: (44, dict(depths=[2, 1], num_heads=[2, 2], window_size=4)),
}


@pytest.mark.parametrize(
    ("size", "remat"), [("whole windows", "none"), pytest.param(FILLED, "none", marks=pytest.mark.slow), (FILLED, "full")]
)
def test_swin_equals_the_original(tmp_path, rng, size, remat):
    pixels, settings = SIZES[size]
    config = transformers.SwinConfig(image_size=pixels, patch_size=4, embed_dim=8, mlp_ratio=2.0, num_labels=5, **settings)
    model = randomise(transformers.SwinForImageClassification(config), rng)
    x = rng.normal(size=(2, pixels, pixels, 3)).astype(np.float32)

    def theirs(model):
        out = model.swin(channels_first(x))
        return {"x": out.last_hidden_state, "pooled": out.pooler_output, "logits": model(channels_first(x)).logits}

    def ours(module, variables):
        out = module.apply(variables, x)
        return {"x": out.x, "pooled": out.pooled, "logits": out.logits}

    check_family(tmp_path, model, theirs, ours, rng, remat=remat)


def test_windows(rng):
    """There and back; who may attend to whom after a shift, by the places before it."""
    x = rng.normal(size=(2, 6, 9, 4)).astype(np.float32)
    np.testing.assert_array_equal(grid_of_windows(windows(x, 3), 3, 6, 9), x)
    y, c = np.mgrid[:6, :9]
    y, c = np.roll(y, (-1, -1), (0, 1)), np.roll(c, (-1, -1), (0, 1))
    places = np.asarray(windows(np.stack([y, c], -1)[None], 3))  # [windows, 9, 2]
    near = (np.abs(places[:, :, None] - places[:, None]) < 3).all(-1)  # within one window's reach, not around the edge
    np.testing.assert_array_equal(together(6, 9, 3, 1), near)


def test_settings():
    assert settings_of(Swin(first=8, depths=(1, 1), stage_heads=(2, 2), window=4)).config.embed_dim == 8
    module = Swin(first=8, depths=(1, 1), stage_heads=(2, 2), window=4)
    with pytest.raises(UserError, match="stage 2 of 2 has a grid of 3 x 3, smaller than its windows of 4"):
        jax.eval_shape(lambda: module.init(jax.random.PRNGKey(0), np.zeros((1, 24, 24, 3))))

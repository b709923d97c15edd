"""VGG-16 at its whole depth against PyTorch's layers, without a head, and images that are too small."""

import jax
import numpy as np
import pytest
from safetensors.torch import save_file

from tests.interop.oracle import close, randomise
from tests.interop.test_cnn import TorchVGG, with_statistics
from tests.interop.test_vit import channels_first
from xmodal_jax.errors import UserError
from xmodal_jax.interop.cnn import VGGConfig, vgg_entries
from xmodal_jax.interop.pretrained import load_pretrained
from xmodal_jax.models.backbones.vgg import VGG, VGG16

FIRST = {False: (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), True: (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)}


@pytest.mark.parametrize("batch_norm", [False, True])
def test_places_of_the_convolutions_are_torchvisions(batch_norm):
    names = [entry.theirs[0] for entry in vgg_entries(VGGConfig(batch_norm=batch_norm)) if "conv_" in entry.ours]
    assert [name for name in names if name.endswith("weight")] == [f"features.{n}.weight" for n in FIRST[batch_norm]]


def test_all_layers_without_a_head(tmp_path, rng):
    config = VGGConfig(channels=[channels // 16 for channels in VGG16], batch_norm=True, hidden_size=4)
    model = with_statistics(randomise(TorchVGG(config), rng), rng)
    config.save_pretrained(tmp_path)
    state = {f"features.{name}": value for name, value in model.features.state_dict().items() if "tracked" not in name}
    save_file(state, tmp_path / "model.safetensors")
    module, params, settings = load_pretrained(tmp_path)
    x = rng.normal(size=(2, 97, 65, 3)).astype(np.float32)
    expected = model.features(channels_first(x)).flatten(2).transpose(1, 2).detach()
    out = jax.jit(lambda params: module.apply({"params": params}, x))(params)
    assert settings.groups == () and out.logits is None and out.x.shape == (2, 6, 32)
    close(out.x, expected, 1e-4, "grid")
    close(out.pooled, expected.mean(1), 1e-4, "pooled")


def test_images_that_are_too_small_are_refused():
    images = np.zeros((1, 3, 64, 3), np.float32)
    with pytest.raises(UserError, match="3 x 64 pixels.*at least 4 x 4"):
        jax.eval_shape(lambda: VGG((4, 0, 4, 0)).init(jax.random.PRNGKey(0), images))

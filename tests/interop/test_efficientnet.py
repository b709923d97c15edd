"""EfficientNet and ALIGN against the originals in PyTorch."""

import numpy as np
import pytest

from tests.interop.oracle import check_family, randomise, torch, transformers
from tests.interop.test_clip import channels_first
from tests.interop.test_cnn import with_statistics
from xmodal_jax.errors import UserError
from xmodal_jax.interop.pretrained import settings_of
from xmodal_jax.models.backbones.efficientnet import EfficientNet

SMALL = dict(
    image_size=45, width_coefficient=0.25, depth_coefficient=1.0, depth_divisor=4, in_channels=[32, 16, 24, 40],
    out_channels=[16, 24, 40, 80], strides=[1, 2, 2, 1], num_block_repeats=[1, 2, 1, 2], expand_ratios=[1, 6, 6, 3],
    kernel_sizes=[3, 3, 5, 5],
)  # fmt: skip


@pytest.mark.parametrize("padding", [pytest.param((), marks=pytest.mark.slow), (1, 3)])
def test_efficientnet_equals_the_original(tmp_path, rng, padding):
    config = transformers.EfficientNetConfig(**SMALL, depthwise_padding=list(padding), hidden_dim=320, num_labels=5)
    model = with_statistics(randomise(transformers.EfficientNetForImageClassification(config), rng), rng)
    x = rng.normal(size=(2, 45, 64, 3)).astype(np.float32)

    def theirs(model):
        out = model.efficientnet(channels_first(x))
        grid = out.last_hidden_state.flatten(2).transpose(1, 2)
        return {"grid": grid, "pooled": out.pooler_output.flatten(1), "logits": model(channels_first(x)).logits}

    def ours(module, variables):
        out = module.apply(variables, x)
        return {"grid": out.x, "pooled": out.pooled, "logits": out.logits}

    check_family(tmp_path, model, theirs, ours, rng, against_float64=True)


def test_align_equals_the_original(tmp_path, rng):
    text = dict(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, vocab_size=30,
        max_position_embeddings=11,
    )  # fmt: skip
    config = transformers.AlignConfig(text_config=text, vision_config=SMALL | {"hidden_dim": 20}, projection_dim=20)
    model = with_statistics(randomise(transformers.AlignModel(config), rng), rng)
    with torch.no_grad():
        model.temperature.copy_(torch.tensor(0.3))
    x, ids = rng.normal(size=(2, 45, 45, 3)).astype(np.float32), rng.integers(0, 30, (3, 9))
    mask = np.arange(9)[None] < np.array([[9], [4], [1]])

    def theirs(model):
        out = model(
            input_ids=torch.tensor(ids), pixel_values=channels_first(x), attention_mask=torch.tensor(mask).long()
        )  # fmt: skip
        # The pooler of its BERT is in the file, and used by nothing.
        pooler = model.text_model(torch.tensor(ids), torch.tensor(mask).long()).pooler_output
        return {"logits": out.logits_per_image, "image": out.vision_model_output.pooler_output, "pooler": pooler}

    def ours(module, variables):
        image, _, logits = module.apply(variables, x, ids, mask)
        pooler = module.apply(variables, ids, mask, method=lambda model, *given: model.text(*given).pooled)
        return {"logits": logits, "image": image.pooled, "pooler": pooler}

    check_family(tmp_path, model, theirs, ours, rng, against_float64=True)


def test_settings():
    assert settings_of(EfficientNet(stem=64, widths=(32, 48), depths=(1, 2), strides=(1, 2), kernels=(3, 5), expands=(1, 6),
                                    top=2560)).config.width_coefficient == 2  # fmt: skip
    with pytest.raises(UserError, match="no counterpart to top=100"):
        settings_of(EfficientNet(top=100))

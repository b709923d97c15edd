"""Contrastive losses against the public classes that print them, on random tiny models of PyTorch."""

import numpy as np
import pytest

from xmodal_jax.objectives.ranking import both_ways

torch = pytest.importorskip("torch")
B, V = 4, 50
SIZES = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 40}
TEXT = {"vocab_size": V, "max_position_embeddings": 20, **SIZES}
IMAGE = {"image_size": 16, "patch_size": 8, **SIZES}


def clip():
    from transformers import CLIPConfig, CLIPModel

    text = TEXT | {"eos_token_id": V - 1, "bos_token_id": 1}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=IMAGE, projection_dim=12)), {}


def siglip():
    from transformers import SiglipConfig, SiglipModel

    model = SiglipModel(SiglipConfig(text_config=TEXT | {"projection_size": 24}, vision_config=IMAGE))
    torch.nn.init.constant_(model.logit_scale, 1.3)
    torch.nn.init.constant_(model.logit_bias, -2.1)
    return model, {"loss": "sigmoid"}


def align():
    from transformers import AlignConfig, AlignModel

    vision = {"image_size": 64, "width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 32, "depth_divisor": 8}
    return AlignModel(AlignConfig(text_config=TEXT, vision_config=vision, projection_dim=32)), {"smoothing": 0.1}


@pytest.mark.parametrize("make", [clip, siglip, align])
def test_the_loss_of_the_public_class(make, rng):
    torch.manual_seed(int(rng.integers(1 << 30)))
    model, settings = make()
    model = model.double().eval()
    ids = rng.integers(3, V - 1, (B, 9))
    ids[:, -1] = V - 1
    size = 64 if make is align else 16
    pixels = torch.tensor(rng.normal(size=(B, 3, size, size)))
    with torch.no_grad():
        out = model(input_ids=torch.tensor(ids), pixel_values=pixels, return_loss=True)
    scale = 1 / float(model.temperature.detach()) if make is align else float(model.logit_scale.detach().exp())
    offset = float(model.logit_bias.detach()) if make is siglip else 0.0
    u, v = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (out.text_embeds.numpy(), out.image_embeds.numpy()))
    text, image, _ = both_ways(np.float32(u @ v.T), scale, np.ones(B, np.float32), settings, None, offset)
    np.testing.assert_allclose((text.mean() + image.mean()) / 2, float(out.loss), rtol=1e-5)

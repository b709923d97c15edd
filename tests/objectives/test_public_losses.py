"""Losses against the public classes that print them, on random tiny models of PyTorch."""

import numpy as np
import pytest

from xmodal_jax.models.backbones.encoded import Encoded
from xmodal_jax.models.interactions.fused import Fused
from xmodal_jax.objectives import OBJECTIVES
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


class Original:
    """FLAVA's encoders and heads of PyTorch as verbs. Its fused tokens are a class token, those of the image, the words."""

    def __init__(self, model, images, tokens, pair):
        self.model, self.tokens, self.pair = model, tokens, pair
        self.image = Encoded(None, np.ones(images.shape[:2], bool), own=images, class_tokens=1)

    def once(self, function, *arrays):
        return function(*arrays)

    def encode_image(self, images):
        return self.image

    def encode_text(self, ids, length, seen=None):
        return Encoded(None, np.ones(self.tokens.shape[:2], bool), own=self.tokens)

    def fuse(self, text, image, mode):
        behind = 1 + self.image.own.shape[1]
        return Fused(self.pair[:, behind:], self.pair[:, 1:behind], text.mask, image.mask, self.pair[:, :1])

    def predict(self, head, x):
        heads = {"image_codes": "mim_head", "text_words": "mlm_head", "codes": "mmm_image_head", "words": "mmm_text_head"}
        with torch.no_grad():
            return np.float32(getattr(self.model, heads.get(head, "itm_head"))(torch.tensor(np.array(x, np.float64))).numpy())


def test_flavas_five_losses_and_their_sum(rng):
    """Of hidden patches and words of either alone and of the pair, right pairs alone counting there, and of the match; the
    sixth, which compares vectors, is CLIP's, over right pairs. Their sum, as one config weighs them."""
    from transformers import FlavaConfig, FlavaForPreTraining

    C, T = 13, 9
    codebook = {"hidden_size": 8, "num_blocks_per_group": 1, "vocab_size": C}
    image_config = IMAGE | {"vocab_size": C, "mask_token": True}
    config = FlavaConfig(
        text_config=TEXT, image_config=image_config, multimodal_config=SIZES, image_codebook_config=codebook, hidden_size=24,
        projection_dim=24,
    )  # fmt: skip
    torch.manual_seed(int(rng.integers(1 << 30)))
    model = FlavaForPreTraining(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    masked, hidden = rng.integers(3, V, (B, T)), rng.random((B, 2, 2)) < 0.5
    hidden[:, 0, 0] = True
    places = np.stack([rng.permutation(np.arange(1, T))[:3] for _ in range(B)])
    words, codes, match = rng.integers(3, V, (B, 3)), rng.integers(0, C, (B, 4)), np.array([1, 0, 1, 1])
    labels = np.full((B, T), -100)
    np.put_along_axis(labels, places, words, axis=1)
    pixels = {"pixel_values": torch.tensor(rng.normal(size=(B, 3, 16, 16))), "bool_masked_pos": torch.tensor(hidden)}
    pixels |= {"mim_labels": torch.tensor(codes.reshape(B, 2, 2))}
    texts = {"input_ids": torch.tensor(masked), "input_ids_masked": torch.tensor(masked), "mlm_labels": torch.tensor(labels)}
    with torch.no_grad():
        alone = [model(**given, skip_unmasked_multimodal_encoder=True, return_loss=True) for given in (pixels, texts)]
        pairs = model(**pixels, **texts, itm_labels=torch.tensor(match), return_loss=True)
    expected = {
        "image_codes": alone[0].loss_info.mim, "text_words": alone[1].loss_info.mlm, "codes": pairs.loss_info.mmm_image,
        "words": pairs.loss_info.mmm_text, "match": pairs.loss_info.itm,
    }  # fmt: skip
    tokens = alone[0].image_masked_output, alone[1].text_masked_output, pairs.multimodal_masked_output
    verbs = Original(model, *(output.last_hidden_state.numpy() for output in tokens))
    batch = {
        "image": np.zeros((B, 16, 16, 3), np.uint8), "codes": codes, "codes_hidden": hidden.reshape(B, 4), "match": match,
        "masked": masked, "masked_places": places, "masked_words": words, "caption_length": np.full(B, T - 1),
        "other": masked, "other_length": np.full(B, T - 1),
    }  # fmt: skip
    settings = {
        "codes": {"view": "joint", "pairs": True},
        "words": {"view": "joint", "pairs": True},
        "match": {"view": "joint"},
    }
    found = {name: float(OBJECTIVES[name](verbs, batch, None, settings.get(name, {}))[0].mean()) for name in expected}
    assert found == pytest.approx({name: float(loss) for name, loss in expected.items()}, rel=1e-5)
    rest = float(pairs.loss_info.global_contrastive)
    assert sum(found.values()) + rest == pytest.approx(float(pairs.loss + alone[0].loss + alone[1].loss), rel=1e-5)

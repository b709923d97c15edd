"""A module of ours -> the config of transformers that means the same -> the same module; what no config says is refused."""

import dataclasses

import pytest
import transformers

from xmodal_jax.errors import UserError
from xmodal_jax.interop.pretrained import FAMILIES, from_config, settings_of
from xmodal_jax.models.backbones.beit import BEiT
from xmodal_jax.models.backbones.bert import BERT
from xmodal_jax.models.backbones.clip import LAST, TextTower, VisionTower
from xmodal_jax.models.backbones.convit import ConvViT
from xmodal_jax.models.backbones.deberta import DeBERTa
from xmodal_jax.models.backbones.efficientnet import EfficientNet
from xmodal_jax.models.backbones.gpt2 import GPT2
from xmodal_jax.models.backbones.recurrent import Recurrent
from xmodal_jax.models.backbones.resnet import ResNet
from xmodal_jax.models.backbones.siglip import SiglipText, SiglipVision
from xmodal_jax.models.backbones.swin import Swin
from xmodal_jax.models.backbones.vgg import VGG
from xmodal_jax.models.backbones.vit import ViT
from xmodal_jax.models.transformer import Style

EXACT = Style(epsilon=1e-3, activation="gelu_quick")
AFTER = Style(post_norm=True, epsilon=1e-3, activation="relu")
BLOCKS = dict(width=24, heads=3, layers=2, mlp_ratio=1.5)
MODULES = [  # (model_type, module), no setting at its default in all of a family's
    ("vit", ViT(**BLOCKS, patch=4, grid=(3, 5), style=EXACT)),
    ("vit", ViT(**BLOCKS, patch=8, grid=(4, 4), pooler=True, labels=3)),
    ("beit", BEiT(**BLOCKS, patch=4, grid=(3, 5), absolute=True, relative=False, shared=True, mask_token=True)),
    ("beit", BEiT(**BLOCKS, grid=(3, 3), mean=False, pooler=False, labels=3, style=EXACT)),
    ("bert", BERT(**BLOCKS, vocabulary=99, positions=40, types=3, style=AFTER)),
    ("bert", BERT(**BLOCKS, pooler=True, masked_lm=True, next_sentence=True)),
    ("roberta", BERT(**BLOCKS, vocabulary=99, positions=40, types=1, pad_positions=1, labels=3, head_hidden=True)),
    ("roberta", BERT(**BLOCKS, pad_positions=0, masked_lm=True)),
    ("deberta-v2", DeBERTa(**BLOCKS, vocabulary=99, positions=40, types=2, inner=12, terms=("p2c",), shared=False, buckets=0)),
    ("deberta-v2", DeBERTa(**BLOCKS, longest=99, norm_distances=False, pooler="tanh", labels=3, style=AFTER)),
    ("deberta-v2", DeBERTa(**BLOCKS, distances=False, terms=(), masked_lm=True)),
    ("gpt2", GPT2(**BLOCKS, vocabulary=99, positions=40, cross=True, style=EXACT)),
    ("gpt2", GPT2(**BLOCKS)),
    ("clip_vision_model", VisionTower(**BLOCKS, patch=4, grid=(3, 5), style=dataclasses.replace(EXACT, closing_norm=False))),
    ("clip_text_model", TextTower(**BLOCKS, vocabulary=99, positions=40, end=7, style=EXACT)),
    ("clip_text_model", TextTower(**BLOCKS, end=None)),
    ("vgg", VGG(channels=(4, 0, 8), batch_norm=True, hidden=7, labels=3)),
    ("resnet", ResNet(8, (8, 16), (1, 2), False, first_stage_halves=True, labels=3)),
    ("resnet", ResNet(first_strides=True)),
    ("siglip_vision_model", SiglipVision(**BLOCKS, patch=4, grid=(3, 5), pool=False, style=EXACT)),
    ("siglip_text_model", SiglipText(**BLOCKS, vocabulary=99, positions=40, shared_width=7, style=EXACT)),
    ("swin", Swin(24, (1, 2), (2, 3), 5, 2, 1.5, 3, style=EXACT)),
    ("efficientnet", EfficientNet(64, (32, 48), (1, 2), (1, 2), (3, 5), (1, 6), (1,), 0.5, 2560, 3)),
    ("lstm", Recurrent("lstm", 99, 8, 3, True)),
    ("gru", Recurrent("gru", 99, 8, 1)),
]


@pytest.mark.parametrize(("kind", "module"), MODULES, ids=[kind for kind, _ in MODULES])
def test_there_and_back_is_the_same_module(kind, module):
    settings = settings_of(module)
    assert settings.config.model_type == kind
    assert FAMILIES[kind].module(settings.config, set(settings.groups)) == module


def test_every_family_with_a_way_back_is_tried():
    tried = {kind for kind, _ in MODULES}
    assert tried == {kind for kind, family in FAMILIES.items() if family.config}


def test_how_a_module_is_trained_and_computed_is_no_matter():
    module = BERT(
        **{**BLOCKS, "mlp_ratio": 1.7}, dropout=0.3, remat="full", dtype="bfloat16", style=Style(True, kernel="plain")
    )
    config = settings_of(module).config
    assert (config.intermediate_size, config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (41, 0.3, 0.0)


def test_settings_of_a_config_are_those_of_its_module():
    config = transformers.ViTConfig(hidden_size=24, num_attention_heads=3, num_hidden_layers=1, intermediate_size=36)
    one = from_config(config, ("classifier",)).settings
    two = settings_of(from_config(config, ("classifier",)).module)
    assert (one.groups, one.prefixed) == (two.groups, two.prefixed)


@pytest.mark.parametrize(
    ("module", "told"),
    [
        (GPT2(**BLOCKS, unimodal=1), "gpt2 has no counterpart to unimodal=1"),
        (DeBERTa(**BLOCKS, terms=("c2p", "p2p")), "deberta-v2 has no counterpart to terms="),
        (BERT(**BLOCKS, head_hidden=True), "bert has no counterpart to head_hidden=True"),
        (BEiT(**BLOCKS, mean=False), "beit has no counterpart to style.closing_norm=False"),
        (Recurrent("lstm", width=8), "lstm without a table of words"),
        (TextTower(**BLOCKS, end=LAST), "clip_text_model has no counterpart to end=-1"),
        (ConvViT(), "ConvViT has no counterpart in PyTorch. These have one: BERT, BEiT, DeBERTa, EfficientNet, GPT2, .*ViT"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_no_config_says_is_refused(module, told):
    with pytest.raises(UserError, match=told):
        settings_of(module)


@pytest.mark.parametrize(
    "change", [{"rms": True}, {"gated": True}, {"use_bias": False}, {"head_width": 4}, {"scale": 1.0}, {"post_norm": True}]
)
def test_blocks_of_another_style_are_refused(change):
    style = Style(**change, epsilon=1e-12, activation="gelu_exact")
    with pytest.raises(UserError, match=f"vit has no counterpart to style.{next(iter(change))}="):
        settings_of(ViT(**BLOCKS, style=style))

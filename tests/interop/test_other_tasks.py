"""Checkpoints of other tasks and of rare settings: the encoder's numbers are PyTorch's, or the checkpoint is refused."""

import numpy as np
import pytest

from tests.interop.oracle import close, randomise, torch, transformers
from xmodal_jax.errors import UserError
from xmodal_jax.interop.pretrained import load_pretrained

TEXT = dict(
    vocab_size=60, hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40, max_position_embeddings=20
)
PICTURE = dict(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=40, image_size=16, patch_size=8)
SWIN = dict(image_size=32, patch_size=2, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4)
IDS = np.array([[5, 9, 11, 3, 7]], np.int32)
MODELS = {  # head: (class, config)
    "qa_outputs": ("BertForQuestionAnswering", transformers.BertConfig(**TEXT)),
    "token classes": ("BertForTokenClassification", transformers.BertConfig(**TEXT)),
    "choices": ("BertForMultipleChoice", transformers.BertConfig(**TEXT)),
    "roberta answers": ("RobertaForQuestionAnswering", transformers.RobertaConfig(**TEXT)),
    "roberta tokens": ("RobertaForTokenClassification", transformers.RobertaConfig(**TEXT)),
    "deberta answers": ("DebertaV2ForQuestionAnswering", transformers.DebertaV2Config(**TEXT)),
    "gpt2 classes": ("GPT2ForSequenceClassification", transformers.GPT2Config(
        vocab_size=60, n_positions=20, n_embd=24, n_layer=2, n_head=2, pad_token_id=0)),
    "masked patches": ("ViTForMaskedImageModeling", transformers.ViTConfig(**PICTURE, encoder_stride=8)),
    "beit patches": ("BeitForMaskedImageModeling", transformers.BeitConfig(
        **PICTURE, use_mean_pooling=False, use_mask_token=True)),
    "swin patches": ("SwinForMaskedImageModeling", transformers.SwinConfig(**SWIN, encoder_stride=4)),
}  # fmt: skip


def base_of(model):
    """Its model without a head."""
    return getattr(model, model.base_model_prefix)


@pytest.mark.parametrize("kind", MODELS)
def test_the_encoder_of_another_task_is_read_and_its_head_named(kind, tmp_path, rng, call, caplog):
    name, config = MODELS[kind]
    model = randomise(getattr(transformers, name)(config), rng)
    model.save_pretrained(tmp_path)
    module, params, settings = load_pretrained(tmp_path)
    heads = {name for name in model.state_dict() if not name.startswith(model.base_model_prefix + ".")}
    assert set(settings.left_out) == heads and "left out" in caplog.text
    if "patches" in kind:
        size = 32 if kind == "swin patches" else 16
        x = rng.normal(size=(1, size, size, 3)).astype(np.float32)
        expected = base_of(model)(torch.tensor(x.transpose(0, 3, 1, 2).copy())).last_hidden_state
    else:
        x, expected = IDS, base_of(model)(input_ids=torch.tensor(IDS).long()).last_hidden_state
    close(call(module, "__call__", params, x).x, expected.detach().numpy(), 1e-4, kind)


@pytest.mark.parametrize("name", ["ViltForQuestionAnswering", "ViltForMaskedLM", "ViltForImagesAndTextClassification",
                                  "ViltForTokenClassification"])  # fmt: skip
def test_vilt_is_read_with_each_of_its_heads(name, tmp_path, rng):
    more = {"num_images": 2, "modality_type_vocab_size": 3} if "Images" in name else {}
    config = transformers.ViltConfig(**PICTURE, vocab_size=60, max_position_embeddings=16, num_labels=7, **more)
    model = randomise(getattr(transformers, name)(config), rng)
    model.save_pretrained(tmp_path)
    pretrained = load_pretrained(tmp_path)
    assert type(pretrained.module).__name__ == "ViLT" and pretrained.settings.left_out
    table = model.vilt.embeddings.text_embeddings.word_embeddings.weight.detach().numpy()
    np.testing.assert_array_equal(pretrained.params["text_embed"]["words"]["embedding"], table)


def test_a_blip_that_writes_with_words_of_its_own_is_refused(tmp_path, rng):
    config = transformers.BlipConfig(
        text_config={**TEXT, "encoder_hidden_size": 24, "tie_word_embeddings": False}, vision_config=PICTURE, projection_dim=8
    )
    config.tie_word_embeddings = False
    randomise(transformers.BlipForConditionalGeneration(config), rng).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="tie_word_embeddings"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("BertForMaskedLM", {"tie_word_embeddings": False}, "tie_word_embeddings"),
        ("BertForPreTraining", {"tie_word_embeddings": False}, "tie_word_embeddings"),
        ("RobertaForMaskedLM", {"tie_word_embeddings": False}, "tie_word_embeddings"),
        ("DebertaV2ForMaskedLM", {"tie_word_embeddings": False}, "tie_word_embeddings"),
        ("BertModel", {"is_decoder": True}, "is_decoder"),
        ("RobertaModel", {"is_decoder": True}, "is_decoder"),
        ("RobertaForMaskedLM", {"hidden_act": "relu"}, "hidden_act"),
        ("ViTModel", {"pooler_act": "relu"}, "pooler_act"),
    ],
)
def test_what_would_give_other_numbers_is_refused(name, settings, reason, tmp_path, rng, call):
    kind = getattr(transformers, name)
    sizes = PICTURE if name.startswith("ViT") else TEXT
    model = randomise(kind(kind.config_class(**sizes, **settings)), rng)
    model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=reason):
        load_pretrained(tmp_path)
    if reason in ("tie_word_embeddings", "hidden_act"):  # the encoder has nothing to do with it
        module, params, _ = load_pretrained(tmp_path, heads=())
        expected = base_of(model)(input_ids=torch.tensor(IDS).long()).last_hidden_state
        close(call(module, "__call__", params, IDS).x, expected.detach().numpy(), 1e-4, name)

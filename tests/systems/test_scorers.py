"""What stands behind config.scorer, and second modalities that the data does not have."""

import numpy as np
import pytest
import transformers

from configs.pretrain import get_config
from tests.interop.oracle import randomise, torch
from xmodal_jax.errors import UserError
from xmodal_jax.systems import recipe
from xmodal_jax.systems.restore import frozen_scorer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "bat", "flies", "wood", "at", "night"]


def test_claim_6_a_bert_is_the_frozen_language_model(tmp_path, rng):
    """Its mean-pooled hidden states, PyTorch's, without padding; what is no text encoder is refused."""
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=12,
    )  # fmt: skip
    model = randomise(transformers.BertModel(config, add_pooling_layer=False), rng)
    model.save_pretrained(tmp_path)
    texts = ["a bat flies", "wood", *["a bat at night"] * 40]
    found = frozen_scorer(str(tmp_path)).encode(texts)
    assert found.shape == (42, 16)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text, vector in zip(texts[:3], found[:3], strict=True):
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        np.testing.assert_allclose(vector, states.mean(0).numpy(), rtol=1e-4, atol=1e-4)
    vit = transformers.ViTModel(transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, image_size=16, patch_size=8
    ))  # fmt: skip
    vit.save_pretrained(tmp_path / "vit")
    with pytest.raises(UserError, match="holds a ViT: a BERT, RoBERTa or DeBERTa"):
        frozen_scorer(str(tmp_path / "vit"))


def test_a_second_modality_that_the_data_does_not_have_is_refused():
    config = get_config("debug")
    config.data.count, config.examples.second = 8, "series"
    config.model.update({"second": "series", "group": 32, "grid": 0, "stem": "patch"})
    with pytest.raises(UserError, match="this data has no series. .* may name a .csv or .npy"):
        recipe.make(config)

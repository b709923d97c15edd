"""LXMERT and VisualBERT against the originals in PyTorch."""

import numpy as np
import pytest

from tests.interop.oracle import check_family, close, randomise, torch, transformers
from xmodal_jax.interop.pretrained import load_pretrained

B, T, R, F = 2, 6, 4, 11
TEXT = {"vocab_size": 30, "max_position_embeddings": 9, "hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 40}


@pytest.fixture
def given(rng):
    """ids, types, features, boxes, and which of words and regions are no padding."""
    mask = np.arange(T) < np.array([[T], [3]])
    there = np.arange(R) < np.array([[2], [R]])
    features, boxes = rng.normal(size=(B, R, F)).astype(np.float32), rng.random((B, R, 4)).astype(np.float32)
    return rng.integers(0, 30, (B, T)), rng.integers(0, 2, (B, T)), features, boxes, mask, there


def tensors(*arrays):
    return [torch.tensor(array.astype(np.int64) if array.dtype == bool else array) for array in arrays]


def shown(text, image, pooled, mask, there):
    """Of what is no padding."""
    return {"text": text[mask], "image": image[there], "pooled": pooled}


def lxmert(given):
    ids, types, features, boxes, mask, there = given
    config = transformers.LxmertConfig(**TEXT, l_layers=2, x_layers=2, r_layers=1, visual_feat_dim=F, num_qa_labels=6)

    def theirs(model):
        ids_, types_, features_, boxes_, mask_, there_ = tensors(*given)
        out = model(ids_, features_, boxes_, attention_mask=mask_, visual_attention_mask=there_, token_type_ids=types_)
        return shown(out.language_output, out.vision_output, out.pooled_output, torch.tensor(mask), torch.tensor(there))

    def ours(module, variables):
        out = module.apply(variables, ids, features, boxes, mask, there, types)
        return shown(out.text, out.image, out.pooled, mask, there)

    return transformers.LxmertModel(config), theirs, ours


def visualbert(given):
    ids, types, features, _, mask, there = given
    config = transformers.VisualBertConfig(**TEXT, num_hidden_layers=2, visual_embedding_dim=F)

    def theirs(model):
        ids_, types_, features_, _, mask_, there_ = tensors(*given)
        out = model(
            ids_, mask_, types_, visual_embeds=features_, visual_attention_mask=there_,
            visual_token_type_ids=torch.ones(B, R, dtype=torch.long),
        )  # fmt: skip
        text, image = out.last_hidden_state[:, :T], out.last_hidden_state[:, T:]
        return shown(text, image, out.pooler_output, torch.tensor(mask), torch.tensor(there))

    def ours(module, variables):
        out = module.apply(variables, ids, features, mask, there, types)
        return shown(out.text, out.image, out.pooled, mask, there)

    return transformers.VisualBertModel(config), theirs, ours


@pytest.mark.parametrize("make", [pytest.param(lxmert, marks=pytest.mark.slow), visualbert])
def test_the_model_equals_the_original(tmp_path, rng, given, make):
    model, theirs, ours = make(given)
    check_family(tmp_path, randomise(model, rng), theirs, ours, rng)


def test_a_model_for_pre_training_loads_without_its_heads(tmp_path, rng, given):
    ids, types, features, boxes, mask, there = given
    config = transformers.LxmertConfig(
        **TEXT, l_layers=1, x_layers=1, r_layers=1, visual_feat_dim=F, num_qa_labels=6, num_object_labels=5, num_attr_labels=4
    )
    model = randomise(transformers.LxmertForPreTraining(config), rng)
    model.save_pretrained(tmp_path)
    module, params, _ = load_pretrained(str(tmp_path))
    found = module.apply({"params": params}, ids, features, boxes, mask, there, types)
    ids_, types_, features_, boxes_, mask_, there_ = tensors(*given)
    with torch.no_grad():
        expected = model.lxmert(
            ids_, features_, boxes_, attention_mask=mask_, visual_attention_mask=there_, token_type_ids=types_
        )
    close(found.pooled, expected.pooled_output.numpy(), 1e-4, "pooled")

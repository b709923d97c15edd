"""BERT and RoBERTa against the originals in PyTorch."""

import numpy as np
import pytest

from tests.interop.oracle import check_family, hidden_states, numbered, randomise, torch, transformers

SIZES = dict(hidden_size=24, num_hidden_layers=3, num_attention_heads=3, intermediate_size=40, vocab_size=50)
KINDS = {
    "bert": (transformers.BertConfig, dict(max_position_embeddings=16)),
    "roberta": (transformers.RobertaConfig, dict(max_position_embeddings=18, pad_token_id=1, type_vocab_size=1)),
}


def text(config, rng, rows=3, length=11):
    """ids with padding at the end, mask, types."""
    ids = rng.integers(3, config.vocab_size, (rows, length)).astype(np.int32)
    mask = np.arange(length) < rng.integers(4, length + 1, (rows, 1))
    mask[0] = True
    types = rng.integers(0, config.type_vocab_size, ids.shape).astype(np.int32)
    return np.where(mask, ids, config.pad_token_id), mask, types


def arguments(ids, mask, types):
    return dict(
        input_ids=torch.tensor(ids).long(), attention_mask=torch.tensor(mask).long(), token_type_ids=torch.tensor(types).long()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_base_model(tmp_path, rng, kind):
    make, more = KINDS[kind]
    config = make(**SIZES, **more)
    model = randomise(getattr(transformers, {"bert": "BertModel", "roberta": "RobertaModel"}[kind])(config), rng)
    ids, mask, types = text(config, rng)

    def theirs(model):
        out = model(**arguments(ids, mask, types), output_hidden_states=True)
        return {"last": out.last_hidden_state, "pooled": out.pooler_output} | numbered(out.hidden_states[1:])

    def ours(module, variables):
        out, kept = module.apply(variables, ids, mask, types, mutable="intermediates")
        return {"last": out.x, "pooled": out.pooled} | hidden_states(kept)

    check_family(tmp_path, model, theirs, ours, rng)


def logits_of(model, ids, mask, types):
    return {"logits": model(**arguments(ids, mask, types)).logits}


@pytest.mark.parametrize("name", ["BertForMaskedLM", "RobertaForMaskedLM", "BertForSequenceClassification",
                                  "RobertaForSequenceClassification"])  # fmt: skip
def test_heads(tmp_path, rng, name):
    make, more = KINDS["roberta" if name.startswith("Roberta") else "bert"]
    config = make(**SIZES, **more, num_labels=4)
    model, given = randomise(getattr(transformers, name)(config), rng), text(config, rng)
    check_family(tmp_path, model, lambda m: logits_of(m, *given), lambda m, v: {"logits": m.apply(v, *given).logits}, rng)


def test_pre_training_heads(tmp_path, rng):
    config = transformers.BertConfig(**SIZES, max_position_embeddings=16)
    model, given = randomise(transformers.BertForPreTraining(config), rng), text(config, rng)

    def theirs(model):
        out = model(**arguments(*given))
        return {"words": out.prediction_logits, "pair": out.seq_relationship_logits}

    def ours(module, variables):
        out = module.apply(variables, *given)
        return {"words": out.logits, "pair": out.pair_logits}

    check_family(tmp_path, model, theirs, ours, rng)

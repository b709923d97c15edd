"""DeBERTa against the original in PyTorch."""

import numpy as np
import pytest

from tests.interop.oracle import check_family, hidden_states, numbered, randomise, torch, transformers
from xmodal_jax.errors import UserError
from xmodal_jax.interop import deberta, pretrained
from xmodal_jax.interop.pretrained import load_pretrained
from xmodal_jax.models.backbones.deberta import log_buckets

SIZES = dict(hidden_size=24, num_hidden_layers=3, num_attention_heads=3, intermediate_size=40, vocab_size=50)
KINDS = {
    "v3": dict(
        relative_attention=True, position_buckets=8, max_position_embeddings=32, share_att_key=True, pos_att_type="p2c|c2p",
        norm_rel_ebd="layer_norm", position_biased_input=False,
    ),
    "own projections": dict(
        relative_attention=True, max_relative_positions=5, max_position_embeddings=40, pos_att_type=["c2p", "p2c"],
        type_vocab_size=2, embedding_size=16,
    ),
    "c2p": dict(relative_attention=True, position_buckets=6, max_position_embeddings=30, pos_att_type=["c2p"]),
    "p2c": dict(
        relative_attention=True, position_buckets=6, max_position_embeddings=30, pos_att_type=["p2c"], share_att_key=True,
    ),
    "no terms": dict(relative_attention=True, max_position_embeddings=30, norm_rel_ebd="layer_norm"),
    "no distances": dict(pos_att_type=["c2p", "p2c"], max_position_embeddings=30, type_vocab_size=3),
}  # fmt: skip


@pytest.fixture(autouse=True)
def family(monkeypatch):
    monkeypatch.setitem(pretrained.FAMILIES, "deberta-v2", deberta.FAMILY)


def make(name, rng, kind, **more):
    config = transformers.DebertaV2Config(**SIZES, **KINDS[kind], **more)
    return config, randomise(getattr(transformers, name)(config), rng)


def text(config, rng, rows=3, length=23):
    """ids with padding at the end, mask, types."""
    ids = rng.integers(1, config.vocab_size, (rows, length)).astype(np.int32)
    mask = np.arange(length) < rng.integers(4, length + 1, (rows, 1))
    mask[0] = True
    types = rng.integers(0, max(config.type_vocab_size, 1), ids.shape).astype(np.int32)
    return np.where(mask, ids, config.pad_token_id), mask, types


def arguments(ids, mask, types):
    return dict(
        input_ids=torch.tensor(ids).long(), attention_mask=torch.tensor(mask).long(), token_type_ids=torch.tensor(types).long()
    )


def zero_where_masked(values, mask):
    """There the original attends to all tokens alike, ours only to those that are there; neither reaches another token."""
    return {name: value * np.asarray(mask, np.float32)[..., None] for name, value in values.items()}


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=() if kind == "v3" else pytest.mark.slow) for kind in KINDS])
def test_base_model(tmp_path, rng, kind):
    config, model = make("DebertaV2Model", rng, kind)
    given = text(config, rng)
    mask = torch.tensor(given[1])[..., None]

    def theirs(model):
        out = model(**arguments(*given), output_hidden_states=True)
        states = {"last": out.last_hidden_state} | numbered(out.hidden_states[1:])
        return {"pooled": out.last_hidden_state[:, 0]} | {name: state * mask for name, state in states.items()}

    def ours(module, variables):
        out, kept = module.apply(variables, *given, mutable="intermediates")
        return {"pooled": out.pooled} | zero_where_masked({"last": out.x} | hidden_states(kept), given[1])

    check_family(tmp_path, model, theirs, ours, rng)


@pytest.mark.parametrize("name, kind, more", [
    pytest.param("DebertaV2ForMaskedLM", "own projections", {}, marks=pytest.mark.slow),
    ("DebertaV2ForMaskedLM", "v3", dict(legacy=False)),
    pytest.param("DebertaV2ForSequenceClassification", "v3", dict(num_labels=4), marks=pytest.mark.slow),
])  # fmt: skip
def test_heads(tmp_path, rng, name, kind, more):
    config, model = make(name, rng, kind, **more)
    given = text(config, rng)
    seen = given[1][..., None] if name == "DebertaV2ForMaskedLM" else np.ones((1, 1), bool)

    def theirs(model):
        return {"logits": model(**arguments(*given)).logits * torch.tensor(seen)}

    def ours(module, variables):
        return {"logits": module.apply(variables, *given).logits * seen}

    check_family(tmp_path, model, theirs, ours, rng, remat="full")


@pytest.mark.parametrize("buckets, longest", [(256, 512), (8, 33), (6, 30)])
def test_buckets(buckets, longest):
    from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

    distances = np.arange(-2 * longest, 2 * longest + 1)
    theirs = make_log_bucket_position(torch.tensor(distances), buckets, longest).long()
    assert (log_buckets(distances, buckets, longest) == theirs.numpy()).all()


def test_padding_reaches_no_word(call, tmp_path, rng):
    config, model = make("DebertaV2Model", rng, "v3")
    model.save_pretrained(tmp_path)
    module, params, _ = load_pretrained(tmp_path)
    ids, mask, types = text(config, rng)
    other = np.where(mask, ids, rng.integers(1, config.vocab_size, ids.shape))
    first, second = (np.asarray(call(module, "__call__", params, x, mask, types).x) for x in (ids, other))
    assert (first[mask] == second[mask]).all()


def test_what_is_not_supported_is_refused(tmp_path, rng):
    _, model = make("DebertaV2Model", rng, "v3", conv_kernel_size=3)
    model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="conv_kernel_size=3"):
        load_pretrained(tmp_path)


def test_a_text_longer_than_the_positions_is_refused(tmp_path, rng):
    _, model = make("DebertaV2Model", rng, "no distances")
    model.save_pretrained(tmp_path)
    module, params, _ = load_pretrained(tmp_path)
    with pytest.raises(UserError, match="31 tokens.*30 positions"):
        module.apply({"params": params}, np.ones((1, 31), np.int32))

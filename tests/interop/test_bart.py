"""BART against the original in PyTorch, its cached decoding against the uncached, and its decoder as a part."""

import pytest

from tests.interop.oracle import check_family, close, hidden_states, randomise, torch, transformers
from tests.interop.test_t5 import given, in_steps, named, told
from xmodal_jax.errors import UserError
from xmodal_jax.interop import bart, pretrained
from xmodal_jax.interop.pretrained import load_pretrained
from xmodal_jax.models.backbones.bart import BARTDecoder

SIZES = dict(
    d_model=24, encoder_attention_heads=3, decoder_attention_heads=3, vocab_size=50, encoder_ffn_dim=40, decoder_ffn_dim=40,
    encoder_layers=2, decoder_layers=3, max_position_embeddings=21, dropout=0.0, attention_dropout=0.0,
    activation_dropout=0.0, forced_eos_token_id=None,
)  # fmt: skip


def make(name, rng, **settings):
    model = getattr(transformers, name)(transformers.BartConfig(**SIZES | settings))
    if hasattr(model, "final_logits_bias"):
        del model.final_logits_bias  # a buffer, which here has a gradient as the parameters have
        model.final_logits_bias = torch.nn.Parameter(torch.zeros(1, 50))
    return randomise(model, rng)


@pytest.mark.parametrize(
    ("name", "scaled"), [("BartModel", True), pytest.param("BartForConditionalGeneration", False, marks=pytest.mark.slow)]
)
def test_bart_equals_the_original(tmp_path, rng, name, scaled):
    model, texts = make(name, rng, scale_embedding=scaled), given(rng)

    def theirs(model):
        out, states = told(model, texts)
        last = {"last": out.last_hidden_state} if name == "BartModel" else {"logits": out.logits}
        return {"encoded": out.encoder_last_hidden_state} | states | last

    def ours(module, variables):
        out, kept = module.apply(variables, *texts, mutable="intermediates")
        states = named("encoder", hidden_states(kept, "encoder"))
        states |= named("decoder", hidden_states({"intermediates": kept["intermediates"]["decoder"]}, "decoder"))
        last = {"last": out.x} if name == "BartModel" else {"logits": out.logits}
        return {"encoded": module.apply(variables, texts[0], texts[2], method="encode").x} | states | last

    found = check_family(tmp_path, model, theirs, ours, rng)
    assert found.module.biased == (name != "BartModel") and found.module.scaled == scaled


def test_cached_decoding_equals_uncached(call, tmp_path, rng):
    make("BartForConditionalGeneration", rng).save_pretrained(tmp_path)
    module, params, _ = load_pretrained(tmp_path)
    ids, inputs, mask, _ = given(rng)
    encoded, whole = call(module, "encode", params, ids, mask), call(module, "__call__", params, ids, inputs, mask).logits
    close(in_steps(module, params, encoded, inputs), whole, 1e-5, "logits")
    part = BARTDecoder(50, 23, 24, 3, 3, 40 / 24, offset=2)  # as larger models have it, its context projected once
    context = call(part, "project_context", params["decoder"], encoded.x)
    logits, _ = call(part, "decode", params["decoder"], inputs, part.cache(3, 18), 0, context, mask)
    close(logits + params["logits_bias"], whole, 1e-5, "logits of the part")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"decoder_ffn_dim": 48}, "differ in ffn_dim, 40 and 48"), ({"tie_word_embeddings": False}, "vectors of their own")],
)
def test_what_it_cannot_be(settings, reason):
    with pytest.raises(UserError, match=reason):
        bart.module(transformers.BartConfig(**SIZES | settings), ())


@pytest.fixture(autouse=True)
def family(monkeypatch):
    monkeypatch.setitem(pretrained.FAMILIES, "bart", bart.FAMILY)

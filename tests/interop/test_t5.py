"""T5 against the original in PyTorch, and its cached decoding against the uncached."""

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.interop.oracle import check_family, close, hidden_states, numbered, randomise, torch, transformers
from xmodal_jax.interop import pretrained, t5
from xmodal_jax.interop.pretrained import load_pretrained
from xmodal_jax.models.backbones.t5 import log_buckets

SIZES = dict(
    d_model=24, num_heads=3, vocab_size=50, d_ff=40, num_layers=2, num_decoder_layers=3, relative_attention_num_buckets=8,
    relative_attention_max_distance=11, decoder_start_token_id=0,
)  # fmt: skip
KINDS = {
    "1.0": dict(d_kv=8, feed_forward_proj="relu"),
    "1.1": dict(d_kv=10, feed_forward_proj="gated-gelu", tie_word_embeddings=False),  # heads wider than D / H
    "m": dict(d_kv=6, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
}
QUICK = [pytest.param(kind, marks=() if kind == "1.1" else pytest.mark.slow) for kind in KINDS]


@pytest.fixture(autouse=True)
def family(monkeypatch):
    for name in ("t5", "mt5"):
        monkeypatch.setitem(pretrained.FAMILIES, name, t5.FAMILY)


def make(name, rng, kind):
    letter = "M" if kind == "m" else ""
    config = getattr(transformers, f"{letter}T5Config")(**SIZES, **KINDS[kind])
    model = getattr(transformers, f"{letter}{name}")(config)
    if kind != "1.0" and hasattr(model, "lm_head"):  # transformers ties them at first, and not where a checkpoint has both
        model.lm_head.weight = torch.nn.Parameter(torch.zeros(50, 24))
    return randomise(model, rng)


def text(rng, rows, length):
    """ids, mask with padding at the end."""
    mask = np.arange(length) < rng.integers(4, length + 1, (rows, 1))
    mask[0] = True
    return rng.integers(0, 50, (rows, length)).astype(np.int32), mask


def given(rng, rows=3):
    (ids, mask), (inputs, inputs_mask) = text(rng, rows, 19), text(rng, rows, 15)
    return ids, inputs, mask, inputs_mask


def arguments(*texts):
    names = "input_ids decoder_input_ids attention_mask decoder_attention_mask".split()
    return {name: torch.tensor(value).long() for name, value in zip(names, texts, strict=True)}


def named(prefix, states):
    """All but the last, which theirs gives after the closing norm."""
    return {f"{prefix} {name}": state for name, state in list(states.items())[:-1]}


def told(model, texts):
    """(output of the original, states of both its stacks)."""
    out = model(**arguments(*texts), output_hidden_states=True)
    states = named("encoder", numbered(out.encoder_hidden_states[1:]))
    return out, states | named("decoder", numbered(out.decoder_hidden_states[1:]))


def in_steps(module, params, encoded, inputs):
    """Logits of inputs [3, T] that are decoded with a cache: the first four at once, the others one by one."""
    cache, got = module.cache(3, 18), []
    decode = jax.jit(lambda ids, cache, index: module.apply({"params": params}, ids, encoded, cache, index, method="decode"))
    for start, end in [(0, 4), *((index, index + 1) for index in range(4, inputs.shape[1]))]:
        logits, cache = decode(inputs[:, start:end], cache, start)
        got.append(logits)
    return np.concatenate(got, axis=1)


@pytest.mark.parametrize("name", ["T5Model", "T5ForConditionalGeneration"])
@pytest.mark.parametrize("kind", QUICK)
def test_t5_equals_the_original(tmp_path, rng, name, kind):
    model, texts = make(name, rng, kind), given(rng)

    def theirs(model):
        out, states = told(model, texts)
        last = {"logits": out.logits} if name == "T5ForConditionalGeneration" else {"last": out.last_hidden_state}
        return {"encoded": out.encoder_last_hidden_state} | states | last

    def ours(module, variables):
        out, kept = module.apply(variables, *texts, mutable="intermediates")
        states = named("encoder", hidden_states(kept, "encoder")) | named("decoder", hidden_states(kept, "decoder"))
        last = {"logits": out.logits} if name == "T5ForConditionalGeneration" else {"last": out.x}
        return {"encoded": module.apply(variables, texts[0], texts[2], method="encode").x} | states | last

    found = check_family(tmp_path, model, theirs, ours, rng)
    assert found.module.tied == (kind == "1.0" or name == "T5Model")
    assert found.module.scale_outputs == (kind == "1.0")


@pytest.mark.parametrize("kind", QUICK)
def test_cached_decoding_equals_uncached(call, tmp_path, rng, kind):
    make("T5ForConditionalGeneration", rng, kind).save_pretrained(tmp_path)
    module, params, _ = load_pretrained(tmp_path)
    ids, inputs, mask, _ = given(rng)
    encoded = call(module, "encode", params, ids, mask)
    whole, none = call(module, "decode", params, inputs, encoded)
    assert none is None
    close(call(module, "__call__", params, ids, inputs, mask).logits, whole, 1e-6, "logits")
    close(in_steps(module, params, encoded, inputs), whole, 1e-5, "logits")


def test_copies_in_old_checkpoints(call, tmp_path, rng):
    model = make("T5ForConditionalGeneration", rng, "1.0")
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    copies = {
        f"{name}.weight": tensors["shared.weight"] for name in ("encoder.embed_tokens", "decoder.embed_tokens", "lm_head")
    }
    unused = {"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": np.zeros((8, 3), np.float32)}
    save_file(tensors | copies | unused, path)
    module, params, _ = load_pretrained(tmp_path)
    texts = given(rng)
    logits = call(module, "__call__", params, *texts).logits
    close(logits, model(**arguments(*texts)).logits.detach(), 1e-4, "logits")


@pytest.mark.parametrize("both_ways", [False, True])
@pytest.mark.parametrize("buckets, longest", [(32, 128), (8, 11), (16, 64)])
def test_buckets(buckets, longest, both_ways):
    from transformers.models.t5.modeling_t5 import T5Attention

    distances = np.arange(-5 * longest, 5 * longest + 1)
    theirs = T5Attention._relative_position_bucket(torch.tensor(distances), both_ways, buckets, longest)
    assert (log_buckets(distances, buckets, longest, both_ways) == theirs.numpy()).all()

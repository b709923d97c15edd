"""GPT-2 against the original in PyTorch, and its cached decoding against the uncached."""

import jax
import numpy as np
import pytest

from tests.interop.oracle import check_family, close, hidden_states, numbered, randomise, torch, transformers
from xmodal_jax.errors import UserError
from xmodal_jax.interop.pretrained import load_pretrained

SIZES = dict(n_embd=24, n_layer=3, n_head=3, vocab_size=50, n_positions=16, bos_token_id=1, eos_token_id=2)


def given(rng, cross, rows=3, length=9):
    """ids, mask with padding at the end; a context with a mask."""
    ids = rng.integers(0, 50, (rows, length)).astype(np.int32)
    mask = np.arange(length) < np.array([[length], [5], [7]])
    context = rng.normal(size=(rows, 5, 24)).astype(np.float32) if cross else None
    return ids, mask, context, (np.arange(5) < np.array([[5], [2], [4]])) if cross else None


@pytest.mark.parametrize("kind", ["GPT2Model", "GPT2LMHeadModel"])
@pytest.mark.parametrize("cross", [False, True])
def test_gpt2_equals_the_original(tmp_path, rng, kind, cross):
    config = transformers.GPT2Config(**SIZES, add_cross_attention=cross)
    model, (ids, mask, context, seen) = randomise(getattr(transformers, kind)(config), rng), given(rng, cross)

    def theirs(model):
        more = (
            dict(encoder_hidden_states=torch.tensor(context), encoder_attention_mask=torch.tensor(seen).long()) if cross else {}
        )
        out = model(
            input_ids=torch.tensor(ids).long(), attention_mask=torch.tensor(mask).long(), output_hidden_states=True, **more
        )
        states = numbered(out.hidden_states[1:-1])  # the last one is normed
        return states | ({"logits": out.logits} if kind == "GPT2LMHeadModel" else {"last": out.last_hidden_state})

    def ours(module, variables):
        out, kept = module.apply(variables, ids, mask, context, seen, mutable="intermediates")
        states = hidden_states(kept, "decoder")
        states.popitem()
        return states | ({"logits": out.logits} if kind == "GPT2LMHeadModel" else {"last": out.x})

    check_family(tmp_path, model, theirs, ours, rng)


def test_cached_decoding_equals_uncached(call, tmp_path, rng):
    config = transformers.GPT2Config(**SIZES, add_cross_attention=True)
    randomise(transformers.GPT2LMHeadModel(config), rng).save_pretrained(tmp_path)
    module, params, _ = load_pretrained(tmp_path)
    ids, _, context, seen = given(rng, True)
    whole = call(module, "__call__", params, ids, None, context, seen).logits
    cache, got = module.cache(3, 12), []
    decode = jax.jit(
        lambda ids, cache, index: module.apply({"params": params}, ids, cache, index, context, seen, method="decode")
    )
    first, cache = decode(ids[:, :4], cache, 0)
    got.append(first)
    for index in range(4, ids.shape[1]):
        logits, cache = decode(ids[:, index : index + 1], cache, index)
        got.append(logits)
    close(np.concatenate(got, axis=1), whole, 1e-5, "logits")


def test_variants_that_would_be_wrong_are_refused(tmp_path, rng):
    config = transformers.GPT2Config(**SIZES, scale_attn_by_inverse_layer_idx=True)
    transformers.GPT2Model(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="scale_attn_by_inverse_layer_idx"):
        load_pretrained(tmp_path)

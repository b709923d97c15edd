"""Greedy and beam search with imported models against transformers' `generate` in PyTorch, and against a pass without cache."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.interop.oracle import randomise, torch, transformers
from xmodal_jax.decoding.generation import Generation, generate
from xmodal_jax.interop.pretrained import load_pretrained

END, PAD, ROWS, PROMPT, LENGTH, WORDS = 2, 3, 6, 2, 10, 50
SIZES = dict(n_embd=24, n_layer=2, n_head=3, vocab_size=WORDS, n_positions=PROMPT + LENGTH, bos_token_id=1, eos_token_id=END)


@pytest.fixture(autouse=True, scope="module")
def one_thread():  # more are slower for arrays as small as these
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@functools.partial(jax.jit, static_argnums=(0, 1))
def ours(module, settings, params, context, prompt, key=None):
    """`generate` of a GPT-2 with cross-attention."""
    seen = module.apply({"params": params}, context, method="project_context")

    def step(ids, cache, index):
        return module.apply({"params": params}, ids, cache, index, seen, method="decode")

    cache = module.cache(len(prompt), prompt.shape[1] + settings.length)
    return generate(step, cache, prompt, settings, key)


@functools.partial(jax.jit, static_argnums=0)
def log_probabilities(module, params, context, ids):
    """Of each id after the prompt, all of the text at once: float32 [B, T]."""
    logits = module.apply({"params": params}, ids[:, :-1], None, context).logits[:, PROMPT - 1 :]  # [B, T, V]
    return jnp.take_along_axis(jax.nn.log_softmax(logits), ids[:, PROMPT:, None], axis=2)[..., 0]


def theirs(model, prompt, settings, **context):
    """(ids [B, returned, T], scores [B, returned] or None) by transformers."""
    ids = torch.tensor(prompt).long()
    with torch.no_grad():
        out = model.generate(
            **context, max_new_tokens=settings.length, min_new_tokens=settings.minimum or None, num_beams=settings.beams,
            num_return_sequences=settings.returned, length_penalty=settings.length_penalty, do_sample=False,
            early_stopping=settings.early_stopping, repetition_penalty=settings.repetition_penalty,
            no_repeat_ngram_size=settings.no_repeat_ngram, suppress_tokens=list(settings.suppress) or None,
            eos_token_id=settings.end, pad_token_id=settings.pad,
            return_dict_in_generate=True, output_scores=True, **({"decoder_input_ids": ids} if "encoder_outputs" in context else
            {"input_ids": ids, "attention_mask": torch.ones_like(ids)}),
        )  # fmt: skip
    written = out.sequences[:, prompt.shape[1] :].numpy()
    written = np.pad(written, ((0, 0), (0, settings.length - written.shape[1])), constant_values=settings.pad)
    scores = out.sequences_scores.numpy().reshape(len(prompt), -1) if settings.beams > 1 else None
    return written.reshape(len(prompt), settings.returned, -1), scores


def captioner(folder, rng, end):
    """A random GPT-2 that ends the sooner the larger `end` is: (its original, module, params, context, prompt)."""
    config = transformers.GPT2Config(**SIZES, add_cross_attention=True)
    model = randomise(transformers.GPT2LMHeadModel(config), rng)
    with torch.no_grad():
        words, bias = model.transformer.wte.weight, model.transformer.ln_f.bias
        words *= 4  # a flat distribution would be one of near ties
        words[END] = end * (words[END] / words[END].norm() + bias / bias.norm())
    model.save_pretrained(folder)
    module, params, _ = load_pretrained(folder)
    context = rng.normal(size=(ROWS, 5, SIZES["n_embd"])).astype(np.float32)
    return model, module, params, context, rng.integers(4, WORDS, (ROWS, PROMPT)).astype(np.int32)


CASES = {  # name: (seed, how strong the end mark is so that some texts end, settings)
    "greedy": (2, 1.8, {}),
    "greedy, penalised": (3, 1.4, {"repetition_penalty": 1.3, "no_repeat_ngram": 2, "minimum": 3}),
    "3 beams": (0, 4, {"beams": 3, "returned": 3}),
    "4 beams": (1, 3, {"beams": 4, "returned": 4}),
    "the sum": (11, 1.8, {"beams": 4, "returned": 4, "length_penalty": 0.0}),
    "long, early": (5, 1.3, {"beams": 4, "returned": 4, "length_penalty": 2.0, "early_stopping": True}),
    "short": (9, 2.5, {"beams": 3, "returned": 3, "length_penalty": -0.5}),
    "short, early": (10, 4, {"beams": 4, "returned": 4, "length_penalty": -0.5, "early_stopping": True}),
    "repetition": (8, 1.7, {"beams": 3, "returned": 3, "repetition_penalty": 1.3, "early_stopping": True}),
    "greedy, suppressed": (2, 1.8, {"suppress": (23, 34)}),
    "3 beams, suppressed": (0, 4, {"beams": 3, "returned": 3, "suppress": (17, 20)}),
    "ngrams, minimum": (7, 1.8, {"beams": 4, "returned": 3, "no_repeat_ngram": 2, "minimum": 5}),
}


SLOW = ("3 beams", "4 beams", "greedy, suppressed")  # each of their settings stands in another case too


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in CASES])
def test_search_equals_the_original(tmp_path, name):
    seed, end, settings = CASES[name]
    model, module, params, context, prompt = captioner(tmp_path, np.random.default_rng(seed), end)
    settings = Generation(length=LENGTH, end=END, pad=PAD, **settings)
    ids, scores = theirs(model, prompt, settings, encoder_hidden_states=torch.tensor(context))
    found = ours(module, settings, params, context, prompt)
    np.testing.assert_array_equal(found.ids, ids)
    ended = (ids == END).any(-1)
    np.testing.assert_array_equal(found.lengths, np.where(ended, (ids == END).argmax(-1) + 1, LENGTH))
    if scores is not None:
        np.testing.assert_allclose(found.scores, scores, atol=1e-4)
    assert ended.any() and not ended.all()


@pytest.mark.parametrize("name", ["greedy, penalised", "long, early", "samples"])
def test_scores_are_those_of_the_uncached_forward_pass(tmp_path, name):
    _, _, settings = CASES.get(name, (0, 0, {"sample": True, "returned": 2, "top_p": 0.9}))
    _, module, params, context, prompt = captioner(tmp_path, np.random.default_rng(20), 1.8)
    settings = Generation(length=LENGTH, end=END, pad=PAD, **settings)
    found = ours(module, settings, params, context, prompt, jax.random.key(2) if settings.sample else None)
    for text in range(settings.returned):
        whole, lengths = np.concatenate([prompt, found.ids[:, text]], axis=1), np.asarray(found.lengths[:, text])
        logp = log_probabilities(module, params, context, whole)
        total = np.sum(logp * (np.arange(LENGTH) < lengths[:, None]), axis=1)
        if settings.beams > 1:
            total /= lengths**settings.length_penalty
        np.testing.assert_allclose(found.scores[:, text], total, atol=1e-4)


def test_t5(tmp_path):
    rng = np.random.default_rng(30)
    config = transformers.T5Config(
        d_model=24, num_heads=3, d_kv=8, vocab_size=WORDS, d_ff=40, num_layers=2, num_decoder_layers=2,
        relative_attention_num_buckets=8, relative_attention_max_distance=11, decoder_start_token_id=0, eos_token_id=END,
    )  # fmt: skip
    model = randomise(transformers.T5ForConditionalGeneration(config), rng)
    with torch.no_grad():
        model.shared.weight *= 3  # a flat distribution would be one of near ties
    model.save_pretrained(tmp_path)
    module, params, _ = load_pretrained(tmp_path)
    texts, prompt = rng.integers(4, WORDS, (ROWS, 7)).astype(np.int32), np.zeros((ROWS, 1), np.int32)
    settings = Generation(length=LENGTH, beams=3, returned=3, no_repeat_ngram=1, end=END, pad=PAD)

    @jax.jit
    def run(params):
        encoded = module.apply({"params": params}, texts, method="encode")

        def step(ids, cache, index):
            for_rows = jax.tree.map(lambda leaf: jnp.repeat(leaf, len(ids) // ROWS, axis=0), encoded)
            return module.apply({"params": params}, ids, for_rows, cache, index, method="decode")

        return generate(step, module.cache(ROWS, 1 + LENGTH), prompt, settings)

    encoded = model.encoder(torch.tensor(texts).long())
    ids, scores = theirs(model, prompt, settings, encoder_outputs=encoded)
    found = run(params)
    np.testing.assert_array_equal(found.ids, ids)
    np.testing.assert_allclose(found.scores, scores, atol=1e-4)
    assert (ids == END).any()

"""GPT-2 checkpoints (transformers: GPT2Model, GPT2LMHeadModel, with cross-attention or without)."""

import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.interop.families import Family, activation, name_of_activation
from xmodal_jax.interop.layout import FLAT, IN_OUT, Entry, array, dense, norm
from xmodal_jax.models.backbones.gpt2 import GPT2
from xmodal_jax.models.transformer import Style


def module(config, groups, **settings):
    for name, wanted in {
        "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "reorder_and_upcast_attn": False,
        "tie_word_embeddings": True,
    }.items():  # fmt: skip
        if getattr(config, name) != wanted:
            raise UserError(f"A GPT-2 checkpoint with {name}={getattr(config, name)} is not supported.")
    hidden = config.n_inner or 4 * config.n_embd
    return GPT2(
        vocabulary=config.vocab_size, positions=config.n_positions, width=config.n_embd, heads=config.n_head,
        layers=config.n_layer, mlp_ratio=hidden / config.n_embd, cross=config.add_cross_attention,
        style=Style(epsilon=config.layer_norm_epsilon, activation=activation(config.activation_function)), **settings,
    )  # fmt: skip


def config(module):
    from transformers import GPT2Config

    return GPT2Config(
        vocab_size=module.vocabulary, n_positions=module.positions, n_embd=module.width, n_head=module.heads,
        n_layer=module.layers, n_inner=round(module.width * module.mlp_ratio), add_cross_attention=module.cross,
        activation_function=name_of_activation(module.style.activation), layer_norm_epsilon=module.style.epsilon,
        embd_pdrop=module.dropout, resid_pdrop=module.dropout, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip


def entries(config):
    L, block, layer = config.n_layer, "decoder/layers", "h.{}"

    def projections(ours, theirs):
        return [Entry(f"{ours}/kernel", (f"{theirs}.weight",), IN_OUT, L), Entry(f"{ours}/bias", (f"{theirs}.bias",), FLAT, L)]

    out = [
        *array("words/embedding", "wte.weight"),
        *array("places/embedding", "wpe.weight"),
        *norm(f"{block}/norm_attention", f"{layer}.ln_1", L),
        *projections(f"{block}/attention/qkv", f"{layer}.attn.c_attn"),
        *dense(f"{block}/attention/out", f"{layer}.attn.c_proj", L, layout=IN_OUT),
        *norm(f"{block}/norm_mlp", f"{layer}.ln_2", L),
        *dense(f"{block}/up", f"{layer}.mlp.c_fc", L, layout=IN_OUT),
        *dense(f"{block}/down", f"{layer}.mlp.c_proj", L, layout=IN_OUT),
        *norm("decoder/norm", "ln_f"),
    ]
    if config.add_cross_attention:
        out += [
            *norm(f"{block}/norm_cross", f"{layer}.ln_cross_attn", L),
            *projections(f"{block}/cross/q", f"{layer}.crossattention.q_attn"),
            *projections(f"{block}/cross/kv", f"{layer}.crossattention.c_attn"),
            *dense(f"{block}/cross/out", f"{layer}.crossattention.c_proj", L, layout=IN_OUT),
        ]
    return out


def example(config):
    context = jnp.zeros((1, 2, config.n_embd)) if config.add_cross_attention else None
    return jnp.zeros((1, 2), jnp.int32), None, context


IGNORED = (r"\.(attn|crossattention)\.(bias|masked_bias)$", r"^lm_head\.weight$")  # buffers, and a copy of the tied table
FAMILY = Family(module, entries, example, "transformer", ignored=IGNORED, kind=GPT2, config=config)

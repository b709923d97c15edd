"""BART checkpoints (transformers: BartModel, BartForConditionalGeneration)."""

import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.interop.families import Family, activation
from xmodal_jax.interop.layout import array, dense, norm, side_by_side, stack
from xmodal_jax.models.backbones.bart import BART
from xmodal_jax.models.transformer import Style

OFFSET = 2  # rows of its tables of positions that no token has


def module(config, groups, **settings):
    for name in ("attention_heads", "ffn_dim"):
        sizes = getattr(config, f"encoder_{name}"), getattr(config, f"decoder_{name}")
        if sizes[0] != sizes[1]:
            raise UserError(f"A BART whose encoder and decoder differ in {name}, {sizes[0]} and {sizes[1]}, is not supported.")
    if not getattr(config, "tie_word_embeddings", True):
        raise UserError("A BART that writes words with vectors of their own (tie_word_embeddings=false) is not supported.")
    return BART(
        vocabulary=config.vocab_size, positions=config.max_position_embeddings + OFFSET, width=config.d_model,
        heads=config.encoder_attention_heads, layers=config.encoder_layers, decoder_layers=config.decoder_layers,
        mlp_ratio=config.encoder_ffn_dim / config.d_model, offset=OFFSET, scaled=config.scale_embedding,
        biased="logits_bias" in groups,
        style=Style(post_norm=True, epsilon=1e-5, activation=activation(config.activation_function)), **settings,
    )  # fmt: skip


def entries(config):
    parts = {
        "qkv": [f"self_attn.{name}_proj" for name in "qkv"], "out": "self_attn.out_proj", "up": "fc1", "down": "fc2",
        "norm_attention": "self_attn_layer_norm", "norm_mlp": "final_layer_norm",
    }  # fmt: skip
    layer, block, L = "decoder.layers.{}", "decoder/decoder/layers", config.decoder_layers
    cross = f"{layer}.encoder_attn"
    return [
        *array("decoder/words/embedding", "shared.weight"),
        *array("places/embedding", "encoder.embed_positions.weight"),
        *norm("norm_in", "encoder.layernorm_embedding"),
        *stack("encoder", "encoder.layers.{}", config.encoder_layers, **parts),
        *array("decoder/places/embedding", "decoder.embed_positions.weight"),
        *norm("decoder/norm_in", "decoder.layernorm_embedding"),
        *stack("decoder/decoder", layer, L, **parts),
        *norm(f"{block}/norm_cross", f"{layer}.encoder_attn_layer_norm", L),
        *side_by_side(f"{block}/cross/q", [f"{cross}.q_proj"], L),
        *side_by_side(f"{block}/cross/kv", [f"{cross}.k_proj", f"{cross}.v_proj"], L),
        *dense(f"{block}/cross/out", f"{cross}.out_proj", L),
        *array("logits_bias", "final_logits_bias", group="logits_bias"),
    ]


def example(config):
    ids = jnp.zeros((1, 2), jnp.int32)
    return ids, ids


IGNORED = (r"^(encoder|decoder)\.embed_tokens\.weight$", r"^lm_head\.weight$")  # copies of the words' vectors
FAMILY = Family(module, entries, example, "model", ("logits_bias",), IGNORED)

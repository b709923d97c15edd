"""T5 checkpoints, 1.0 and 1.1, and mT5's (transformers: T5Model, T5ForConditionalGeneration, and the same with M)."""

import jax.numpy as jnp

from xmodal_jax.interop.families import Family, activation
from xmodal_jax.interop.layout import array, dense, norm, side_by_side
from xmodal_jax.models.backbones.t5 import T5
from xmodal_jax.models.transformer import Style


def module(config, groups, **settings):
    style = Style(
        rms=True, epsilon=config.layer_norm_epsilon, activation=activation(config.dense_act_fn), gated=config.is_gated_act,
        use_bias=False, head_width=config.d_kv, scale=1.0,
    )  # fmt: skip
    return T5(
        vocabulary=config.vocab_size, width=config.d_model, heads=config.num_heads, layers=config.num_layers,
        decoder_layers=config.num_decoder_layers, mlp_ratio=config.d_ff / config.d_model,
        buckets=config.relative_attention_num_buckets, longest=config.relative_attention_max_distance,
        tied="lm_head" not in groups, style=style,
        scale_outputs=getattr(config, "scale_decoder_outputs", False), **settings,  # an mT5 never does
    )  # fmt: skip


def entries(config):
    return [
        *array("words/embedding", "shared.weight"),
        *stack("encoder", config.num_layers, config.is_gated_act),
        *stack("decoder", config.num_decoder_layers, config.is_gated_act, cross=True),
        *dense("lm_head", "lm_head", bias=False, group="lm_head"),
    ]


def stack(name, L, gated, cross=False):
    """Entries of the encoder or the decoder; the table of biases belongs to their first layer."""
    block, layer, mlp = f"{name}/layers", f"{name}.block.{{}}.layer", 2 if cross else 1
    inner = f"{layer}.{mlp}.DenseReluDense"
    out = [
        *array(f"{name}_relations", f"{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"),
        *norm(f"{block}/norm_attention", f"{layer}.0.layer_norm", L, bias=False),
        *side_by_side(f"{block}/attention/qkv", [f"{layer}.0.SelfAttention.{part}" for part in "qkv"], L, bias=False),
        *dense(f"{block}/attention/out", f"{layer}.0.SelfAttention.o", L, bias=False),
        *norm(f"{block}/norm_mlp", f"{layer}.{mlp}.layer_norm", L, bias=False),
        *dense(f"{block}/up", f"{inner}.{'wi_1' if gated else 'wi'}", L, bias=False),
        *dense(f"{block}/down", f"{inner}.wo", L, bias=False),
        *norm(f"{name}/norm", f"{name}.final_layer_norm", bias=False),
    ]
    if gated:
        out += dense(f"{block}/gate", f"{inner}.wi_0", L, bias=False)
    if cross:
        attention = f"{layer}.1.EncDecAttention"
        out += [
            *norm(f"{block}/norm_cross", f"{layer}.1.layer_norm", L, bias=False),
            *side_by_side(f"{block}/cross/q", [f"{attention}.q"], L, bias=False),
            *side_by_side(f"{block}/cross/kv", [f"{attention}.k", f"{attention}.v"], L, bias=False),
            *dense(f"{block}/cross/out", f"{attention}.o", L, bias=False),
        ]
    return out


def example(config):
    ids = jnp.zeros((1, 2), jnp.int32)
    return ids, ids


# copies of the tied words; a table that old checkpoints have and no T5 uses
IGNORED = (r"^(encoder|decoder)\.embed_tokens\.weight$", r"EncDecAttention\.relative_attention_bias\.weight$")
FAMILY = Family(module, entries, example, ignored=IGNORED)

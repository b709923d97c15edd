"""CLIP checkpoints (transformers: CLIPModel)."""

import jax.numpy as jnp

from xmodal_jax.interop.families import Family, activation, grid_of, pair
from xmodal_jax.interop.layout import Entry, Layout, array, dense, norm, patches, side_by_side
from xmodal_jax.models.backbones.clip import CLIP, TextTower, VisionTower
from xmodal_jax.models.transformer import Style

TABLE = Layout(lambda a, shape: a.reshape(shape), lambda a: a.reshape(-1, a.shape[-1]))  # theirs [N, D] of ours [1, N, D]


def module(config, groups, dtype="float32", **settings):
    text, settings = config.text_config, {"dtype": dtype, **settings}
    end = None if text.eos_token_id == 2 else text.eos_token_id
    vision = vision_tower(config.vision_config, **settings)
    text = TextTower(**sizes(text), vocabulary=text.vocab_size, positions=text.max_position_embeddings, end=end, **settings)
    return CLIP(vision, text, config.projection_dim, dtype)


def vision_tower(config, **settings):
    return VisionTower(**sizes(config, closing_norm=False), patch=config.patch_size, grid=grid_of(config), **settings)


def sizes(config, **more):
    """Settings that a tower of either kind has; `more` of its Style."""
    return dict(
        width=config.hidden_size, heads=config.num_attention_heads, layers=config.num_hidden_layers,
        mlp_ratio=config.intermediate_size / config.hidden_size,
        style=Style(epsilon=config.layer_norm_eps, activation=activation(config.hidden_act), **more),
    )  # fmt: skip


def blocks(ours, theirs, L):
    """Entries of a pre-norm stack in CLIP's names: `ours` a Stack, `theirs` what its layers are called."""
    block, layer = f"{ours}/layers", f"{theirs}.layers.{{}}"
    return [
        *norm(f"{block}/norm_attention", f"{layer}.layer_norm1", L),
        *side_by_side(f"{block}/attention/qkv", [f"{layer}.self_attn.{name}_proj" for name in "qkv"], L),
        *dense(f"{block}/attention/out", f"{layer}.self_attn.out_proj", L),
        *norm(f"{block}/norm_mlp", f"{layer}.layer_norm2", L),
        *dense(f"{block}/up", f"{layer}.mlp.fc1", L),
        *dense(f"{block}/down", f"{layer}.mlp.fc2", L),
    ]


def entries(config):
    vision, patch = "vision_model.embeddings", patches(config.vision_config.patch_size, config.vision_config.num_channels)
    return [
        *array("vision/class_token", f"{vision}.class_embedding"),
        Entry("vision/position_table", (f"{vision}.position_embedding.weight",), TABLE),
        *dense("vision/patch_embed/projection", f"{vision}.patch_embedding", bias=False, layout=patch),
        *norm("vision/norm_in", "vision_model.pre_layrnorm"),
        *blocks("vision/encoder", "vision_model.encoder", config.vision_config.num_hidden_layers),
        *norm("vision/norm_pooled", "vision_model.post_layernorm"),
        *array("text/words/embedding", "text_model.embeddings.token_embedding.weight"),
        *array("text/position_table", "text_model.embeddings.position_embedding.weight"),
        *blocks("text/encoder", "text_model.encoder", config.text_config.num_hidden_layers),
        *norm("text/encoder/norm", "text_model.final_layer_norm"),
        *dense("image_projection", "visual_projection", bias=False),
        *dense("text_projection", "text_projection", bias=False),
        *array("log_scale", "logit_scale"),
    ]


def example(config):
    size, channels = config.vision_config.image_size, config.vision_config.num_channels
    rows, columns = pair(size)
    return jnp.zeros((1, rows, columns, channels)), jnp.zeros((1, 2), jnp.int32)


def positions(config):
    return {"vision/position_table": grid_of(config.vision_config)}


# position_ids: a buffer of old checkpoints
FAMILY = Family(module, entries, example, ignored=(r"position_ids$",), positions=positions)

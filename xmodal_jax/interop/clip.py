"""CLIP checkpoints (transformers: CLIPModel)."""

import jax.numpy as jnp

from xmodal_jax.interop.families import Family, grid_of, pair, settings
from xmodal_jax.interop.layout import Entry, Layout, array, dense, norm, patches, stack
from xmodal_jax.models.backbones.clip import CLIP, TextTower, VisionTower

TABLE = Layout(lambda a, shape: a.reshape(shape), lambda a: a.reshape(-1, a.shape[-1]))  # theirs [N, D] of ours [1, N, D]

PARTS = {
    "norm_attention": "layer_norm1", "qkv": [f"self_attn.{name}_proj" for name in "qkv"], "out": "self_attn.out_proj",
    "norm_mlp": "layer_norm2", "up": "mlp.fc1", "down": "mlp.fc2",
}  # fmt: skip


def module(config, groups, dtype="float32", **more):
    text, more = config.text_config, {"dtype": dtype, **more}
    end = None if text.eos_token_id == 2 else text.eos_token_id
    vision = vision_tower(config.vision_config, **more)
    text = TextTower(**settings(text), vocabulary=text.vocab_size, positions=text.max_position_embeddings, end=end, **more)
    return CLIP(vision, text, config.projection_dim, dtype)


def vision_tower(config, **more):
    return VisionTower(**settings(config, closing_norm=False), patch=config.patch_size, grid=grid_of(config), **more)


def entries(config):
    vision, patch = "vision_model.embeddings", patches(config.vision_config.patch_size, config.vision_config.num_channels)
    return [
        *array("vision/class_token", f"{vision}.class_embedding"),
        Entry("vision/position_table", (f"{vision}.position_embedding.weight",), TABLE),
        *dense("vision/patch_embed/projection", f"{vision}.patch_embedding", bias=False, layout=patch),
        *norm("vision/norm_in", "vision_model.pre_layrnorm"),
        *stack("vision/encoder", "vision_model.encoder.layers.{}", config.vision_config.num_hidden_layers, **PARTS),
        *norm("vision/norm_pooled", "vision_model.post_layernorm"),
        *array("text/words/embedding", "text_model.embeddings.token_embedding.weight"),
        *array("text/position_table", "text_model.embeddings.position_embedding.weight"),
        *stack("text/encoder", "text_model.encoder.layers.{}", config.text_config.num_hidden_layers, **PARTS),
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

"""CLIP checkpoints (transformers: CLIPModel), and its towers alone (CLIPVisionModel, CLIPTextModel)."""

import dataclasses

import jax.numpy as jnp

from xmodal_jax.interop.families import Family, grid_of, image_size_of, pair, settings, sizes
from xmodal_jax.interop.layout import Entry, Layout, array, dense, norm, patches, stack
from xmodal_jax.models.backbones.clip import CLIP, TextTower, VisionTower

TABLE = Layout(lambda a, shape: a.reshape(shape), lambda a: a.reshape(-1, a.shape[-1]))  # theirs [N, D] of ours [1, N, D]

PARTS = {
    "norm_attention": "layer_norm1", "qkv": [f"self_attn.{name}_proj" for name in "qkv"], "out": "self_attn.out_proj",
    "norm_mlp": "layer_norm2", "up": "mlp.fc1", "down": "mlp.fc2",
}  # fmt: skip


def vision_tower(config, groups=(), **more):
    return VisionTower(**settings(config, closing_norm=False), patch=config.patch_size, grid=grid_of(config), **more)


def text_tower(config, groups=(), **more):
    end = None if config.eos_token_id == 2 else config.eos_token_id
    places = config.max_position_embeddings
    return TextTower(**settings(config), vocabulary=config.vocab_size, positions=places, end=end, **more)


def module(config, groups, dtype="float32", **more):
    more = {"dtype": dtype, **more}
    return CLIP(
        vision_tower(config.vision_config, **more), text_tower(config.text_config, **more), config.projection_dim, dtype
    )


def vision_entries(config):
    patch = patches(config.patch_size, config.num_channels)
    return [
        *array("class_token", "embeddings.class_embedding"),
        Entry("position_table", ("embeddings.position_embedding.weight",), TABLE),
        *dense("patch_embed/projection", "embeddings.patch_embedding", bias=False, layout=patch),
        *norm("norm_in", "pre_layrnorm"),
        *stack("encoder", "encoder.layers.{}", config.num_hidden_layers, **PARTS),
        *norm("norm_pooled", "post_layernorm"),
    ]


def text_entries(config):
    return [
        *array("words/embedding", "embeddings.token_embedding.weight"),
        *array("position_table", "embeddings.position_embedding.weight"),
        *stack("encoder", "encoder.layers.{}", config.num_hidden_layers, **PARTS),
        *norm("encoder/norm", "final_layer_norm"),
    ]


def inside(ours, theirs, entries):
    """The entries of a tower within the whole."""
    return [
        dataclasses.replace(entry, ours=f"{ours}/{entry.ours}", theirs=tuple(f"{theirs}.{name}" for name in entry.theirs))
        for entry in entries
    ]


def entries(config):
    return [
        *inside("vision", "vision_model", vision_entries(config.vision_config)),
        *inside("text", "text_model", text_entries(config.text_config)),
        *dense("image_projection", "visual_projection", bias=False),
        *dense("text_projection", "text_projection", bias=False),
        *array("log_scale", "logit_scale"),
    ]


def pictures(config):
    rows, columns = pair(config.image_size)
    return (jnp.zeros((1, rows, columns, config.num_channels)),)


def ids(config):
    return (jnp.zeros((1, 2), jnp.int32),)


def vision_config(module):
    from transformers import CLIPVisionConfig

    return CLIPVisionConfig(**sizes(module), patch_size=module.patch, image_size=image_size_of(module))


def text_config(module):
    from transformers import CLIPTextConfig

    end = module.end if (module.end or 0) > 0 else 2  # the highest id, as old configs say it; no config says LAST
    return CLIPTextConfig(
        **sizes(module), vocab_size=module.vocabulary, max_position_embeddings=module.positions, eos_token_id=end
    )


IGNORED = (r"position_ids$",)  # a buffer of old checkpoints
FAMILY = Family(
    module,
    entries,
    lambda config: (*pictures(config.vision_config), *ids(config)),
    ignored=IGNORED,
    positions=lambda config: {"vision/position_table": grid_of(config.vision_config)},
)
VISION_FAMILY = Family(
    vision_tower,
    vision_entries,
    pictures,
    prefix="vision_model",  # in checkpoints before transformers 5
    ignored=IGNORED,
    positions=lambda config: {"position_table": grid_of(config)},
    kind=VisionTower,
    config=vision_config,
)
TEXT_FAMILY = Family(text_tower, text_entries, ids, prefix="text_model", ignored=IGNORED, kind=TextTower, config=text_config)

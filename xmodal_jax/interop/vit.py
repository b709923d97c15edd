"""ViT checkpoints (transformers: ViTModel, ViTForImageClassification)."""

import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.interop.families import Family, grid_of, image_size_of, pair, settings, sizes
from xmodal_jax.interop.layout import array, dense, norm, patches, stack
from xmodal_jax.models.backbones.vit import ViT

PARTS = {
    "norm_attention": "layernorm_before", "qkv": [f"attention.attention.{name}" for name in ("query", "key", "value")],
    "out": "attention.output.dense", "norm_mlp": "layernorm_after", "up": "intermediate.dense", "down": "output.dense",
}  # fmt: skip


def module(config, groups, **more):
    if not config.qkv_bias:
        raise UserError("A ViT without biases of q, k and v (qkv_bias=false) is not supported.")
    if "pooler" in groups and getattr(config, "pooler_act", "tanh") != "tanh":
        raise UserError(f"A ViT with pooler_act={config.pooler_act} is not supported; without its pooler it is: heads=().")
    return ViT(
        patch=config.patch_size, grid=grid_of(config), pooler="pooler" in groups,
        labels=config.num_labels if "classifier" in groups else 0, **settings(config), **more,
    )  # fmt: skip


def config(module):
    from transformers import ViTConfig

    return ViTConfig(image_size=image_size_of(module), patch_size=module.patch, **sizes(module))


def entries(config):
    patch = patches(config.patch_size, config.num_channels)
    return [
        *array("class_token", "embeddings.cls_token"),
        *array("position_table", "embeddings.position_embeddings"),
        *dense("patch_embed/projection", "embeddings.patch_embeddings.projection", layout=patch),
        *stack("encoder", "encoder.layer.{}", config.num_hidden_layers, **PARTS),
        *norm("encoder/norm", "layernorm"),
        *dense("pooler", "pooler.dense", group="pooler"),
        *dense("classifier", "classifier", group="classifier"),
    ]


def example(config):
    rows, columns = pair(config.image_size)
    return (jnp.zeros((1, rows, columns, config.num_channels)),)


def positions(config):
    return {"position_table": grid_of(config)}


MASK = (r"(^|\.)embeddings\.mask_token$",)  # of masked patches, which no picture has here
FAMILY = Family(
    module, entries, example, prefix="vit", heads=("classifier",), ignored=MASK, positions=positions, kind=ViT, config=config
)

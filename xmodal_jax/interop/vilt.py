"""ViLT checkpoints (transformers: ViltModel)."""

import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.interop.families import Family, settings
from xmodal_jax.interop.layout import array, dense, norm, patches, stack
from xmodal_jax.interop.vit import PARTS
from xmodal_jax.models.backbones.vilt import ViLT


def module(config, groups, **more):
    if not config.qkv_bias:
        raise UserError("A ViLT without biases of q, k and v (qkv_bias=false) is not supported.")
    return ViLT(
        vocabulary=config.vocab_size, positions=config.max_position_embeddings, types=config.type_vocab_size,
        kinds=config.modality_type_vocab_size, patch=config.patch_size,
        grid=config.image_size // config.patch_size, limit=config.max_image_length if config.max_image_length >= 0 else None,
        pooler="pooler" in groups, **settings(config), **more,
    )  # fmt: skip


def entries(config):
    text, patch = "embeddings.text_embeddings", patches(config.patch_size, config.num_channels)
    return [
        *array("text_embed/words/embedding", f"{text}.word_embeddings.weight"),
        *array("text_embed/places/embedding", f"{text}.position_embeddings.weight"),
        *array("text_embed/kinds/embedding", f"{text}.token_type_embeddings.weight"),
        *norm("text_embed/norm", f"{text}.LayerNorm"),
        *array("class_token", "embeddings.cls_token"),
        *array("position_table", "embeddings.position_embeddings"),
        *array("kind_table", "embeddings.token_type_embeddings.weight"),
        *dense("patch_embed/projection", "embeddings.patch_embeddings.projection", layout=patch),
        *stack("encoder", "encoder.layer.{}", config.num_hidden_layers, **PARTS),
        *norm("encoder/norm", "layernorm"),
        *dense("pooler", "pooler.dense", group="pooler"),
    ]


def example(config):
    return jnp.zeros((1, 2), jnp.int32), jnp.zeros((1, config.patch_size, config.patch_size, config.num_channels))


def positions(config):
    raise UserError("The positions of a ViLT are interpolated to the images it is given: load it without image_size.")


# position_ids: a buffer of old checkpoints
FAMILY = Family(module, entries, example, prefix="vilt", ignored=(r"position_ids$",), positions=positions)

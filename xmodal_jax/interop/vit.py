"""ViT checkpoints (transformers: ViTModel, ViTForImageClassification)."""

import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.interop.families import Family, activation, grid_of, image_size_of, pair, sizes
from xmodal_jax.interop.layout import array, dense, norm, patches, side_by_side
from xmodal_jax.models.backbones.vit import ViT
from xmodal_jax.models.transformer import Style


def module(config, groups, **settings):
    if not config.qkv_bias:
        raise UserError("A ViT without biases of q, k and v (qkv_bias=false) is not supported.")
    style = Style(epsilon=config.layer_norm_eps, activation=activation(config.hidden_act))
    return ViT(
        width=config.hidden_size, heads=config.num_attention_heads, layers=config.num_hidden_layers,
        mlp_ratio=config.intermediate_size / config.hidden_size, patch=config.patch_size,
        grid=grid_of(config), pooler="pooler" in groups,
        labels=config.num_labels if "classifier" in groups else 0, style=style, **settings,
    )  # fmt: skip


def config(module):
    from transformers import ViTConfig

    return ViTConfig(image_size=image_size_of(module), patch_size=module.patch, **sizes(module))


def blocks(ours, theirs, L, bias=None):
    """Entries of a pre-norm stack in ViT's names: `ours` a Stack, `theirs` what its layers are called; bias: of q, k and v."""
    block, layer = f"{ours}/layers", f"{theirs}.layer.{{}}"
    qkv = [f"{layer}.attention.attention.{name}" for name in ("query", "key", "value")]
    return [
        *norm(f"{block}/norm_attention", f"{layer}.layernorm_before", L),
        *side_by_side(f"{block}/attention/qkv", qkv, L, bias=bias),
        *dense(f"{block}/attention/out", f"{layer}.attention.output.dense", L),
        *norm(f"{block}/norm_mlp", f"{layer}.layernorm_after", L),
        *dense(f"{block}/up", f"{layer}.intermediate.dense", L),
        *dense(f"{block}/down", f"{layer}.output.dense", L),
    ]


def entries(config):
    patch = patches(config.patch_size, config.num_channels)
    return [
        *array("class_token", "embeddings.cls_token"),
        *array("position_table", "embeddings.position_embeddings"),
        *dense("patch_embed/projection", "embeddings.patch_embeddings.projection", layout=patch),
        *blocks("encoder", "encoder", config.num_hidden_layers),
        *norm("encoder/norm", "layernorm"),
        *dense("pooler", "pooler.dense", group="pooler"),
        *dense("classifier", "classifier", group="classifier"),
    ]


def example(config):
    rows, columns = pair(config.image_size)
    return (jnp.zeros((1, rows, columns, config.num_channels)),)


def positions(config):
    return {"position_table": grid_of(config)}


FAMILY = Family(module, entries, example, prefix="vit", heads=("classifier",), positions=positions, kind=ViT, config=config)

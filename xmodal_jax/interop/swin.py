"""Swin checkpoints (transformers: SwinModel, SwinForImageClassification)."""

import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.interop.families import Family, activation, classes, name_of_activation, pair
from xmodal_jax.interop.layout import array, dense, norm, patches, side_by_side
from xmodal_jax.interop.vit import MASK
from xmodal_jax.models.backbones.swin import Swin
from xmodal_jax.models.transformer import Style


def module(config, groups, **more):
    if not config.qkv_bias or config.use_absolute_embeddings:
        raise UserError("A Swin without biases of q, k and v, or with absolute positions, is not supported.")
    return Swin(
        config.embed_dim, tuple(config.depths), tuple(config.num_heads), config.window_size, config.patch_size,
        config.mlp_ratio, config.num_labels if "classifier" in groups else 0,
        style=Style(epsilon=config.layer_norm_eps, activation=activation(config.hidden_act)), **more,
    )  # fmt: skip


def config(module):
    from transformers import SwinConfig

    return SwinConfig(
        embed_dim=module.first, depths=list(module.depths), num_heads=list(module.stage_heads), window_size=module.window,
        patch_size=module.patch, mlp_ratio=module.mlp_ratio, hidden_act=name_of_activation(module.style.activation),
        layer_norm_eps=module.style.epsilon, **classes(module),
    )  # fmt: skip


def entries(config):
    patch = patches(config.patch_size, config.num_channels)
    out = [
        *dense("patch_embed/projection", "embeddings.patch_embeddings.projection", layout=patch),
        *norm("norm_in", "embeddings.norm"),
    ]
    for stage, depth in enumerate(config.depths):
        for number in range(depth):
            ours, theirs = f"stage_{stage}_block_{number}", f"encoder.layers.{stage}.blocks.{number}"
            attention = f"{theirs}.attention.self"
            out += norm(f"{ours}/norm_attention", f"{theirs}.layernorm_before")
            out += side_by_side(f"{ours}/attention/qkv", [f"{attention}.{name}" for name in ("query", "key", "value")])
            out += dense(f"{ours}/attention/out", f"{theirs}.attention.output.dense")
            out += array(f"{ours}/attention/relation_table", f"{attention}.relative_position_bias_table")
            out += norm(f"{ours}/norm_mlp", f"{theirs}.layernorm_after")
            out += dense(f"{ours}/up", f"{theirs}.intermediate.dense") + dense(f"{ours}/down", f"{theirs}.output.dense")
        if stage + 1 < len(config.depths):
            merge = f"encoder.layers.{stage}.downsample"
            out += norm(f"merge_{stage}/norm", f"{merge}.norm")
            out += dense(f"merge_{stage}/reduction", f"{merge}.reduction", bias=False)
    return out + norm("norm", "layernorm") + dense("classifier", "classifier", group="classifier")


def example(config):
    rows, columns = pair(config.image_size)
    return (jnp.zeros((1, rows, columns, config.num_channels)),)


IGNORED = (*MASK, r"relative_position_index$", r"attn_mask$")  # buffers of old checkpoints
FAMILY = Family(module, entries, example, "swin", ("classifier",), IGNORED, kind=Swin, config=config)

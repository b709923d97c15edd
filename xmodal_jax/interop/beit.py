"""BEiT checkpoints (transformers: BeitModel, BeitForImageClassification)."""

from xmodal_jax.errors import UserError
from xmodal_jax.interop.families import Family, grid_of, image_size_of, settings, sizes
from xmodal_jax.interop.layout import array, dense, norm, patches, stack
from xmodal_jax.interop.vit import PARTS, example
from xmodal_jax.models.backbones.beit import BEiT


def module(config, groups, **more):
    style = {"layer_scale": config.layer_scale_init_value > 0, "closing_norm": not config.use_mean_pooling}
    return BEiT(
        patch=config.patch_size, grid=grid_of(config), absolute=config.use_absolute_position_embeddings,
        relative=config.use_relative_position_bias, shared=config.use_shared_relative_position_bias,
        mask_token=config.use_mask_token, mean=config.use_mean_pooling, pooler="pooler" in groups,
        labels=config.num_labels if "classifier" in groups else 0, **settings(config, **style), **more,
    )  # fmt: skip


def config(module):
    from transformers import BeitConfig

    return BeitConfig(
        image_size=image_size_of(module), patch_size=module.patch, use_absolute_position_embeddings=module.absolute,
        use_relative_position_bias=module.relative, use_shared_relative_position_bias=module.shared,
        use_mask_token=module.mask_token, use_mean_pooling=module.mean, drop_path_rate=0.0,
        layer_scale_init_value=float(module.style.layer_scale), **sizes(module),
    )  # fmt: skip


def entries(config):
    L, layer, block = config.num_hidden_layers, "encoder.layer.{}", "encoder/layers"
    table, patch = "relative_position_bias.relative_position_bias_table", patches(config.patch_size, config.num_channels)
    out = [
        *array("class_token", "embeddings.cls_token"),
        *dense("patch_embed/projection", "embeddings.patch_embeddings.projection", layout=patch),
        *stack("encoder", layer, L, **PARTS, bias=[True, False, True]),
        *dense("classifier", "classifier", group="classifier"),
    ]
    if config.use_mask_token:
        out += array("mask_token", "embeddings.mask_token")
    if config.use_absolute_position_embeddings:
        out += array("position_table", "embeddings.position_embeddings")
    if config.use_relative_position_bias:
        out += array(f"{block}/attention/relation_table", f"{layer}.attention.attention.{table}", L)
    if config.use_shared_relative_position_bias:
        out += array("relation_table", f"encoder.{table}")
    if config.layer_scale_init_value > 0:
        out += array(f"{block}/scale_attention", f"{layer}.lambda_1", L) + array(f"{block}/scale_mlp", f"{layer}.lambda_2", L)
    if config.use_mean_pooling:
        return out + norm("pooler", "pooler.layernorm", group="pooler")
    return out + norm("encoder/norm", "layernorm")


def positions(config):
    if config.use_relative_position_bias or config.use_shared_relative_position_bias:
        raise UserError(
            "The relative positions of this BEiT are interpolated to the images it is given: load it without image_size."
        )
    return {"position_table": grid_of(config)}


# relative_position_index: a buffer of old checkpoints
FAMILY = Family(
    module, entries, example, prefix="beit", heads=("classifier",), ignored=(r"relative_position_index$",),
    positions=positions, kind=BEiT, config=config,
)  # fmt: skip

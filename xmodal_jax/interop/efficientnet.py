"""EfficientNet checkpoints (transformers: EfficientNetModel, EfficientNetForImageClassification), and ALIGN's (AlignModel)."""

import dataclasses
import math

import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.interop import bert
from xmodal_jax.interop.clip import inside
from xmodal_jax.interop.cnn import COUNTER, batch_norm
from xmodal_jax.interop.families import Family, classes
from xmodal_jax.interop.layout import CONV, array, dense
from xmodal_jax.models.backbones.align import ALIGN
from xmodal_jax.models.backbones.efficientnet import EPSILON, EfficientNet

STEM, TOP = 32, 1280  # channels of size B0


def channels(config, count):
    """A number of channels of B0 at the config's width: a multiple of its divisor, at least nine tenths of it."""
    wanted, unit = count * config.width_coefficient, config.depth_divisor
    found = max(unit, int(wanted + unit / 2) // unit * unit)
    return int(found + unit * (found < 0.9 * wanted))


def module(config, groups, top=TOP, **more):
    if config.hidden_act not in ("swish", "silu") or config.batch_norm_eps != EPSILON or config.pooling_type != "mean":
        raise UserError(
            f"An EfficientNet with hidden_act={config.hidden_act}, batch_norm_eps={config.batch_norm_eps} and "
            f"pooling_type={config.pooling_type} is not supported: silu, {EPSILON} and mean are."
        )
    return EfficientNet(
        stem=channels(config, STEM), widths=tuple(channels(config, count) for count in config.out_channels),
        depths=tuple(math.ceil(config.depth_coefficient * count) for count in config.num_block_repeats),
        strides=tuple(config.strides), kernels=tuple(config.kernel_sizes), expands=tuple(config.expand_ratios),
        symmetric=tuple(config.depthwise_padding), squeeze=config.squeeze_expansion_ratio, top=top and channels(config, top),
        labels=config.num_labels if "classifier" in groups else 0, **more,
    )  # fmt: skip


def config(module):
    from transformers import EfficientNetConfig

    wide = module.stem / STEM
    widths = [round(width / wide) for width in module.widths]
    return EfficientNetConfig(
        width_coefficient=wide, depth_coefficient=1.0, depth_divisor=1, in_channels=[STEM, *widths[:-1]], out_channels=widths,
        num_block_repeats=list(module.depths), strides=list(module.strides), kernel_sizes=list(module.kernels),
        expand_ratios=list(module.expands), depthwise_padding=list(module.symmetric), squeeze_expansion_ratio=module.squeeze,
        hidden_dim=module.width, **classes(module),
    )  # fmt: skip


def entries(config, top=True):
    def normed(ours, conv, norm):
        return [*dense(f"conv_{ours}", conv, bias=False, layout=CONV), *batch_norm(f"norm_{ours}", norm)]

    out, number = normed("stem", "embeddings.convolution", "embeddings.batchnorm"), 0
    for expand, repeats in zip(config.expand_ratios, config.num_block_repeats, strict=True):
        for _ in range(math.ceil(config.depth_coefficient * repeats)):
            theirs, block = f"encoder.blocks.{number}", []
            if expand > 1:
                block += normed("expand", f"{theirs}.expansion.expand_conv", f"{theirs}.expansion.expand_bn")
            inner = f"{theirs}.depthwise_conv"
            block += normed("depthwise", f"{inner}.depthwise_conv", f"{inner}.depthwise_norm")
            block += dense("conv_reduce", f"{theirs}.squeeze_excite.reduce", layout=CONV)
            block += dense("conv_excite", f"{theirs}.squeeze_excite.expand", layout=CONV)
            block += normed("project", f"{theirs}.projection.project_conv", f"{theirs}.projection.project_bn")
            out += [dataclasses.replace(entry, ours=f"block_{number}/{entry.ours}") for entry in block]
            number += 1
    if not top:
        return out
    return out + normed("top", "encoder.top_conv", "encoder.top_bn") + dense("classifier", "classifier", group="classifier")


def example(config):
    return (jnp.zeros((1, 64, 64, config.num_channels)),)


def align_module(config, groups, dtype="float32", **more):
    more = {"dtype": dtype, **more}
    picture = {name: value for name, value in more.items() if name == "dtype"}  # it has neither dropout nor blocks to remat
    return ALIGN(
        module(config.vision_config, (), top=0, **picture), bert.module(config.text_config, {"pooler"}, **more), dtype
    )  # fmt: skip


def align_entries(config):
    text = inside("text", "text_model", bert.base_entries(config.text_config))
    return [
        *inside("vision", "vision_model", entries(config.vision_config, top=False)),
        *(dataclasses.replace(entry, group="") for entry in text),
        *dense("text_projection", "text_projection"),
        *array("temperature_scale", "temperature"),
    ]


FAMILY = Family(module, entries, example, "efficientnet", ("classifier",), COUNTER, kind=EfficientNet, config=config)
ALIGN_FAMILY = Family(
    align_module,
    align_entries,
    lambda config: (*example(config.vision_config), *bert.example(config.text_config)),
    ignored=(*COUNTER, r"position_ids$", r"token_type_ids$"),
)

"""ResNet checkpoints (transformers: ResNetModel, ResNetForImageClassification) and VGG-16's (torchvision's names).

A VGG folder holds model.safetensors with torchvision's names and a config.json {"model_type": "vgg", "batch_norm": false, ...}
as `VGGConfig` writes it: transformers itself has no VGG.
"""

import dataclasses

import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.interop.families import Family, OwnConfig, classes
from xmodal_jax.interop.layout import CONV, Entry, array, dense
from xmodal_jax.models.backbones.resnet import ResNet
from xmodal_jax.models.backbones.vgg import VGG, VGG16


@dataclasses.dataclass
class VGGConfig(OwnConfig):
    """Of a VGG: channels of every convolution (0: pooling), whether batch-normalised, width and classes of the head."""

    channels: tuple = VGG16
    batch_norm: bool = False
    hidden_size: int = 4096
    num_labels: int = 1000
    model_type: str = "vgg"


def batch_norm(ours, theirs, group=""):
    """Scale, bias and the statistics of a batch normalisation."""
    names = {"scale": "weight", "bias": "bias", "mean": "running_mean", "variance": "running_var"}
    return [entry for mine, name in names.items() for entry in array(f"{ours}/{mine}", f"{theirs}.{name}", group=group)]


def vgg_module(config, groups, **settings):
    return VGG(
        tuple(config.channels),
        config.batch_norm,
        config.hidden_size,
        config.num_labels if "classifier" in groups else 0,
        **settings,
    )


def vgg_config(module):
    return VGGConfig(tuple(module.channels), module.batch_norm, module.hidden, **classes(module))


def vgg_entries(config):
    out, place, number = [], 0, 0
    for channels in config.channels:
        if channels:
            out += dense(f"conv_{number}", f"features.{place}", layout=CONV)
            out += batch_norm(f"norm_{number}", f"features.{place + 1}") if config.batch_norm else []
            place, number = place + (3 if config.batch_norm else 2), number + 1
        else:
            place += 1
    for ours, theirs in {"hidden_0": 0, "hidden_1": 3, "classifier": 6}.items():
        out += dense(ours, f"classifier.{theirs}", group="classifier")
    return out


def vgg_example(config):
    return (jnp.zeros((1, 32, 32, 3)),)


def resnet_module(config, groups, **settings):
    if config.hidden_act != "relu":
        raise UserError(f"A ResNet checkpoint with hidden_act={config.hidden_act} is not supported.")
    return ResNet(
        config.embedding_size, tuple(config.hidden_sizes), tuple(config.depths), config.layer_type == "bottleneck",
        config.downsample_in_bottleneck, config.downsample_in_first_stage,
        config.num_labels if "classifier" in groups else 0, **settings,
    )  # fmt: skip


def resnet_config(module):
    from transformers import ResNetConfig

    return ResNetConfig(
        embedding_size=module.stem, hidden_sizes=list(module.widths), depths=list(module.depths),
        layer_type="bottleneck" if module.bottleneck else "basic", downsample_in_bottleneck=module.first_strides,
        downsample_in_first_stage=module.first_stage_halves, **classes(module),
    )  # fmt: skip


def resnet_entries(config):
    def normed(ours, theirs):
        kernel = Entry(f"{ours}/conv/kernel", (f"{theirs}.convolution.weight",), CONV)
        return [kernel, *batch_norm(f"{ours}/norm", f"{theirs}.normalization")]

    out, width = normed("stem", "embedder.embedder"), config.embedding_size
    for stage, (features, depth) in enumerate(zip(config.hidden_sizes, config.depths, strict=True)):
        for number in range(depth):
            ours, theirs = f"stage_{stage}_block_{number}", f"encoder.stages.{stage}.layers.{number}"
            halves = number == 0 and (stage > 0 or config.downsample_in_first_stage)
            if halves or width != features:
                out += normed(f"{ours}/shortcut", f"{theirs}.shortcut")
            for layer in range(3 if config.layer_type == "bottleneck" else 2):
                out += normed(f"{ours}/conv_{layer}", f"{theirs}.layer.{layer}")
            width = features
    return out + dense("classifier", "classifier.1", group="classifier")


def resnet_example(config):
    return (jnp.zeros((1, 32, 32, config.num_channels)),)


COUNTER = (r"num_batches_tracked$",)
VGG_FAMILY = Family(vgg_module, vgg_entries, vgg_example, ignored=COUNTER, kind=VGG, config=vgg_config)
RESNET_FAMILY = Family(
    resnet_module, resnet_entries, resnet_example, "resnet", ("classifier",), COUNTER, kind=ResNet, config=resnet_config
)

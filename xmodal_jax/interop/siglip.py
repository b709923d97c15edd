"""SigLIP checkpoints (transformers: SiglipModel), and its towers alone (SiglipVisionModel, SiglipTextModel)."""

from xmodal_jax.interop.clip import IGNORED, PARTS, TABLE, ids, inside, pictures
from xmodal_jax.interop.families import Family, grid_of, image_size_of, settings, sizes
from xmodal_jax.interop.layout import DENSE, FLAT, Entry, array, dense, norm, patches, stack
from xmodal_jax.models.backbones.siglip import SigLIP, SiglipText, SiglipVision


def vision_tower(config, groups=(), **more):
    return SiglipVision(
        patch=config.patch_size, grid=grid_of(config), pool=config.vision_use_head, **settings(config), **more
    )  # fmt: skip


def text_tower(config, groups=(), **more):
    return SiglipText(
        vocabulary=config.vocab_size, positions=config.max_position_embeddings, shared_width=config.projection_size,
        **settings(config), **more,
    )  # fmt: skip


def module(config, groups, **more):
    return SigLIP(vision_tower(config.vision_config, **more), text_tower(config.text_config, **more))


def vision_entries(config):
    patch = patches(config.patch_size, config.num_channels)
    found = [
        Entry("position_table", ("embeddings.position_embedding.weight",), TABLE),
        *dense("patch_embed/projection", "embeddings.patch_embedding", layout=patch),
        *stack("encoder", "encoder.layers.{}", config.num_hidden_layers, **PARTS),
        *norm("encoder/norm", "post_layernorm"),
    ]
    if not config.vision_use_head:
        return found
    return [
        *found,
        *array("probe/probe_token", "head.probe"),
        Entry("probe/qkv/kernel", ("head.attention.in_proj_weight",), DENSE),
        Entry("probe/qkv/bias", ("head.attention.in_proj_bias",), FLAT),
        *dense("probe/out", "head.attention.out_proj"),
        *norm("probe/norm", "head.layernorm"),
        *dense("probe/up", "head.mlp.fc1"),
        *dense("probe/down", "head.mlp.fc2"),
    ]


def text_entries(config):
    return [
        *array("words/embedding", "embeddings.token_embedding.weight"),
        *array("position_table", "embeddings.position_embedding.weight"),
        *stack("encoder", "encoder.layers.{}", config.num_hidden_layers, **PARTS),
        *norm("encoder/norm", "final_layer_norm"),
        *dense("projection", "head"),
    ]


def entries(config):
    return [
        *inside("vision", "vision_model", vision_entries(config.vision_config)),
        *inside("text", "text_model", text_entries(config.text_config)),
        *array("log_scale", "logit_scale"),
        *array("similarity_bias", "logit_bias"),
    ]


def plain_sizes(module):
    """Sizes, of configs that know no such dropout."""
    return {name: value for name, value in sizes(module).items() if not name.endswith("dropout_prob")}


def vision_config(module):
    from transformers import SiglipVisionConfig

    return SiglipVisionConfig(
        **plain_sizes(module), patch_size=module.patch, image_size=image_size_of(module), vision_use_head=module.pool
    )  # fmt: skip


def text_config(module):
    from transformers import SiglipTextConfig

    places = module.positions
    return SiglipTextConfig(
        **plain_sizes(module), vocab_size=module.vocabulary, max_position_embeddings=places, projection_size=module.shared_width
    )


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
    prefix="vision_model",
    ignored=IGNORED,
    positions=lambda config: {"position_table": grid_of(config)},
    kind=SiglipVision,
    config=vision_config,
)
TEXT_FAMILY = Family(text_tower, text_entries, ids, prefix="text_model", ignored=IGNORED, kind=SiglipText, config=text_config)

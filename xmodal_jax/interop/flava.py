"""FLAVA checkpoints (transformers: FlavaModel, and FlavaForPreTraining, whose heads and codebook are left out)."""

from xmodal_jax.errors import UserError
from xmodal_jax.interop.bert import example as ids
from xmodal_jax.interop.clip import inside, pictures
from xmodal_jax.interop.families import Family, grid_of, settings
from xmodal_jax.interop.layout import array, dense, norm, patches, stack
from xmodal_jax.interop.vit import PARTS
from xmodal_jax.models.flava import FLAVA, ImageTower, PairTower, TextTower


def module(config, groups, dtype="float32", **more):
    image, text, pair = config.image_config, config.text_config, config.multimodal_config
    if not (image.qkv_bias and text.qkv_bias and pair.qkv_bias and pair.use_cls_token):
        raise UserError("A FLAVA without biases of q, k and v, or without a class token for pairs, is not supported.")
    more = {"dtype": dtype, **more}

    def own(config):
        return settings(config, closing_norm=False) | more

    return FLAVA(
        ImageTower(patch=image.patch_size, grid=grid_of(image), **own(image)),
        TextTower(
            vocabulary=text.vocab_size, positions=text.max_position_embeddings, types=text.type_vocab_size, **own(text)
        ),
        PairTower(**own(pair)), config.projection_dim, dtype,
    )  # fmt: skip


def entries(config):
    image, text, pair = config.image_config, config.text_config, config.multimodal_config

    def tower(config):
        return [
            *stack("encoder", "encoder.layer.{}", config.num_hidden_layers, **PARTS),
            *norm("norm", "layernorm"),
            *dense("pooler", "pooler.dense"),
        ]

    pixels = [
        *array("class_token", "embeddings.cls_token"),
        *array("mask_token", "embeddings.mask_token"),
        *array("position_table", "embeddings.position_embeddings"),
        *dense(
            "patch_embed/projection",
            "embeddings.patch_embeddings.projection",
            layout=patches(image.patch_size, image.num_channels),
        ),
    ]
    words = [
        *array("embed/words/embedding", "embeddings.word_embeddings.weight"),
        *array("embed/places/embedding", "embeddings.position_embeddings.weight"),
        *array("embed/kinds/embedding", "embeddings.token_type_embeddings.weight"),
        *norm("embed/norm", "embeddings.LayerNorm"),
    ]
    return [
        *inside("image", "image_model", pixels + tower(image)),
        *inside("text", "text_model", words + tower(text)),
        *inside("pair", "multimodal_model", [*array("class_token", "cls_token"), *tower(pair)]),
        *dense("image_to_pair", "image_to_mm_projection"),
        *dense("text_to_pair", "text_to_mm_projection"),
        *dense("image_projection", "image_projection"),
        *dense("text_projection", "text_projection"),
        *array("log_scale", "logit_scale"),
    ]


def example(config):
    return (*pictures(config.image_config), *ids(config.text_config))


LEFT_OUT = (r"^(mim|mlm|itm|mmm_image|mmm_text)_head\.", r"^image_codebook\.", r"position_ids$", r"token_type_ids$")
FAMILY = Family(
    module,
    entries,
    example,
    prefix="flava",
    ignored=LEFT_OUT,
    positions=lambda config: {"image/position_table": grid_of(config.image_config)},
)

"""BLIP checkpoints (transformers: BlipModel, BlipForConditionalGeneration, BlipForImageTextRetrieval,
BlipForQuestionAnswering)."""

import dataclasses

import jax.numpy as jnp

from xmodal_jax.interop.bert import PARTS as TEXT_PARTS
from xmodal_jax.interop.bert import example as ids
from xmodal_jax.interop.clip import inside
from xmodal_jax.interop.families import Family, grid_of, pair, refuse_untied, settings
from xmodal_jax.interop.layout import DENSE, FLAT, Entry, array, dense, norm, patches, side_by_side, stack
from xmodal_jax.models.blip import BLIP, BlipText, BlipVision


def text_module(config, dtype, **more):
    return BlipText(
        vocabulary=config.vocab_size, positions=config.max_position_embeddings, dtype=dtype,
        **settings(config, post_norm=True), **more,
    )  # fmt: skip


def module(config, groups, dtype="float32", **more):
    text, read = config.text_config, {"dual", "reads"} & set(groups)
    for part in (config, text):
        refuse_untied(part, groups)
    return BLIP(
        BlipVision(
            patch=config.vision_config.patch_size, grid=grid_of(config.vision_config), dtype=dtype,
            **settings(config.vision_config, closing_norm=False), **more,
        ),
        text_module(text, dtype, pooler="dual" in groups, **more) if read else None,
        text_module(text, dtype, writes=True, **more) if "decoder" in groups else None,
        config.projection_dim if "dual" in groups else config.image_text_hidden_size if "retrieval" in groups else 0,
        "dual" not in groups, "retrieval" in groups, "dual" in groups, dtype,
    )  # fmt: skip


def vision_entries(config):
    layer, block, layers = "encoder.layers.{}", "encoder/layers", config.num_hidden_layers
    return [
        *array("class_token", "embeddings.class_embedding"),
        *array("position_table", "embeddings.position_embedding"),
        *dense("patch_embed/projection", "embeddings.patch_embedding", layout=patches(config.patch_size)),
        *norm(f"{block}/norm_attention", f"{layer}.layer_norm1", layers),
        Entry(f"{block}/attention/qkv/kernel", (f"{layer}.self_attn.qkv.weight",), DENSE, layers),
        Entry(f"{block}/attention/qkv/bias", (f"{layer}.self_attn.qkv.bias",), FLAT, layers),
        *dense(f"{block}/attention/out", f"{layer}.self_attn.projection", layers),
        *norm(f"{block}/norm_mlp", f"{layer}.layer_norm2", layers),
        *dense(f"{block}/up", f"{layer}.mlp.fc1", layers),
        *dense(f"{block}/down", f"{layer}.mlp.fc2", layers),
        *norm("norm", "post_layernorm"),
    ]


def text_entries(config, writes=False):
    layer, block, layers = "encoder.layer.{}", "encoder/layers", config.num_hidden_layers
    cross, base = f"{layer}.crossattention", "bert." if writes else ""
    found = [
        *array("embed/words/embedding", "embeddings.word_embeddings.weight"),
        *array("embed/places/embedding", "embeddings.position_embeddings.weight"),
        *norm("embed/norm", "embeddings.LayerNorm"),
        *stack("encoder", layer, layers, **TEXT_PARTS),
        *side_by_side(f"{block}/cross/q", [f"{cross}.self.query"], layers),
        *side_by_side(f"{block}/cross/kv", [f"{cross}.self.key", f"{cross}.self.value"], layers),
        *dense(f"{block}/cross/out", f"{cross}.output.dense", layers),
        *norm(f"{block}/norm_cross", f"{cross}.output.LayerNorm", layers),
    ]
    found = [dataclasses.replace(entry, theirs=tuple(base + name for name in entry.theirs)) for entry in found]
    if not writes:
        return found
    return [
        *found,
        *dense("lm_hidden", "cls.predictions.transform.dense"),
        *norm("lm_norm", "cls.predictions.transform.LayerNorm"),
        *array("lm_bias", "cls.predictions.bias"),
    ]


def entries(config):
    """Groups: of the dual encoder, of a text that reads the image, of retrieval, and of what writes."""
    text = config.text_config

    def of(group, found):
        return [dataclasses.replace(entry, group=group) for entry in found]

    return [
        *inside("vision", "vision_model", vision_entries(config.vision_config)),
        *of("dual", inside("text", "text_model", text_entries(text))),
        *of("dual", inside("text", "text_model", dense("pooler", "pooler.dense"))),
        *of("dual", dense("image_projection", "visual_projection", bias=False)),
        *of("dual", dense("text_projection", "text_projection", bias=False)),
        *of("dual", array("log_scale", "logit_scale")),
        *of("reads", inside("text", "text_encoder", text_entries(text))),
        *of("retrieval", dense("image_projection", "vision_proj")),
        *of("retrieval", dense("text_projection", "text_proj")),
        *of("retrieval", dense("match_head", "itm_head")),
        *of("decoder", inside("decoder", "text_decoder", text_entries(text, writes=True))),
    ]


IGNORED = (r"position_ids$", r"^text_decoder\.cls\.predictions\.decoder\.")  # a buffer, copies of tied weights
FAMILY = Family(
    module,
    entries,
    lambda config: (jnp.zeros((1, *pair(config.vision_config.image_size), 3)), *ids(config.text_config)),
    ignored=IGNORED,
    positions=lambda config: {"vision/position_table": grid_of(config.vision_config)},
)

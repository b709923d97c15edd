"""DeBERTa v2 and v3 checkpoints (transformers: DebertaV2Model, DebertaV2ForMaskedLM, DebertaV2ForSequenceClassification)."""

import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.interop.bert import PARTS
from xmodal_jax.interop.families import Family, activation, name_of_activation, refuse_untied, settings, sizes
from xmodal_jax.interop.layout import array, dense, norm, side_by_side, stack
from xmodal_jax.models.backbones.deberta import DeBERTa


def module(config, groups, **more):
    refuse_untied(config, groups)
    if getattr(config, "conv_kernel_size", 0) > 0:
        raise UserError(
            f"A DeBERTa with a convolution (conv_kernel_size={config.conv_kernel_size}, as v2-xlarge) is not supported."
        )
    if config.pooler_hidden_size != config.hidden_size:
        raise UserError(f"A DeBERTa with pooler_hidden_size={config.pooler_hidden_size} is not supported.")
    longest = config.max_relative_positions
    return DeBERTa(
        vocabulary=config.vocab_size, positions=config.max_position_embeddings if config.position_biased_input else 0,
        types=config.type_vocab_size, inner=getattr(config, "embedding_size", 0), distances=config.relative_attention,
        terms=terms_of(config), shared=getattr(config, "share_att_key", False),
        buckets=max(getattr(config, "position_buckets", 0), 0),
        longest=longest if longest > 0 else config.max_position_embeddings, norm_distances=normed(config),
        pooler=activation(config.pooler_hidden_act) if "pooler" in groups else "",
        masked_lm="masked_lm" in groups or "masked_lm_v3" in groups, labels=config.num_labels if "classifier" in groups else 0,
        **settings(config, post_norm=True), **more,
    )  # fmt: skip


def config(module):
    from transformers import DebertaV2Config

    inner = {"embedding_size": module.inner} if module.inner else {}
    pooler = {"pooler_hidden_act": name_of_activation(module.pooler)} if module.pooler else {}
    return DebertaV2Config(
        vocab_size=module.vocabulary, max_position_embeddings=module.positions or module.longest,
        position_biased_input=module.positions > 0, type_vocab_size=module.types, relative_attention=module.distances,
        pos_att_type=list(module.terms), share_att_key=module.shared, position_buckets=module.buckets or -1,
        max_relative_positions=module.longest, norm_rel_ebd="layer_norm" if module.norm_distances else "none",
        pooler_hidden_size=module.width, **inner, **pooler, **sizes(module),
    )  # fmt: skip


def inner_of(config):
    """Width of the tables of words, positions and types."""
    return getattr(config, "embedding_size", config.hidden_size)


def terms_of(config):
    """Kinds of scores between words and distances."""
    return tuple(term for term in ("c2p", "p2c") if term in (config.pos_att_type or ()))


def normed(config):
    """Whether the vectors of distances are normalised."""
    return "layer_norm" in [part.strip() for part in getattr(config, "norm_rel_ebd", "none").lower().split("|")]


def entries(config):
    L, block, layer = config.num_hidden_layers, "encoder/layers", "encoder.layer.{}"
    attention, tables, head = f"{layer}.attention.self", "embeddings", "cls.predictions"
    out = [
        *array("embed/words/embedding", f"{tables}.word_embeddings.weight"),
        *norm("embed/norm", f"{tables}.LayerNorm"),
        *stack("encoder", layer, L, **PARTS | {"qkv": [f"{name}_proj" for name in PARTS["qkv"]]}),
        *dense("lm_hidden", f"{head}.transform.dense", group="masked_lm"),
        *norm("lm_norm", f"{head}.transform.LayerNorm", group="masked_lm"),
        *array("lm_bias", f"{head}.bias", group="masked_lm"),
        # a config of v3 does not say that its head has these names
        *dense("lm_hidden", "lm_predictions.lm_head.dense", group="masked_lm_v3"),
        *norm("lm_norm", "lm_predictions.lm_head.LayerNorm", group="masked_lm_v3"),
        *array("lm_bias", "lm_predictions.lm_head.bias", group="masked_lm_v3"),
        *dense("pooler", "pooler.dense", group="pooler"),
        *dense("classifier", "classifier", group="classifier"),
    ]
    if config.position_biased_input:
        out += array("embed/places/embedding", f"{tables}.position_embeddings.weight")
    if config.type_vocab_size:
        out += array("embed/kinds/embedding", f"{tables}.token_type_embeddings.weight")
    if inner_of(config) != config.hidden_size:
        out += dense("embed/projection", f"{tables}.embed_proj", bias=False)
    if not config.relative_attention:
        return out
    out += array("distance_table", "encoder.rel_embeddings.weight")
    if normed(config):
        out += norm("distance_norm", "encoder.LayerNorm")
    if not getattr(config, "share_att_key", False):
        for term, ours, theirs in (("c2p", "place_k", "pos_key_proj"), ("p2c", "place_q", "pos_query_proj")):
            if term in terms_of(config):
                out += side_by_side(f"{block}/attention/{ours}", [f"{attention}.{theirs}"], L)
    return out


def example(config):
    return (jnp.zeros((1, 2), jnp.int32),)


HEADS = ("masked_lm", "masked_lm_v3", "pooler", "classifier")
IGNORED = (r"position_ids$", r"^cls\.predictions\.decoder\.", r"^mask_predictions\.")  # a buffer, copies, v3's other trainer
FAMILY = Family(module, entries, example, "deberta", HEADS, IGNORED, kind=DeBERTa, config=config)

"""LXMERT and VisualBERT checkpoints (transformers: LxmertModel, VisualBertModel, and those for pre-training, whose heads are
left out)."""

import jax.numpy as jnp

from xmodal_jax.interop.bert import PARTS
from xmodal_jax.interop.families import Family, activation, settings
from xmodal_jax.interop.layout import array, dense, norm, side_by_side, stack
from xmodal_jax.models.region_pairs import LXMERT, VisualBERT
from xmodal_jax.models.transformer import Style

EPSILON = 1e-12  # LXMERT's, which its config does not tell


def words(ours):
    """Vectors of words, places and kinds, and their normalisation."""
    return [
        *array(f"{ours}/words/embedding", "embeddings.word_embeddings.weight"),
        *array(f"{ours}/places/embedding", "embeddings.position_embeddings.weight"),
        *array(f"{ours}/kinds/embedding", "embeddings.token_type_embeddings.weight"),
        *norm(f"{ours}/norm", "embeddings.LayerNorm"),
    ]


def lxmert(config, groups, **more):
    return LXMERT(
        vocabulary=config.vocab_size, positions=config.max_position_embeddings, types=config.type_vocab_size,
        features=config.visual_feat_dim, width=config.hidden_size, heads=config.num_attention_heads, layers=config.l_layers,
        image_layers=config.r_layers, cross_layers=config.x_layers, mlp_ratio=config.intermediate_size / config.hidden_size,
        style=Style(post_norm=True, epsilon=EPSILON, activation=activation(config.hidden_act)), **more,
    )  # fmt: skip


def lxmert_entries(config):
    layers, layer, ours = config.x_layers, "encoder.x_layers.{}", "interaction/streams"
    cross, attend = f"{layer}.visual_attention", f"{ours}/cross"
    out = [
        *words("text/embed"),
        *stack("text/encoder", "encoder.layer.{}", config.l_layers, **PARTS),
        *dense("image/feature", "encoder.visn_fc.visn_fc"),
        *norm("image/norm_feature", "encoder.visn_fc.visn_layer_norm"),
        *dense("image/geometry", "encoder.visn_fc.box_fc"),
        *norm("image/norm_geometry", "encoder.visn_fc.box_layer_norm"),
        *stack("interaction/encoder", "encoder.r_layers.{}", config.r_layers, **PARTS),
        *side_by_side(f"{attend}/q", [f"{cross}.att.query"], layers),
        *side_by_side(f"{attend}/kv", [f"{cross}.att.key", f"{cross}.att.value"], layers),
        *dense(f"{attend}/out", f"{cross}.output.dense", layers),
        *norm(f"{ours}/norm_cross", f"{cross}.output.LayerNorm", layers),
        *dense("interaction/pooler", "pooler.dense"),
    ]
    for name, theirs in (("text", "lang"), ("image", "visn")):
        attend = f"{layer}.{theirs}_self_att"
        qkv = [f"{attend}.self.{part}" for part in ("query", "key", "value")]
        out += [
            *side_by_side(f"{ours}/{name}_attention/qkv", qkv, layers),
            *dense(f"{ours}/{name}_attention/out", f"{attend}.output.dense", layers),
            *norm(f"{ours}/norm_{name}_attention", f"{attend}.output.LayerNorm", layers),
            *dense(f"{ours}/{name}_mlp/up", f"{layer}.{theirs}_inter.dense", layers),
            *dense(f"{ours}/{name}_mlp/down", f"{layer}.{theirs}_output.dense", layers),
            *norm(f"{ours}/norm_{name}_mlp", f"{layer}.{theirs}_output.LayerNorm", layers),
        ]
    return out


def lxmert_example(config):
    return jnp.zeros((1, 2), jnp.int32), jnp.zeros((1, 3, config.visual_feat_dim)), jnp.zeros((1, 3, 4))


def visualbert(config, groups, **more):
    return VisualBERT(
        vocabulary=config.vocab_size, positions=config.max_position_embeddings, types=config.type_vocab_size,
        features=config.visual_embedding_dim, pooler="pooler" in groups, **settings(config, post_norm=True), **more,
    )  # fmt: skip


def visualbert_entries(config):
    return [
        *words("embed"),
        *array("image_kind_table", "embeddings.visual_token_type_embeddings.weight"),
        *array("image_place_table", "embeddings.visual_position_embeddings.weight"),
        *dense("feature", "embeddings.visual_projection"),
        *stack("encoder", "encoder.layer.{}", config.num_hidden_layers, **PARTS),
        *dense("pooler", "pooler.dense", group="pooler"),
    ]


def visualbert_example(config):
    return jnp.zeros((1, 2), jnp.int32), jnp.zeros((1, 3, config.visual_embedding_dim))


# Heads of pre-training and of questions stand outside the base model.
HEADS = (r"^cls\.", r"^(obj_predict_head|answer_head)\.")
BUFFERS = (r"position_ids$", r"token_type_ids$")
LXMERT_FAMILY = Family(lxmert, lxmert_entries, lxmert_example, prefix="lxmert", ignored=(*HEADS, *BUFFERS))
VISUALBERT_FAMILY = Family(visualbert, visualbert_entries, visualbert_example, prefix="visual_bert", ignored=(*HEADS, *BUFFERS))

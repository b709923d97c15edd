"""BERT and RoBERTa checkpoints (transformers: the base models and those for pre-training, masked words, classes)."""

import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.interop.families import Family, refuse_untied, settings, sizes
from xmodal_jax.interop.layout import array, dense, norm, stack
from xmodal_jax.models.backbones.bert import BERT

PARTS = {
    "qkv": [f"attention.self.{name}" for name in ("query", "key", "value")], "out": "attention.output.dense",
    "norm_attention": "attention.output.LayerNorm", "up": "intermediate.dense", "down": "output.dense",
    "norm_mlp": "output.LayerNorm",
}  # fmt: skip


def module(config, groups, **more):
    refuse_untied(config, groups)
    if getattr(config, "is_decoder", False):  # ALIGN's text encoder cannot be one
        raise UserError(f"A {config.model_type} that sees no later words (is_decoder=true) is not supported.")
    return BERT(
        vocabulary=config.vocab_size, positions=config.max_position_embeddings, types=config.type_vocab_size,
        pooler="pooler" in groups, masked_lm="masked_lm" in groups, next_sentence="next_sentence" in groups,
        labels=config.num_labels if "classifier" in groups else 0, **settings(config, post_norm=True), **more,
    )  # fmt: skip


def roberta_module(config, groups, **more):
    if "masked_lm" in groups and config.hidden_act != "gelu":
        raise UserError(
            f"A RoBERTa with hidden_act={config.hidden_act} has a head that takes gelu all the same: read it by heads=()."
        )
    return module(config, groups, pad_positions=config.pad_token_id, head_hidden="classifier" in groups, **more)


def config(module):
    from transformers import BertConfig, RobertaConfig

    tables = dict(vocab_size=module.vocabulary, max_position_embeddings=module.positions, type_vocab_size=module.types)
    if module.pad_positions is None:
        return BertConfig(**tables, **sizes(module))
    return RobertaConfig(pad_token_id=module.pad_positions, **tables, **sizes(module))


def positions_from_zero(module, params):
    """(module, parameters) of a BERT that is equal to a RoBERTa wherever padding stands at the end.

    Ours counts the words that its mask shows; the original takes the ids that differ from its padding's for words.
    """
    first, embed = module.pad_positions + 1, params["embed"]
    places = {"embedding": embed["places"]["embedding"][first:]}
    module = module.clone(positions=module.positions - first, pad_positions=None)
    return module, params | {"embed": embed | {"places": places}}


def base_entries(config):
    return [
        *array("embed/words/embedding", "embeddings.word_embeddings.weight"),
        *array("embed/places/embedding", "embeddings.position_embeddings.weight"),
        *array("embed/kinds/embedding", "embeddings.token_type_embeddings.weight"),
        *norm("embed/norm", "embeddings.LayerNorm"),
        *stack("encoder", "encoder.layer.{}", config.num_hidden_layers, **PARTS),
        *dense("pooler", "pooler.dense", group="pooler"),
    ]


def entries(config):
    return [
        *base_entries(config),
        *dense("lm_hidden", "cls.predictions.transform.dense", group="masked_lm"),
        *norm("lm_norm", "cls.predictions.transform.LayerNorm", group="masked_lm"),
        *array("lm_bias", "cls.predictions.bias", group="masked_lm"),
        *dense("next_sentence", "cls.seq_relationship", group="next_sentence"),
        *dense("classifier", "classifier", group="classifier"),
    ]


def roberta_entries(config):
    return [
        *base_entries(config),
        *dense("lm_hidden", "lm_head.dense", group="masked_lm"),
        *norm("lm_norm", "lm_head.layer_norm", group="masked_lm"),
        *array("lm_bias", "lm_head.bias", group="masked_lm"),
        *dense("head_hidden", "classifier.dense", group="classifier"),
        *dense("classifier", "classifier.out_proj", group="classifier"),
    ]


def example(config):
    return (jnp.zeros((1, 2), jnp.int32),)


HEADS = ("masked_lm", "next_sentence", "classifier")
IGNORED = (r"position_ids$", r"^cls\.predictions\.decoder\.", r"^lm_head\.decoder\.")  # a buffer, and copies of tied weights
BERT_FAMILY = Family(module, entries, example, "bert", HEADS, IGNORED, kind=BERT, config=config)
ROBERTA_FAMILY = Family(roberta_module, roberta_entries, example, "roberta", HEADS, IGNORED, kind=BERT, config=config)

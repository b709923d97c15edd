"""What a family of public checkpoints is to us."""

import dataclasses
import json
import os
from collections.abc import Callable

from xmodal_jax.config import choose
from xmodal_jax.errors import UserError
from xmodal_jax.models.transformer import Style

# transformers' names of element-wise functions -> ours (models/transformer.ACTIVATIONS)
NAMES_OF_ACTIVATIONS = {
    "gelu": "gelu_exact", "gelu_new": "gelu", "gelu_pytorch_tanh": "gelu", "gelu_fast": "gelu", "quick_gelu": "gelu_quick",
    "relu": "relu", "silu": "silu", "swish": "silu", "tanh": "tanh",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Family:
    """One architecture of transformers and the module of ours that equals it.

    Attributes:
      module: (config of transformers, groups, **settings of the module) -> linen module.
      entries: config -> the list of `layout.Entry` for every group.
      example: config -> arguments of the module's call, for its initialisation.
      prefix: of the base model's names inside a model with a head ("vit" of "vit.encoder.layer.0...").
      heads: groups whose names stand outside the base model, without its prefix.
      ignored: patterns of names that hold nothing of their own (buffers, copies of tied weights).
      positions: config -> {path of a table of image positions [1, 1 + h w, D]: (h, w)}, which can be interpolated to another
        image size.
      kind: the module's class. config: module -> config, the inverse of `module`; it need not look for what a config cannot
        say: `pretrained.settings_of` does. None where no larger model of ours is built of such a module.
    """

    module: Callable
    entries: Callable
    example: Callable
    prefix: str = ""
    heads: tuple = ()
    ignored: tuple = ()
    positions: Callable | None = None
    kind: type | None = None
    config: Callable | None = None


class OwnConfig:
    """Base of a dataclass that stands where transformers has no config, with that one's ways to a folder and back."""

    @classmethod
    def from_dict(cls, values):
        """What a config.json says; keys that are not ours are passed over. `id2label` gives the classes as well."""
        known = {field.name for field in dataclasses.fields(cls)}
        classes = {"num_labels": len(values["id2label"])} if "id2label" in values else {}
        return cls(**{name: value for name, value in (classes | values).items() if name in known})

    def save_pretrained(self, folder):
        """Write config.json."""
        with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(self), file, indent=2)


def refuse_untied(config, groups):
    """Raise a UserError for a head that writes words with vectors of their own."""
    if {"masked_lm", "masked_lm_v3", "decoder"} & set(groups) and not getattr(config, "tie_word_embeddings", True):
        raise UserError(
            f"A {config.model_type} whose head has vectors of words of its own (tie_word_embeddings=false) is not "
            "supported; the encoder alone is: heads=()."
        )


def activation(name):
    """Our name of an activation of transformers."""
    return choose(NAMES_OF_ACTIVATIONS, name, "activation of the checkpoint")


def name_of_activation(name):
    """transformers' name of an activation of ours."""
    return next(theirs for theirs, ours in NAMES_OF_ACTIVATIONS.items() if ours == name)


def settings(config, **style):
    """Settings of a module of ours, of transformers' config of an encoder; `style`: more of its Style."""
    return dict(
        width=config.hidden_size, heads=config.num_attention_heads, layers=config.num_hidden_layers,
        mlp_ratio=config.intermediate_size / config.hidden_size,
        style=Style(epsilon=config.layer_norm_eps, activation=activation(config.hidden_act), **style),
    )  # fmt: skip


def sizes(module):
    """Settings of transformers' configs of encoders, of a module of ours: the inverse of `settings`."""
    return dict(
        hidden_size=module.width, num_hidden_layers=module.layers, num_attention_heads=module.heads,
        intermediate_size=round(module.width * module.mlp_ratio), hidden_act=name_of_activation(module.style.activation),
        layer_norm_eps=module.style.epsilon, hidden_dropout_prob=module.dropout, attention_probs_dropout_prob=0.0,
        **classes(module),
    )  # fmt: skip


def classes(module):
    """The number of classes of a module that has a head for them."""
    return {"num_labels": module.labels} if getattr(module, "labels", 0) else {}


def image_size_of(module):
    """Pixels of a module with grid and patch: an int, or (rows, columns)."""
    rows, columns = (side * module.patch for side in module.grid)
    return rows if rows == columns else (rows, columns)


def grid_of(config):
    """(rows, columns) of patches of a config with image_size and patch_size."""
    (height, width), (p, q) = pair(config.image_size), pair(config.patch_size)
    return height // p, width // q


def pair(size):
    """An int or a pair -> (rows, columns)."""
    return (size, size) if isinstance(size, int) else tuple(size)

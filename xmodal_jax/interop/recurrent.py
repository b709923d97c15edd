"""States of PyTorch's nn.LSTM and nn.GRU as parameters of ours, and back.

A folder holds model.safetensors with PyTorch's names and "words.weight", the table of words in front, and a config.json
{"model_type": "lstm", "hidden_size": 512, ...} as `RecurrentConfig` writes it: transformers itself has neither.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from xmodal_jax.errors import UserError
from xmodal_jax.interop.families import Family, OwnConfig
from xmodal_jax.interop.layout import DENSE, Entry, array
from xmodal_jax.interop.trees import leaves, nest
from xmodal_jax.models.backbones.recurrent import Recurrent


@dataclasses.dataclass
class RecurrentConfig(OwnConfig):
    """Of an nn.LSTM or nn.GRU over a table of `vocab_size` words."""

    model_type: str = "lstm"
    vocab_size: int = 30522
    hidden_size: int = 512
    num_layers: int = 2
    bidirectional: bool = False


def module(config, groups, **settings):
    return Recurrent(
        config.model_type, config.vocab_size, config.hidden_size, config.num_layers, config.bidirectional, **settings
    )


def config(module):
    if not module.vocabulary:
        raise UserError(f"A {module.cell} without a table of words does not say how wide its input is: see `to_torch`.")
    return RecurrentConfig(module.cell, module.vocabulary, module.width, module.layers, module.bidirectional)


def entries(layers, bidirectional=False):
    """How the parameters of `models.backbones.recurrent.Recurrent` are named in a PyTorch state."""
    out = []
    for number in range(layers):
        for ours, suffix in (("forward", ""), ("backward", "_reverse"))[: 1 + bidirectional]:
            mine, theirs = f"{ours}_{number}", f"l{number}{suffix}"
            out += [
                Entry(f"{mine}/input/kernel", (f"weight_ih_{theirs}",), DENSE),
                *array(f"{mine}/input/bias", f"bias_ih_{theirs}"),
                Entry(f"{mine}/recurrent_kernel", (f"weight_hh_{theirs}",), DENSE),
                *array(f"{mine}/recurrent_bias", f"bias_hh_{theirs}"),
            ]
    return out


def from_torch(state, layers, bidirectional=False):
    """{name: numpy array} of an nn.LSTM or nn.GRU -> parameters, without a table of words.

    Raises UserError where other arrays are there than those of so many layers and directions (as without biases).
    """
    out, found = {}, entries(layers, bidirectional)
    if wrong := sorted({entry.theirs[0] for entry in found} ^ set(state)):
        raise UserError(f"This state is not that of {layers} layers, bidirectional={bidirectional}: {', '.join(wrong)}.")
    for entry in found:
        theirs = np.asarray(state[entry.theirs[0]])
        out[entry.ours] = entry.layout.read(theirs, theirs.shape[::-1])
    return nest(out)


def to_torch(params, layers, bidirectional=False):
    """Parameters -> {name: numpy array} for `load_state_dict`; a table of words has no place there and is left out."""
    flat = leaves(params)
    return {e.theirs[0]: np.ascontiguousarray(e.layout.write(np.asarray(flat[e.ours]))) for e in entries(layers, bidirectional)}


def all_entries(config):
    return [*array("words/embedding", "words.weight"), *entries(config.num_layers, config.bidirectional)]


def example(config):
    return (jnp.zeros((1, 2), jnp.int32),)


FAMILY = Family(module, all_entries, example, kind=Recurrent, config=config)

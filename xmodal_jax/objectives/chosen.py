"""Rows of other pairs that an objective chose from the whole batch, and what they show, wherever they lie.

In a batch that is computed at once their encoded tokens are taken from those of the batch; in one that is computed in parts
they may lie in another part, and are encoded again from what they are made of (equal but for dropout).
"""

import dataclasses
from typing import Any

import jax

from xmodal_jax.objectives.inputs import see
from xmodal_jax.objectives.views import text


@dataclasses.dataclass(frozen=True)
class Chosen:
    """rows: {name: int32 [b]}, numbers of rows of the whole batch; raw: {name: their arrays}, or None: the batch is whole."""

    rows: Any
    raw: Any = None

    def images(self, verbs, batch, name):
        """`encode_image` of the rows of that name."""
        if self.raw is None:
            return jax.tree.map(lambda x: x[self.rows[name]], see(verbs, batch))
        return see(verbs, self.raw[name])

    def texts(self, verbs, batch, name):
        """`encode_text` of their captions."""
        if self.raw is None:
            return jax.tree.map(lambda x: x[self.rows[name]], text(verbs, batch, "clean"))
        return text(verbs, self.raw[name], "clean")


jax.tree_util.register_dataclass(Chosen, ["rows", "raw"], [])


def taken(chosen, batch):
    """The same with what its rows are made of, of the whole batch."""
    return Chosen(chosen.rows, {name: jax.tree.map(lambda x, i=index: x[i], batch) for name, index in chosen.rows.items()})

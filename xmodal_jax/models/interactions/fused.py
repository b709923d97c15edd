"""What an interaction gives."""

from typing import Any

import flax
import jax
import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.models.dense import Dense

POOLS = ("none", "first", "product")


@flax.struct.dataclass
class Fused:
    """text [B, T, D] and image [B, N, D], vectors of tokens that have seen the other modality, in the order of the encoders';
    text_mask [B, T], image_mask [B, N]; pooled [B, D], one vector of the pair."""

    text: Any
    image: Any
    text_mask: Any
    image_mask: Any
    pooled: Any


def refuse_mode(interaction, mode, valid):
    """Raise a UserError for a mode that an interaction does not have."""
    if not isinstance(mode, str) or mode not in valid:
        raise UserError(f"{type(interaction).__name__}: mode={mode!r}: must be one of {', '.join(valid)}.")


def pooled(pool, width, dtype, x, y):
    """One vector of a pair [B, width], of its first word x [B, D] and its first image token y [B, E]: "none", x; "first",
    tanh(W x) (BERT); "product", relu(W x) o relu(V y) (ViLBERT). To be called where a module makes its layers."""
    if pool not in POOLS:
        raise UserError(f"config.model.interaction.pool={pool!r}: must be one of {', '.join(POOLS)}.")
    if pool == "none":
        return x
    x = Dense(width, dtype=dtype, name="pooler")(x)
    if pool == "first":
        return jnp.tanh(x)
    return jax.nn.relu(x) * jax.nn.relu(Dense(width, dtype=dtype, name="pooler_image")(y))

"""Pre-norm transformer blocks, stacked by `lax.scan` so that depth costs neither compile time nor program size."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmodal_jax.models.attention import Attention
from xmodal_jax.models.dense import Dense
from xmodal_jax.models.platform import lay_out, platform

REMAT = {
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


@jax.custom_vjp
def gelu(x):
    """GELU by tanh; its gradient recomputes it, which is less work than to write and read the tanh of every hidden value."""
    return nn.gelu(x)


def _gelu_gradient(x, dy):
    x = jax.lax.optimization_barrier(x)  # else the compiler finds the tanh of the forward pass, and keeps it
    return jax.vjp(nn.gelu, x)[1](dy)


gelu.defvjp(lambda x: (nn.gelu(x), x), _gelu_gradient)


class Block(nn.Module):
    """x + attention(norm x), [+ cross-attention], + mlp(norm x)."""

    width: int
    heads: int
    mlp_ratio: float = 4.0
    cross: bool = False
    dropout: float = 0.0
    dtype: str = "float32"
    sequence: bool = False

    @nn.compact
    def __call__(self, x, cache, mask, context, context_mask, index, train):
        def drop(y):
            return nn.Dropout(self.dropout, deterministic=not train)(y) if self.dropout else y

        def norm(name):
            return nn.LayerNorm(dtype=self.dtype, name=name)

        x = lay_out(x, self.sequence)
        y, cache = Attention(self.width, self.heads, self.dtype, name="attention")(
            norm("norm_attention")(x), mask, cache=cache, index=index
        )
        x = x + drop(y)
        if self.cross:
            y, _ = Attention(self.width, self.heads, self.dtype, name="cross")(
                norm("norm_cross")(x), context_mask, context=context
            )
            x = x + drop(y)
        y = Dense(int(self.width * self.mlp_ratio), dtype=self.dtype, name="up")(norm("norm_mlp")(x))
        y = Dense(self.width, dtype=self.dtype, name="down")(gelu(y))
        return lay_out(x + drop(y), self.sequence), cache


class Stack(nn.Module):
    """`layers` blocks and a closing norm; parameters carry a leading axis of size `layers`.

    remat: "none", "full" (recompute all), "dots" (keep the outputs of weight products).
    sequence: between blocks, tokens are split over the mesh's tensor axis (Korthikanti et al., 2022), for long byte sequences.
    """

    layers: int
    width: int
    heads: int
    mlp_ratio: float = 4.0
    cross: bool = False
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    sequence: bool = False

    @nn.compact
    def __call__(self, x, mask=None, context=None, context_mask=None, cache=None, index=None, train=False):
        """x [B, N, D]; mask broadcastable to [B, H, N, M]; cache: {"k", "v": [layers, B, H, S, d]} -> (x, cache)."""
        if self.layers:
            block = Block
            if REMAT[self.remat] is not None:
                block = nn.remat(Block, policy=REMAT[self.remat], prevent_cse=False, static_argnums=(7,))
            stack = nn.scan(
                block,
                variable_axes={"params": 0},
                split_rngs={"params": True, "dropout": True},
                in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast, nn.broadcast, nn.broadcast),
                out_axes=0,
                length=self.layers,
                unroll=self.layers if platform() == "cpu" else 1,  # a loop costs CPU a third of its speed
            )(self.width, self.heads, self.mlp_ratio, self.cross, self.dropout, self.dtype, self.sequence, name="layers")
            x, cache = stack(x, cache, mask, context, context_mask, index, train)
        return nn.LayerNorm(dtype=self.dtype, name="norm")(x), cache


def empty_cache(layers, batch, heads, length, width, dtype="float32"):
    """Key-value cache of a decoder stack: zeros [layers, B, H, S, d]."""
    shape = (layers, batch, heads, length, width // heads)
    return {"k": jnp.zeros(shape, dtype), "v": jnp.zeros(shape, dtype)}

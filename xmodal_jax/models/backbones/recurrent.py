"""Recurrent text encoders: LSTM (Hochreiter and Schmidhuber, 1997) and GRU (Cho et al., 2014), in PyTorch's form.

Letters: B batch, T tokens, D width of the input, H width of the state, V vocabulary.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmodal_jax.config import choose
from xmodal_jax.models.backbones.encoded import Encoded, mask_of
from xmodal_jax.models.dense import Dense


def lstm(gates, state):
    """gates [B, 4 H]: input, forget, cell, output, of token and state together; state (h, c) -> the next."""
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = nn.sigmoid(f) * state[1] + nn.sigmoid(i) * jnp.tanh(g)
    return nn.sigmoid(o) * jnp.tanh(c), c


def remembering(key, shape):
    """Zeros, but 1 for the forget gates: a new LSTM keeps its state (Jozefowicz et al., 2015)."""
    del key
    return jnp.zeros(shape).at[shape[0] // 4 : shape[0] // 2].set(1.0)


CELLS = {"lstm": 4, "gru": 3}  # gates


class Layer(nn.Module):
    """One direction of one layer: x [B, T, D], mask bool [B, T] -> (states [B, T, H], last state [B, H]).

    States are 0 where the mask is False, and the last one is that of the last token (of the first, in reverse).
    """

    cell: str
    width: int
    reverse: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, mask):
        gates = CELLS[self.cell] * self.width
        inputs = Dense(gates, dtype=self.dtype, name="input")(x)  # [B, T, gates]
        kernel = self.param("recurrent_kernel", nn.initializers.orthogonal(), (self.width, gates))
        bias = self.param("recurrent_bias", remembering if self.cell == "lstm" else nn.initializers.zeros, (gates,))
        kernel, bias = kernel.astype(self.dtype), bias.astype(self.dtype)

        def step(state, token):
            x, valid = token
            h = state[0] @ kernel + bias
            if self.cell == "lstm":
                new = lstm(x + h, state)
            else:
                (xr, xz, xn), (hr, hz, hn) = jnp.split(x, 3, axis=-1), jnp.split(h, 3, axis=-1)
                r, z = nn.sigmoid(xr + hr), nn.sigmoid(xz + hz)
                new = ((1 - z) * jnp.tanh(xn + r * hn) + z * state[0],)
            new = tuple(jnp.where(valid[:, None], a, b) for a, b in zip(new, state, strict=True))
            return new, new[0] * valid[:, None]

        start = tuple(jnp.zeros((len(x), self.width), inputs.dtype) for _ in range(2 if self.cell == "lstm" else 1))
        tokens = jnp.moveaxis(inputs, 1, 0), mask.T  # time in front
        state, states = jax.lax.scan(step, start, tokens, reverse=self.reverse)
        return jnp.moveaxis(states, 0, 1), state[0]


class Recurrent(nn.Module):
    """ids int32 [B, T] or vectors [B, T, D] -> Encoded with x [B, T, H or 2 H]; pooled: last states of the last layer.

    Attributes:
      cell: "lstm" or "gru". vocabulary: of a table of word vectors as wide as `width`, where ids are given (0: none).
      bidirectional: a second direction, side by side with the first. Padding stands at the end.
    """

    cell: str = "lstm"
    vocabulary: int = 0
    width: int = 512
    layers: int = 2
    bidirectional: bool = False
    dropout: float = 0.0
    dtype: str = "float32"

    @nn.compact
    def __call__(self, inputs, mask=None, train=False):
        choose(CELLS, self.cell, "recurrent cell")
        x = inputs
        if self.vocabulary:
            x = nn.Embed(self.vocabulary, self.width, dtype=self.dtype, name="words")(inputs)
        mask = mask_of(x, mask)
        for number in range(self.layers):
            found = [
                Layer(self.cell, self.width, reverse, self.dtype, name=f"{'backward' if reverse else 'forward'}_{number}")(
                    x, mask
                )
                for reverse in ((False, True) if self.bidirectional else (False,))
            ]
            x = jnp.concatenate([states for states, _ in found], axis=-1)
            if self.dropout and number + 1 < self.layers:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return Encoded(x, mask, jnp.concatenate([last for _, last in found], axis=-1))

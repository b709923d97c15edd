"""A visual dictionary: cells of a convolutional grid and the entries that are nearest to them (SOHO, Huang et al., 2021).

    k = argmin_k |z - e_k|,  e = z + sg(e_k - z),  (a, b) = softmax(G [z; e]),  x = norm(a z + b e + place)
z: cells, projected; e_k: entries; sg: no gradient. Entries are no parameters of the gradient: the objective "dictionary" moves
them towards the cells. Letters: B pictures, N cells, D width, K entries.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmodal_jax.models.backbones.encoded import Encoded, mask_of
from xmodal_jax.models.byte_embedding import sincos_2d
from xmodal_jax.models.dense import Dense

TABLE = "dictionary_table"


class Dictionary(nn.Module):
    """Normalised images float [B, H, W, 3] -> Encoded with x [B, N, D], features z [B, N, D], codes int32 [B, N], hidden bool
    [B, N].

    Attributes: grid: a module that gives `Encoded` with x [B, N, F] of a square grid; entries: K; normed: with the norm.
    """

    grid: nn.Module
    width: int = 768
    entries: int = 2048
    dropout: float = 0.0
    dtype: str = "float32"
    normed: bool = False

    @nn.compact
    def __call__(self, images, more=None, train=False):
        """more: {"place" float32 [B]}: hidden are all cells whose entry is that of the cell so far down the picture, 0..1; of
        none where it is below 0."""
        found = self.grid(images, train=train)
        z = Dense(self.width, dtype=self.dtype, name="cell")(found.x[:, found.class_tokens :]).astype(jnp.float32)  # [B, N, D]
        table = self.param(TABLE, nn.initializers.normal(1.0), (self.entries, self.width))
        codes = nearest(jax.lax.stop_gradient(z), table)
        e = z + jax.lax.stop_gradient(table[codes] - z)
        shares = jax.nn.softmax(Dense(2, dtype=self.dtype, name="gate")(jnp.concatenate([z, e], -1)).astype(jnp.float32))
        x = shares[..., :1] * z + shares[..., 1:] * e
        place = jnp.full(len(x), -1.0) if more is None else more["place"]
        N = x.shape[1]
        own = jnp.take_along_axis(codes, jnp.clip((place * N).astype(jnp.int32), 0, N - 1)[:, None], axis=1)  # [B, 1]
        hidden = (codes == own) & (place >= 0)[:, None]
        token = self.param("mask_token", nn.initializers.normal(0.02), (self.width,))
        x = jnp.where(hidden[..., None], token, x).astype(self.dtype)
        side = round(N**0.5)
        x = x + sincos_2d(side, N // side, self.width).astype(x.dtype)
        if self.normed:
            x = nn.LayerNorm(dtype=self.dtype, name="norm")(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return Encoded(x, mask_of(x), x.mean(1), features=z, codes=codes, hidden=hidden)


def nearest(z, table):
    """Numbers of the nearest entries: [B, N, D], [K, D] -> int32 [B, N]."""
    return ((table**2).sum(-1) - 2 * jnp.einsum("bnd,kd->bnk", z, table)).argmin(-1).astype(jnp.int32)

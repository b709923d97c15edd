"""Cells of a convolutional grid as tokens (Pixel-BERT, Huang et al., 2020; SOHO, Huang et al., 2021).

Letters: B pictures, N cells of the grid, S cells drawn, F channels of the grid, D width.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmodal_jax.models.backbones.encoded import Encoded, mask_of
from xmodal_jax.models.dense import Dense


class Cells(nn.Module):
    """Normalised images float [B, H, W, 3] -> Encoded with x [B, N, D]: W c + a vector that all cells share.

    Attributes:
      grid: a module that gives `Encoded` with x [B, N, F]. sample: in training so many cells of each picture, drawn anew each
        time, 0: all.
    """

    grid: nn.Module
    width: int = 768
    sample: int = 0
    dropout: float = 0.0
    dtype: str = "float32"

    @nn.compact
    def __call__(self, images, train=False):
        found = self.grid(images, train=train)
        cells = found.x[:, found.class_tokens :]  # [B, N, F]
        if train and 0 < self.sample < cells.shape[1]:
            noise = jax.random.uniform(self.make_rng("dropout"), cells.shape[:2])
            drawn = jax.lax.top_k(noise, self.sample)[1]  # [B, S]
            cells = jnp.take_along_axis(cells, drawn[..., None], axis=1)
        x = Dense(self.width, dtype=self.dtype, name="cell")(cells.astype(self.dtype))
        x = x + self.param("modality", nn.initializers.normal(0.02), (self.width,)).astype(x.dtype)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return Encoded(x, mask_of(x), x.mean(1))

"""Which region of a picture a phrase means, and the box around it (US 12,386,873 B2, figures 4B and 9).

Regions and words are read together by a transformer, as MDETR (Kamath et al., 2021) does; each word is then aligned with each
region by an inner product, as GLIP (Li et al., 2022), and a phrase with a region by the mean of its words. One more region,
learned, stands for "nothing in this picture". Every region proposes a box by its four distances to the box's sides (FCOS,
Tian et al., 2019). Letters: B phrases, N regions, T words, P width.
"""

from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp

from xmodal_jax.models.dense import Dense
from xmodal_jax.models.transformer import Stack, Style
from xmodal_jax.models.vectors import masked_mean


@flax.struct.dataclass
class Located:
    """logits [B, 1 + N]: of nothing, then of every region; boxes [B, N, 4]: x0, y0, x1, y1 in 0..1, which may lie outside;
    words [B, T, N]: alignment of each word and region."""

    logits: Any
    boxes: Any
    words: Any


class Locator(nn.Module):
    """Tokens of pictures and phrases in one space -> Located. layers, heads: of the transformer that reads both."""

    layers: int
    heads: int = 4
    dtype: str = "float32"

    @nn.compact
    def __call__(self, regions, grid, words, mask, train=False):
        """regions [B, N, P] of a grid (rows, columns), words [B, T, P], mask bool [B, T]."""
        B, N, P = regions.shape
        places = self.param("position_table", nn.initializers.normal(0.02), (1, N, P))
        nothing = self.param("nothing_token", nn.initializers.normal(0.02), (1, 1, P))
        kinds = self.param("modality", nn.initializers.normal(0.02), (2, P))
        regions = jnp.concatenate([jnp.broadcast_to(nothing, (B, 1, P)), regions + places], 1) + kinds[0]  # [B, 1 + N, P]
        x = jnp.concatenate([regions, words + kinds[1]], axis=1).astype(self.dtype)  # [B, 1 + N + T, P]
        shown = jnp.concatenate([jnp.ones((B, 1 + N), bool), mask], axis=1)
        style = Style(epsilon=1e-6)
        x, _ = Stack(self.layers, P, self.heads, dtype=self.dtype, style=style, name="encoder")(
            x, shown[:, None, None], train=train
        )
        regions, words = x[:, : 1 + N], x[:, 1 + N :]
        keys = Dense(P, dtype=self.dtype, name="align_regions")(regions).astype(jnp.float32)
        queries = Dense(P, dtype=self.dtype, name="align_words")(words).astype(jnp.float32)
        aligned = jnp.einsum("btp,bnp->btn", queries, keys) * P**-0.5  # [B, T, 1 + N]
        logits = masked_mean(aligned, mask)
        sides = jax.nn.softplus(Dense(4, dtype=self.dtype, name="sides")(regions[:, 1:]).astype(jnp.float32) - 1.5)
        x, y = centres(grid)
        boxes = jnp.stack([x - sides[..., 0], y - sides[..., 1], x + sides[..., 2], y + sides[..., 3]], axis=-1)
        return Located(logits, boxes, aligned[..., 1:])


def centres(grid):
    """Middles of a grid's cells, row by row: x [N], y [N] in 0..1."""
    rows, columns = grid
    y, x = jnp.mgrid[:rows, :columns]
    return (x.reshape(-1) + 0.5) / columns, (y.reshape(-1) + 0.5) / rows


def iou(a, b):
    """(intersection over union, generalised IoU (Rezatofighi et al., 2019)) of boxes [..., 4], x0, y0, x1, y1."""
    lower, upper = jnp.maximum(a[..., :2], b[..., :2]), jnp.minimum(a[..., 2:], b[..., 2:])
    shared = jnp.prod(jnp.maximum(upper - lower, 0), axis=-1)
    union = jnp.prod(a[..., 2:] - a[..., :2], axis=-1) + jnp.prod(b[..., 2:] - b[..., :2], axis=-1) - shared
    around = jnp.maximum(a[..., 2:], b[..., 2:]) - jnp.minimum(a[..., :2], b[..., :2])
    around = jnp.prod(around, axis=-1)
    found = shared / jnp.maximum(union, 1e-9)
    return found, found - (around - union) / jnp.maximum(around, 1e-9)

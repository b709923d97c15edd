"""Byte sequences to token vectors, one embedding per modality (claim 2), grouped so that bytes never become as many tokens.

Letters: B batch, T text bytes, L bytes, N groups, g bytes per group, e width of a byte's embedding, D width.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from xmodal_jax.data.bytes import OFFSET, PAD, VOCABULARY
from xmodal_jax.errors import UserError
from xmodal_jax.models.dense import Dense


def wave_lengths(width):
    """Angular frequencies of the position code: [width // 2], from 1 down to 1 / 10,000."""
    return np.exp(-np.log(10_000.0) * np.arange(width // 2) / max(1, width // 2)).astype(np.float32)


def sincos_1d(positions, width):
    """Fixed sine-cosine code of integer positions: [n] -> [n, width] (Vaswani et al., 2017, section 3.5)."""
    angle = np.asarray(positions)[:, None] * wave_lengths(width)
    code = np.concatenate([np.sin(angle), np.cos(angle)], axis=-1)
    return np.pad(code, ((0, 0), (0, width - code.shape[1]))).astype(np.float32)


def sincos_2d(rows, columns, width):
    """[rows * columns, width]: half of the code for the row, half for the column."""
    y, x = np.divmod(np.arange(rows * columns), columns)
    return np.concatenate([sincos_1d(y, width - width // 2), sincos_1d(x, width // 2)], axis=-1)


class TextBytes(nn.Module):
    """Byte ids [B, T] -> vectors [B, T / window, D]: byte table, local convolution, position and segment codes.

    Attributes:
      window: bytes per token (1: a token each); kernel: bytes that the convolution sees (0: none).
      residual: of a wider window the sum of its bytes stands beside the convolution, as a byte by itself does.
    """

    width: int
    window: int = 1
    kernel: int = 5
    segments: int = 4
    residual: bool = False
    dtype: str = "float32"

    def setup(self):
        self.table = nn.Embed(VOCABULARY, self.width, embedding_init=nn.initializers.normal(0.5), dtype=self.dtype)
        self.segment = nn.Embed(self.segments, self.width, embedding_init=nn.initializers.normal(0.1), dtype=self.dtype)
        if self.kernel or self.window > 1:
            size = max(self.kernel, self.window)
            self.local = nn.Conv(self.width, (size,), strides=(self.window,), padding="SAME", dtype=self.dtype)

    def __call__(self, ids, segments=None):
        """-> (x [B, N, D], mask bool [B, N])."""
        mask = ids != PAD
        x = self.table(ids)
        if segments is not None:
            x = x + self.segment(segments)
        x = x * mask[..., None]  # pads are nothing to the convolution either
        if self.kernel or self.window > 1:
            y = nn.gelu(self.local(x))  # [B, N, D]
            if self.window == 1:
                y = y + x
            elif self.residual:
                y = y + jnp.pad(x, ((0, 0), (0, -x.shape[1] % self.window), (0, 0))).reshape(*y.shape[:2], self.window, -1).sum(
                    2
                )
            x = y
            mask = mask[:, :: self.window]
        return x + sincos_1d(np.arange(x.shape[1]), self.width).astype(x.dtype), mask

    def decoder_input(self, ids, start):
        """Ids [B, S] of a decoder (no look-ahead: no convolution) -> [B, S, D]; start: position of the first one."""
        frequency = jnp.asarray(wave_lengths(self.width))
        angle = (start + jnp.arange(ids.shape[1]))[:, None] * frequency  # start may be traced: no table of positions
        code = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)
        code = jnp.pad(code, ((0, 0), (0, self.width - code.shape[1])))
        return self.table(ids) + code.astype(self.dtype)


class ByteGroups(nn.Module):
    """Raw bytes [B, N * g] -> [B, N, D]: each byte through a table, each group of g through one projection.

    With `table_width=0` the table is the fixed one-wide E(b) = (b / 255 - mean) / std, and the whole is ViT's patch
    projection on pixels normalised so; otherwise it is learned, [256, e].

    Attributes:
      group: bytes per token: patch * patch * 3 of an image, a frame of audio, one record of a series.
      grid: columns of the image's patch grid for 2-D positions, or 0 for 1-D.
    """

    width: int
    group: int
    grid: int = 0
    table_width: int = 0
    mean: float = 0.5
    std: float = 0.25
    dtype: str = "float32"

    @nn.compact
    def __call__(self, raw, length):
        """raw uint8 [B, L], length [B] used bytes -> (x [B, N, D], mask bool [B, N])."""
        batch, size = raw.shape
        if size % self.group:
            raise ValueError(f"{size} bytes are no whole number of groups of {self.group}")
        tokens = size // self.group
        if self.table_width:
            table = nn.Embed(256, self.table_width, embedding_init=nn.initializers.normal(0.5), dtype=self.dtype)
            values = table(raw.astype(jnp.int32)).reshape(batch, tokens, self.group * self.table_width)  # [B, N, g e]
        else:
            values = (raw.astype(self.dtype) / 255 - self.mean) / self.std
            values = values.reshape(batch, tokens, self.group)  # [B, N, g]
        x = Dense(self.width, dtype=self.dtype, name="project")(values)
        code = sincos_2d(tokens // self.grid, self.grid, self.width) if self.grid else sincos_1d(range(tokens), self.width)
        mask = jnp.arange(tokens)[None] * self.group < length[:, None]
        return x + code.astype(x.dtype), mask


def in_rows(raw, patch, columns):
    """Bytes of images patch by patch [B, rows * columns * p * p * 3] -> [B, H, W, 3]."""
    x = raw.reshape(raw.shape[0], -1, columns, patch, patch, 3).swapaxes(2, 3)  # [B, rows, p, columns, p, 3]
    return x.reshape(raw.shape[0], -1, columns * patch, 3)


class PixelBytes(nn.Module):
    """Raw image bytes in patch order [B, N * p * p * 3] -> [B, N, D] by a small residual convolutional stem.

    The tokens are the same p x p patches as `ByteGroups` makes; that the convolutions see over their edges lets a small
    model learn shapes from far fewer images (Xiao et al., 2021, "Early convolutions help transformers see better").

    Attributes: patch p, even; grid: patches per row; channels C of the convolutions, 0: D. With C = D they
      cost as much as two transformer blocks, with C = D / 2 half a block; a projection then leads to D.
    """

    width: int
    patch: int
    grid: int
    mean: float = 0.5
    std: float = 0.25
    dtype: str = "float32"
    channels: int = 0

    @nn.compact
    def __call__(self, raw, length):
        """raw uint8 [B, L], length [B] used bytes -> (x [B, N, D], mask bool [B, N])."""
        p, columns, channels = self.patch, self.grid, self.channels or self.width
        if p % 2:
            raise UserError(f"model.stem='conv' needs an even patch, not {p}: choose another examples.patch.")

        def conv(features, size, stride, name):
            return nn.Conv(features, (size, size), strides=(stride, stride), dtype=self.dtype, name=name)

        def active(x, name):
            return nn.gelu(nn.LayerNorm(dtype=self.dtype, name=name)(x))

        x = in_rows(raw, p, columns).astype(self.dtype)  # [B, H, W, 3]
        x = conv(channels // 2, p // 2, p // 2, "conv_in")((x / 255 - self.mean) / self.std)  # [B, 2 rows, 2 columns, C / 2]
        x = x + conv(channels // 2, 3, 1, "conv_fine")(active(x, "norm_fine"))
        x = conv(channels, 3, 2, "conv_down")(active(x, "norm_down"))  # [B, rows, columns, C]
        x = x + conv(channels, 3, 1, "conv_coarse")(active(x, "norm_coarse"))
        x = x.reshape(x.shape[0], -1, channels)  # [B, N, C]
        if channels != self.width:
            x = Dense(self.width, dtype=self.dtype, name="project")(x)  # [B, N, D]
        mask = jnp.arange(x.shape[1])[None] * (p * p * 3) < length[:, None]
        return x + sincos_2d(x.shape[1] // columns, columns, self.width).astype(x.dtype), mask


class FileBytes(nn.Module):
    """Bytes of an encoded file [B, L] -> [B, L / stride, D] by strided convolution, as ByteFormer (arXiv 2306.00238)."""

    width: int
    stride: int = 16
    table_width: int = 32
    dtype: str = "float32"

    @nn.compact
    def __call__(self, raw, length):
        """raw uint8 [B, L], length [B] -> (x [B, N, D], mask bool [B, N])."""
        used = jnp.arange(raw.shape[1])[None] < length[:, None]
        ids = jnp.where(used, raw.astype(jnp.int32) + OFFSET, PAD)
        table = nn.Embed(256 + OFFSET, self.table_width, embedding_init=nn.initializers.normal(0.5), dtype=self.dtype)
        x = table(ids) * used[..., None]
        x = nn.Conv(self.width, (2 * self.stride,), strides=(self.stride,), dtype=self.dtype, name="group")(x)
        x = x + Dense(self.width, dtype=self.dtype, name="mix")(nn.gelu(x))
        return x + sincos_1d(range(x.shape[1]), self.width).astype(x.dtype), used[:, :: self.stride]

"""Sound as a row of short spectra, read by a recurrent network.

Letters: B batch, S samples, F frames, b bands.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from xmodal_jax.errors import UserError
from xmodal_jax.models.backbones.recurrent import Recurrent
from xmodal_jax.models.dense import Dense


def log_spectrogram(samples, frame, hop):
    """int16 [B, S] -> log of the power of each frequency of Hann-windowed frames, float32 [B, F, frame / 2 + 1].

    F = 1 + (S - frame) / hop, rounded down.
    """
    if samples.shape[1] < frame:
        raise UserError(f"A sound of {samples.shape[1]} samples is shorter than one frame of {frame}.")
    places = np.arange(0, samples.shape[1] - frame + 1, hop)[:, None] + np.arange(frame)
    frames = jnp.asarray(samples)[:, places].astype(jnp.float32) / 32768  # [B, F, frame]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(frame) / frame)
    return jnp.log(jnp.abs(jnp.fft.rfft(frames * window)) ** 2 + 1e-6)


class Spectrogram(nn.Module):
    """int16 [B, S] -> Encoded with x [B, F, width] of a GRU over the spectra. frame, hop: in samples."""

    frame: int = 256
    hop: int = 128
    width: int = 128
    layers: int = 1
    dtype: str = "float32"

    @nn.compact
    def __call__(self, samples, train=False):
        spectra = (log_spectrogram(samples, self.frame, self.hop) + 7) / 4  # about zero mean and unit variance
        x = Dense(self.width, dtype=self.dtype, name="bands")(spectra)
        return Recurrent("gru", width=self.width, layers=self.layers, dtype=self.dtype, name="over_time")(x, train=train)

"""The spectrogram against its definition."""

import numpy as np
import pytest

from tests.conftest import random_params
from xmodal_jax.errors import UserError
from xmodal_jax.models.backbones.spectrogram import Spectrogram, log_spectrogram


def test_spectra_are_those_of_windowed_frames(rng):
    samples = rng.integers(-3000, 3000, (2, 50)).astype(np.int16)
    found = log_spectrogram(samples, 16, 8)
    assert found.shape == (2, 5, 9)
    for row in range(2):
        for frame in range(5):
            part = samples[row, 8 * frame : 8 * frame + 16] / 32768 * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(16) / 16))
            power = [abs(sum(part * np.exp(-2j * np.pi * k * np.arange(16) / 16))) ** 2 for k in range(9)]
            np.testing.assert_allclose(found[row, frame], np.log(np.array(power) + 1e-6), atol=1e-4)
    with pytest.raises(UserError, match="shorter than one frame"):
        log_spectrogram(samples, 64, 8)


def test_sounds_become_tokens(rng):
    model = Spectrogram(frame=16, hop=8, width=6)
    samples = rng.integers(-3000, 3000, (2, 50)).astype(np.int16)
    encoded = model.apply({"params": random_params(model, samples)}, samples)
    assert encoded.x.shape == (2, 5, 6) and encoded.pooled.shape == (2, 6) and encoded.mask.all()

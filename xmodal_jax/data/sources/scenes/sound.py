"""Half a second of sound that tells a thing: its pitch, timbre and rhythm follow from its key."""

import functools
import random

import numpy as np

from xmodal_jax.data.sources.scenes.layout import generator
from xmodal_jax.data.sources.scenes.things import KEYS

RATE = 8000  # Hz
SAMPLES = 4000
_TABLE = 4096  # samples of one period
_STEP = 17  # pitches of neighbours in the table of things lie far apart; no common divisor with the number of things


@functools.cache
def voice(key: str) -> tuple[float, np.ndarray, np.ndarray]:
    """(pitch in Hz, one period float32 [4096], loudness over time float32 [4000])."""
    rng = generator("voice", key)
    rank = KEYS.index(key) * _STEP % len(KEYS)
    pitch = 110.0 * 8.0 ** (rank / len(KEYS))  # 110 to 880 Hz, about a third of a tone apart
    phase = np.arange(_TABLE) / _TABLE
    period = sum(rng.random() ** 2 * np.sin(2 * np.pi * (n * phase + rng.random())) for n in range(2, 5))
    period = period + 1.2 * np.sin(2 * np.pi * phase)
    time = np.arange(SAMPLES) / RATE
    beats, kind = 2 + int(rng.random() * 8), int(rng.random() * 4)
    along = time * beats % 1.0 if kind < 3 else time * 2
    loudness = (
        np.exp(-4 * along),  # strokes
        np.where(along < 0.6, 1.0, 0.08),  # pulses
        0.55 + 0.45 * np.sin(2 * np.pi * along),  # tremolo
        np.sin(np.pi * np.minimum(along, 1.0)),  # swell
    )[kind]
    return pitch, (period / np.abs(period).max()).astype(np.float32), loudness.astype(np.float32)


def sound(rng: random.Random, key: str) -> np.ndarray:
    """int16 [4000]: the thing's voice, a little out of tune, at some loudness, with noise."""
    pitch, period, loudness = voice(key)
    tuned, start, gain = pitch * (0.995 + 0.01 * rng.random()), rng.random(), 0.5 + 0.4 * rng.random()
    phase = np.arange(SAMPLES, dtype=np.float64) * (tuned * _TABLE / RATE) + start * _TABLE
    wave = period[phase.astype(np.int64) & (_TABLE - 1)] * loudness
    noise = np.random.Generator(np.random.PCG64(int(rng.random() * 2**53))).standard_normal(SAMPLES, dtype=np.float32)
    return ((gain * wave + 0.02 * noise).clip(-1, 1) * 32767).astype(np.int16)

"""Every modality as a byte sequence (claim 1, steps S120-S130).

Text uses ByT5's id layout: id = byte + 3, pad 0, end 1, unknown 2, sentinels `<extra_id_i>` = 259 + i, 384 ids in all.
The other modalities stay plain uint8; their embedders add what they need.
"""

import numpy as np

PAD, END, UNKNOWN, OFFSET = 0, 1, 2, 3
FIRST_SENTINEL, VOCABULARY = 259, 384
SENTINELS = VOCABULARY - FIRST_SENTINEL


def encode_text(text):
    """UTF-8 text -> int32 ids [bytes], without an end mark. Lone surrogates become U+FFFD's neighbour '?'."""
    raw = np.frombuffer(text.encode("utf-8", errors="replace"), np.uint8)
    return raw.astype(np.int32) + OFFSET


def decode_text(ids):
    """ids -> text up to the first end mark; pads and sentinels are left out, broken UTF-8 becomes U+FFFD."""
    ids = np.asarray(ids)
    ends = np.flatnonzero(ids == END)
    ids = ids[: ends[0]] if ends.size else ids
    ids = ids[(ids >= OFFSET) & (ids < FIRST_SENTINEL)]
    return (ids - OFFSET).astype(np.uint8).tobytes().decode("utf-8", errors="replace")


def sentinel(i):
    """Id of `<extra_id_i>`, the mask symbol of the i-th masked word."""
    if not 0 <= i < SENTINELS:
        raise ValueError(f"sentinel {i}: there are {SENTINELS}, numbered from 0")
    return FIRST_SENTINEL + i


def with_end(text, length, first=()):
    """Ids of `text` and an end mark, at most `length` long, behind the ids `first`."""
    return np.array([*first, *encode_text(cut(text, length - 1)), END], np.int32)


def with_gaps(text, length, count=1):
    """Ids of a question or a prompt, of gaps that what it asks for fills, and an end mark, at most `length` long."""
    gaps = [sentinel(number) for number in range(count)]
    return np.array([*encode_text(cut(text, length - count - 1)), *gaps, END], np.int32)


def cut(text, size):
    """The longest prefix of `text` of at most `size` UTF-8 bytes that breaks no character."""
    raw = text.encode("utf-8", errors="replace")
    return text if len(raw) <= size else raw[:size].decode("utf-8", errors="ignore")


def shift_right(target):
    """Decoder input of a target [S]: PAD starts, the last id falls away."""
    return np.concatenate([[PAD], target[:-1]]).astype(np.int32)


def image_bytes(image, patch):
    """uint8 RGB [H, W, 3] -> uint8 [N * patch * patch * 3] in patch order, row by row (H and W multiples of patch)."""
    height, width, channels = image.shape
    if height % patch or width % patch:
        raise ValueError(f"image of {height} x {width} is not a whole number of {patch} x {patch} patches")
    grid = image.reshape(height // patch, patch, width // patch, patch, channels)
    return np.ascontiguousarray(grid.transpose(0, 2, 1, 3, 4)).reshape(-1)  # [h, w, p, p, 3] flattened


def image_from_bytes(raw, patch, height, width):
    """The inverse of `image_bytes`: uint8 [N * patch * patch * 3] -> uint8 [H, W, 3]."""
    grid = raw.reshape(height // patch, width // patch, patch, patch, 3)
    return np.ascontiguousarray(grid.transpose(0, 2, 1, 3, 4)).reshape(height, width, 3)


def audio_bytes(samples):
    """int16 PCM [n] -> uint8 [2 n], little-endian."""
    return np.ascontiguousarray(samples, "<i2").view(np.uint8)


def series_bytes(values):
    """Numbers of any shape -> uint8 [4 n], little-endian float32 in C order (fixed width)."""
    return np.ascontiguousarray(values, "<f4").reshape(-1).view(np.uint8)


def fit(raw, length, dtype=None):
    """Cut or zero-pad a 1-D array to `length`. Returns (array [length], used length)."""
    used = min(len(raw), length)
    out = np.zeros(length, dtype or raw.dtype)
    out[:used] = raw[:used]
    return out, used

"""Arrays of ours, put together from arrays of a checkpoint where they will stay: one copy, at the speed of the memory."""

import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from xmodal_jax.interop.layout import FLAT, IN_OUT, SAME

BLOCK = 64  # rows of a matrix that are transposed together: five times faster than all at once, by the cache


class Reader:
    """Reads parts of arrays in a few threads, each with one scratch memory for what has to be laid out anew.

    found: {name: files.Tensor}; dtype: of the arrays of ours.
    """

    def __init__(self, found, dtype):
        self.found, self.dtype = found, dtype
        self.threads = ThreadPoolExecutor(min(4, os.cpu_count() or 1))
        self.scratch = threading.local()

    def read(self, entry, shape):
        """One array of ours, made of theirs."""
        out = aligned(shape, self.dtype)
        list(self.threads.map(lambda part: self.fill(entry, *part), entry.parts(out)))
        return out

    def fill(self, entry, name, view):
        """Read one part into its place."""
        if name is None:
            view[...] = 0
            return
        tensor = self.found[name]
        if entry.layout in (SAME, FLAT, IN_OUT) and view.flags.c_contiguous and tensor.dtype == view.dtype:
            tensor.read(view.reshape(-1).view(np.uint8))
            return
        memory = getattr(self.scratch, "memory", None)
        if memory is None or len(memory) < tensor.nbytes:
            memory = self.scratch.memory = np.empty(tensor.nbytes, np.uint8)
        copy(view, entry.layout.read(tensor.read(memory), view.shape))


def copy(target, source):
    """target[...] = source, in blocks along the last axis where one of the two is transposed."""
    if target.ndim == 3 and source.strides[-1] > source.itemsize:  # heads [D, H, d]
        for head in range(target.shape[1]):
            copy(target[:, head], source[:, head])
    elif target.ndim == 2 and source.strides[-1] > source.itemsize:
        for start in range(0, target.shape[1], BLOCK):
            target[:, start : start + BLOCK] = source[:, start : start + BLOCK]
    else:
        target[...] = source


def aligned(shape, dtype):
    """Memory that JAX takes over without a copy on CPU: its first byte at a multiple of 64."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)

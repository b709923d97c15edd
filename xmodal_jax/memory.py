"""The host's memory."""

import ctypes
import os
import platform
from importlib import metadata, util

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # malloc.h of glibc


def keep_freed_memory():
    """Where the host computes, let glibc keep the memory that a step frees for the next one; True where it was told to.

    Otherwise the temporaries of every step (0.8 GiB for a ViT-S at batch 16) are mapped, filled with zeros page by page and
    unmapped again: measured 200,000 page faults and 5-25 % of a step. What was freed stays with the process, which
    grows to as much as three times a step's temporaries before the holes fit. To be called before threads start: only the main
    arena can grow beyond 64 MiB without a mapping. The compiler's threads share that arena too, and wait for each other
    (measured 21 -> 31-40 s for a training step, 280 -> 440 s for a TPU's): not for what compiles more than it runs.
    Settings of one's own (MALLOC_..., GLIBC_TUNABLES) are left alone.
    """
    chosen = [name for name in os.environ if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES"]
    if chosen or not computes_on_host() or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(*setting) for setting in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_ARENA_MAX, 1)))


def computes_on_host():
    """Whether JAX will use the CPU, without starting it."""
    chosen = os.environ.get("JAX_PLATFORMS")
    if chosen:
        return chosen.split(",")[0] == "cpu"
    return not metadata.entry_points(group="jax_plugins") and util.find_spec("libtpu") is None

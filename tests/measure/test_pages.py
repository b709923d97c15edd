"""Figures of a process's memory: pages that are touched for the first time are counted."""

import mmap

import pytest

from xmodal_jax import malloc
from xmodal_jax.measure.pages import huge_bytes, page_faults


def test_touched_pages_are_counted():
    pages = 1000
    with mmap.mmap(-1, pages * mmap.PAGESIZE) as memory:
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        before = page_faults()
        for page in range(pages):
            memory[page * mmap.PAGESIZE] = 1
        assert pages <= page_faults() - before < 2 * pages


@pytest.mark.skipif(malloc.huge_pages() != "madvise", reason="no huge pages for who asks")
def test_huge_pages_are_counted():
    size = 32 << 20
    with mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        before = huge_bytes()
        memory.madvise(mmap.MADV_HUGEPAGE)
        for page in range(0, size, mmap.PAGESIZE):
            memory[page] = 1
        assert huge_bytes() - before >= size // 2

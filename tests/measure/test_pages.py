"""Figures of a process's memory: pages that are touched for the first time are counted."""

import mmap
import sys

import pytest

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


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell")
def test_huge_pages_are_bytes_of_the_process():
    found = huge_bytes()
    assert found is None or found % 1024 == 0

"""Some of the faults of `tests.faults`, a few times each: of several processes, and of reads that fail."""

import argparse
import shutil

import pytest

from tests import fault_processes, fault_readers
from tests.fault_bench import Bench, Tried


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    made = Bench(tmp_path_factory.mktemp("faults"), argparse.Namespace(seed=0, quick=True))
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.parametrize(("victim", "moment", "how"), [
    (1, "restore", "killed"), (0, "save", "stopped"), (1, "loop", "failing"), (0, "restore", "failing"),
])  # fmt: skip
def test_the_others_of_a_lost_process_end_by_its_name_and_the_run_goes_on_exactly(bench, victim, moment, how):
    tried = Tried()
    fault_processes.lost(bench, tried, 2, victim, moment, how)
    assert (tried.right, tried.tried) == (1, 1)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@pytest.mark.parametrize("which", ["the checkpoints", "their arrays"])
@pytest.mark.parametrize("name", ["evaluate", "main"])
def test_reads_that_fail_end_by_a_paragraph_and_change_nothing(bench, name, which):
    tried = Tried()
    fault_readers.failing_read(bench, tried, name, which)
    assert (tried.right, tried.tried) == (1, 1)

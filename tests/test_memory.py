"""What a step frees is there for the next one."""

import os
import platform
import subprocess
import sys

import pytest

from xmodal_jax import cli


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc")
@pytest.mark.parametrize(("environment", "kept"), [({"JAX_PLATFORMS": "cpu"}, True), ({"JAX_PLATFORMS": "cuda,cpu"}, False)])
def test_freed_memory_is_kept_where_the_host_computes(environment, kept):
    """256 MiB, written twice: the second time no page is new."""
    program = """
import ctypes, resource, threading
from xmodal_jax.memory import keep_freed_memory
print(int(keep_freed_memory()))
libc, size = ctypes.CDLL(None), 256 << 20
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def write():
    at = libc.malloc(ctypes.c_size_t(size))
    ctypes.memset(at, 1, size)
    libc.free(at)

for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=write)  # as the step runs in a thread of JAX's
    thread.start()
    thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    free = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-c", program], env=free | environment, capture_output=True, text=True, check=True)
    told, faults = map(int, done.stdout.split())
    assert told == kept and (faults < 1000) == kept


@pytest.mark.parametrize("trains", [True, False])
def test_only_commands_that_train_keep_it(trains, monkeypatch):
    """The compiler's threads would wait for each other's memory: a plan took half as long again."""
    told = []
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: told.append(1))
    monkeypatch.setattr(cli.app, "run", lambda *args, **kwargs: None)
    monkeypatch.setattr(sys.modules["__main__"], "__doc__", None)
    cli.run(lambda: None, "usage", *([True] if trains else []))
    assert bool(told) == trains

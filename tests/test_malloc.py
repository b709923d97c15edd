"""The allocator that commands start anew with: when, how often, and that nobody else's process is replaced."""

import os
import subprocess
import sys

import pytest

from xmodal_jax import malloc

HUGE = {malloc.SETTING: "hugetlb", malloc.TUNABLES: malloc.HUGE}
TCMALLOC = {malloc.SETTING: "tcmalloc", "LD_PRELOAD": "/lib/tcmalloc.so.4", malloc.REPORTS: str(1 << 60)}
FAKETIME = "/usr/lib/libfaketime.so.1"


@pytest.mark.parametrize(
    ("environ", "version", "pages", "expected"),
    [
        ({"JAX_PLATFORMS": "cpu"}, (2, 36), "madvise", HUGE),
        ({"JAX_PLATFORMS": "cpu"}, (2, 34), "madvise", {}),
        ({"JAX_PLATFORMS": "cpu"}, (0, 0), "madvise", {}),
        ({"JAX_PLATFORMS": "cpu"}, (2, 40), "never", {}),
        ({"JAX_PLATFORMS": "cpu"}, (2, 40), "always", {}),
        ({"JAX_PLATFORMS": "tpu,cpu"}, (2, 36), "madvise", {}),
        ({}, (2, 36), "madvise", HUGE),
        ({malloc.SETTING: "keep"}, (2, 36), "madvise", {}),
        ({malloc.TUNABLES: "glibc.malloc.arena_max=2"}, (2, 36), "madvise", {}),
        ({"LD_PRELOAD": "/usr/lib/libjemalloc.so.2"}, (2, 36), "madvise", {}),
        ({"LD_PRELOAD": FAKETIME}, (2, 36), "madvise", HUGE),
        (HUGE, (2, 36), "madvise", {}),  # a command that was started anew, and its children
    ],
)
def test_when_the_allocator_is_chosen(monkeypatch, environ, version, pages, expected):
    monkeypatch.setattr(malloc.sys, "platform", "linux")
    monkeypatch.setattr(malloc, "glibc", lambda: version)
    monkeypatch.setattr(malloc, "huge_pages", lambda: pages)
    monkeypatch.setattr(malloc, "ACCELERATORS", ())
    monkeypatch.setattr(malloc, "find_tcmalloc", lambda: None)
    assert malloc.choose(environ) == expected
    assert malloc.as_before({**environ, **expected}) == (environ if environ != HUGE else {})


def test_tcmalloc_is_taken_where_it_is_installed(monkeypatch, tmp_path):
    monkeypatch.setattr(malloc.sys, "platform", "linux")
    monkeypatch.setattr(malloc, "find_tcmalloc", lambda: TCMALLOC["LD_PRELOAD"])
    before = {"JAX_PLATFORMS": "cpu"}
    assert malloc.choose(before) == TCMALLOC and malloc.choose(before | TCMALLOC) == {}
    assert malloc.as_before(before | TCMALLOC) == before
    both = before | {"LD_PRELOAD": FAKETIME}
    assert malloc.choose(both)["LD_PRELOAD"] == f"/lib/tcmalloc.so.4:{FAKETIME}", "what was preloaded stays"
    assert malloc.as_before(both | malloc.choose(both)) == both
    assert malloc.choose(before | {malloc.SETTING: "keep"}) == malloc.choose({"JAX_PLATFORMS": "tpu"}) == {}
    monkeypatch.undo()
    monkeypatch.setattr(malloc.sys, "prefix", str(tmp_path))
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / malloc.TCMALLOC).touch()
    assert malloc.find_tcmalloc() == str(tmp_path / "lib" / malloc.TCMALLOC)


def test_an_accelerator_or_another_system_keeps_the_allocator(monkeypatch, tmp_path):
    monkeypatch.setattr(malloc, "find_tcmalloc", lambda: None)
    monkeypatch.setattr(malloc, "glibc", lambda: (2, 36))
    monkeypatch.setattr(malloc, "huge_pages", lambda: "madvise")
    monkeypatch.setattr(malloc, "ACCELERATORS", (f"{tmp_path}/nvidia[0-9]*",))
    monkeypatch.setattr(malloc.sys, "platform", "linux")
    assert malloc.choose({}) == HUGE
    (tmp_path / "nvidia0").touch()
    assert malloc.choose({}) == {} and malloc.choose({"JAX_PLATFORMS": "cpu"}) == HUGE
    monkeypatch.setattr(malloc.sys, "platform", "darwin")
    assert malloc.choose({"JAX_PLATFORMS": "cpu"}) == {}


@pytest.mark.parametrize(
    ("interpreter", "argv", "own"),
    [
        (["python", "-m", "xmodal_jax.main", "--config=a"], ["main.py", "--config=a"], True),
        (["python", "-u", "-X", "dev", "-m", "xmodal_jax.main"], ["main.py"], True),
        (["python", "/env/bin/xmodal", "train", "--config=a"], ["main.py", "--config=a"], True),
        (["python", "-m", "ipykernel_launcher", "-f", "k.json"], ["main.py", "--config=a"], False),
        (["python", "-m", "pytest", "-x"], ["main.py", "--config=a"], False),
        (["python", "-c", "import sys;exec(eval(sys.stdin.readline()))"], ["main.py"], False),
    ],
)
def test_only_a_process_of_ones_own_is_replaced(monkeypatch, interpreter, argv, own):
    monkeypatch.setattr(sys, "orig_argv", interpreter)
    monkeypatch.setattr(sys, "argv", argv)
    assert not malloc.is_own_command(), "JAX is loaded here: it is too late"
    monkeypatch.delitem(sys.modules, "jax")
    assert malloc.is_own_command() == own
    started = []
    monkeypatch.setattr(malloc, "choose", lambda environ: HUGE)
    monkeypatch.setattr(os, "execve", lambda *command: started.append(command))
    malloc.restart()
    assert [command[1][1:] for command in started] == [interpreter[1:]] * own
    assert all(command[2] == {**os.environ, **HUGE} for command in started)


@pytest.mark.parametrize("keep", [False, True], ids=["anew", "kept"])
def test_a_command_starts_anew_once_with_its_arguments_and_its_status(keep):
    environ = malloc.as_before(os.environ)
    environ |= {"JAX_PLATFORMS": "cpu"} | ({malloc.SETTING: "keep"} if keep else {})
    command = [sys.executable, "-m", "xmodal_jax.generate", "--workdir=no/such run", "--images=no such *.jpg"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "--images='no such *.jpg': no file matches" in " ".join(done.stderr.split())
    assert done.stderr.count("allocator: ") == bool(malloc.choose(environ))
    assert not (keep and "allocator" in done.stderr)

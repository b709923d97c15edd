"""What commands do beside their work, as the system sees it: no open door, no other program, no file elsewhere."""

import contextlib
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.runs import pretrain_config
from xmodal_jax import api

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SMALL = ["--config=tests/train/small_config.py", "--config.total_steps=2", "--config.checkpoint_every=2"]
CHANGING = (
    "openat open creat mkdir mkdirat rename renameat renameat2 link linkat symlink symlinkat unlink unlinkat rmdir truncate"
).split()
SOCKETS, CHILDREN = ["bind", "listen"], ["execve", "fork", "vfork", "clone", "clone3"]
WRITING = re.compile("O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")
CALL = re.compile(r"^\d+ +(\w+)\((.*)\) += +(\d+)")
THREAD = re.compile("/proc/self/(task/[0-9]+/)?comm$")  # the names of threads
FONTS = "fc-list"  # matplotlib asks it once for each user, and keeps the answer


def traced(arguments, trace, home, **more):
    """[(system call, its arguments, result)] of a command and of what it starts, of those that went right."""
    env = os.environ | {"HOME": home, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": ROOT, **more}
    env.pop("XDG_CACHE_HOME", None)
    wanted = ",".join(CHANGING + SOCKETS + CHILDREN)
    strace = ["strace", "-f", "-y", "-qq", "--seccomp-bpf", "-o", trace, "-e", f"trace={wanted}", "-e", "status=successful"]
    subprocess.run([*strace, sys.executable, *arguments], cwd=ROOT, env=env, check=True, capture_output=True)
    with open(trace, encoding="utf-8", errors="replace") as file:
        return [found.groups() for found in map(CALL.match, file) if found]


def changed(calls):
    """Paths of the files that were written, made, renamed or removed."""
    for name, arguments, _ in calls:
        if name in CHANGING and (not name.startswith("open") or WRITING.search(arguments)):
            place = (re.findall("AT_FDCWD<([^>]*)>", arguments) or [ROOT])[0]
            for path in re.findall('"((?:[^"\\\\]|\\\\.)*)"', arguments):
                yield os.path.normpath(os.path.join(place, path))


def programs(calls):
    """Names of the programs that were started, beside Python itself."""
    started = [re.match('"([^"]*)"', arguments)[1] for name, arguments, _ in calls if name == "execve"]
    return {os.path.basename(path) for path in started} - {os.path.basename(sys.executable), "python"}


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_and_its_readers_open_no_door_start_no_program_and_write_nothing_elsewhere(tmp_path, workers):
    home, run = str(tmp_path / "home"), str(tmp_path / "run")
    os.mkdir(home)
    loading = f"from xmodal_jax import api\napi.load({run!r})"
    allowed = (run, home + "/.cache", home + "/.config", os.environ["JAX_COMPILATION_CACHE_DIR"], "/dev/shm/", "/dev/null")
    for number, arguments in enumerate((
        ["-m", "xmodal_jax.main", *SMALL, f"--workdir={run}", f"--config.loader.workers={workers}"],
        ["-m", "xmodal_jax.evaluate", f"--workdir={run}"],
        ["-c", loading],
    )):  # fmt: skip
        calls = traced(arguments, str(tmp_path / f"trace-{number}"), home)
        assert len(calls) > 10 and any(path.startswith(run) for path in changed(calls)) == (number < 2)
        assert not [call for call in calls if call[0] in SOCKETS and "AF_UNIX" not in call[1]]
        forked = [arguments for name, arguments, _ in calls if name in CHILDREN[1:] and "CLONE_THREAD" not in arguments]
        asked = programs(calls)
        assert asked <= {FONTS} and len(forked) <= 2 * len(asked) + (number == 0) * 2 * workers
        elsewhere = [path for path in changed(calls) if not path.startswith(allowed) and not THREAD.match(path)]
        assert not elsewhere


EVENTS = {"socket.bind", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.mkdir", "os.rename",
          "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree"}  # fmt: skip
HEARD = []  # one list for the whole process: a hook stays


@contextlib.contextmanager
def heard():
    """Within, what Python itself does of EVENTS, and the files that it opens to write, are added to HEARD."""
    if not hasattr(heard, "on"):
        sys.addaudithook(lambda event, details: heard.on and hear(event, details))
    HEARD.clear()
    heard.on = True
    try:
        yield HEARD
    finally:
        heard.on = False


def hear(event, details):
    if event in EVENTS or event == "open" and isinstance(details[2], int) and details[2] & (os.O_WRONLY | os.O_RDWR):
        HEARD.append((event, str(details[0])))


def test_a_reader_opens_no_door_starts_no_program_and_writes_nothing(trained):
    folder, *_ = trained(pretrain_config())
    with heard() as events:
        api.load(folder)
    cache = os.environ["JAX_COMPILATION_CACHE_DIR"]
    assert not [about for about in events if not about[1].startswith((cache, "/dev/null"))]
    with heard() as events, open(os.devnull, "w"):
        pass
    assert events == [("open", os.devnull)]

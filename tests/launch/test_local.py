"""launch/local.py: several processes on one machine, told what a cluster would tell them."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"
LOCAL = [sys.executable, str(LAUNCH / "local.py")]


def local(*arguments, code, env=()):
    """Run a piece of Python in several processes -> completed process."""
    command = [*LOCAL, *arguments, "--", sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **dict(env)})


def test_local_processes_get_what_a_cluster_would_set():
    names = "JAX_COORDINATOR_ADDRESS JAX_NUM_PROCESSES JAX_PROCESS_ID JAX_PLATFORMS XLA_FLAGS".split()
    flags = "--xla_dump_to=x --xla_force_host_platform_device_count=9"
    code = f"import os; print(*(os.environ[name] for name in {names}), sep='|')"
    done = local("--processes=2", "--devices-per-process=3", "--all", code=code, env={"XLA_FLAGS": flags})
    assert done.returncode == 0 and not done.stderr
    lines = sorted(done.stdout.splitlines())
    ports = {line.split("|")[0].split(":")[1] for line in lines}
    assert len(lines) == 2 and len(ports) == 1
    for index, line in enumerate(lines):
        device_flags = "--xla_dump_to=x --xla_force_host_platform_device_count=3"
        assert line == f"[{index}] 127.0.0.1:{ports.copy().pop()}|2|{index}|cpu|{device_flags}"


def test_local_shows_process_0_and_the_end_of_one_that_fails():
    code = "import os, sys; i = int(os.environ['JAX_PROCESS_ID']); print('line', i, file=sys.stderr); sys.exit(i == 2 and 7)"
    done = local("--processes=3", code=code)
    assert done.returncode == 7
    assert "[0] line 0" in done.stdout and "[1]" not in done.stdout and "[2] line 2" in done.stdout
    assert "process 2 ended with exit status 7" in done.stderr


def test_local_ends_the_others_after_the_grace_period():
    code = (
        "import os, signal, sys, time\n"
        "if os.environ['JAX_PROCESS_ID'] == '1': os.kill(os.getpid(), signal.SIGKILL)\n"
        "if os.environ['JAX_PROCESS_ID'] == '2': signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "time.sleep(600)"
    )
    start = time.monotonic()
    done = local("--processes=3", "--grace=0.5", code=code)
    assert done.returncode == 128 + signal.SIGKILL and "process 1 was ended by SIGKILL" in done.stderr
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_local_forwards_signals(signum):
    code = (
        "import os, signal, sys, time\n"
        f"signal.signal({int(signum)}, lambda *_: (print('saved'), sys.exit(0)))\n"
        "print('ready')\n"
        "time.sleep(600)"
    )
    running = subprocess.Popen(
        [*LOCAL, "--processes=2", "--all", "--", sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    )
    assert sorted(running.stdout.readline() for _ in range(2)) == ["[0] ready\n", "[1] ready\n"]
    running.send_signal(signum)
    rest, _ = running.communicate(timeout=30)
    assert running.returncode == 0 and sorted(rest.split("\n")) == ["", "[0] saved", "[1] saved"]


def test_local_mistakes():
    done = subprocess.run([*LOCAL, "--processes=2"], capture_output=True, text=True)
    assert done.returncode == 2 and "which command?" in done.stderr
    done = subprocess.run([*LOCAL, "--", "no-such-command"], capture_output=True, text=True)
    assert done.returncode == 127 and "cannot start no-such-command" in done.stderr

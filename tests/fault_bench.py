"""Small runs to be disturbed, one that nobody disturbs, and how what comes of it is judged, for `tests.faults`."""

import collections
import dataclasses
import functools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[1]
STEPS = 12
SMALL = [
    "--config=tests/fault_config.py", f"--config.total_steps={STEPS}", "--config.checkpoint_every=3",
    "--config.eval_every=6",
]  # fmt: skip
BOUND = 30  # seconds that the others of a lost process may take
FAULTS = {}


@dataclasses.dataclass
class Tried:
    """right of tried, what else there is to say; wrong: what was seen instead, for the log."""

    right: int = 0
    tried: int = 0
    notes: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def add(self, is_right, note, seen=""):
        self.tried, self.right = self.tried + 1, self.right + bool(is_right)
        self.notes[note] += 1
        if not is_right:
            print(f"WRONG: {note}: {seen[-1500:]}", file=sys.stderr, flush=True)


def fault(title, expected):
    """Adds a function (bench, tried) to FAULTS."""

    def add(function):
        FAULTS[function.__name__] = title, expected, function
        return function

    return add


class Bench:
    """Runs in folders of their own below `place`, and one that nobody disturbs."""

    seconds = 0.0  # that an undisturbed run takes, once it is compiled

    def __init__(self, place, options):
        self.place, self.options, self.draw, self.made = pathlib.Path(place), options, random.Random(options.seed), 0
        self.started = []

    def folder(self):
        self.made += 1
        place = self.place / f"run{self.made}"
        return self.folder() if place.exists() else place

    def start(self, folder, *more, module="xmodal_jax.main", limits=(), env=(), settings=SMALL, command=False, before=()):
        """-> Popen, or a Forked, with `log`, a path: of what it prints.

        command: by `xmodal train`, not a fork; before: the command that starts it, likewise.
        """
        log = pathlib.Path(f"{folder}.log")
        arguments = [*settings, f"--workdir={folder}", *more]
        env = os.environ | {
            "JAX_PLATFORMS": "cpu", "XMODAL_MALLOC": "keep", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", **dict(env),
        }  # fmt: skip
        if not (command or before):
            self.made += 1
            asked = {"module": module, "arguments": arguments, "env": env, "log": str(log), "limits": limits}
            process = Forked(self.server, asked, self.place / f"ended-{self.made}")
        else:
            module = ("xmodal_jax", "train") if command else (module,)
            with open(log, "a") as file:
                process = subprocess.Popen(
                    [*before, sys.executable, "-m", *module, *arguments], cwd=ROOT, env=env, stdout=file, stderr=file
                )
        process.log = log
        self.started.append(process)
        return process

    @functools.cached_property
    def server(self):
        """The process that commands are forks of; it ends when its input does."""
        command = [sys.executable, "-m", "tests.fault_server"]
        return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def close(self):
        """End what was started and still runs."""
        for process in self.started:
            process.kill()
        self.started.clear()
        if "server" in vars(self):
            self.server.communicate()  # its end of input
            del self.server

    def finish(self, folder, *more, **settings):
        """(exit status, what was printed) of a command that is left alone."""
        before = pathlib.Path(f"{folder}.log")
        skip = before.stat().st_size if before.exists() else 0
        process = self.start(folder, *more, **settings)
        status = process.wait(1200)
        return status, process.log.read_bytes()[skip:].decode(errors="replace")

    @functools.cached_property
    def whole(self):
        """The folder of the undisturbed run."""
        folder, again, about = self.place / "whole", self.place / "again", self.place / "seconds"
        if not about.exists():  # else --keep names a folder of before
            status, text = self.finish(folder)
            assert status == 0, text
            begin = time.monotonic()  # once more, compiled
            assert self.finish(again)[0] == 0
            about.write_text(str(time.monotonic() - begin))
        assert figures(again) == figures(folder), "two undisturbed runs differ"
        self.seconds = float(about.read_text())
        return folder

    def copy(self):
        """A copy of the finished run."""
        return pathlib.Path(shutil.copytree(self.whole, self.folder()))

    def cut(self):
        """A copy of the run as it was at step 9: with the checkpoints of steps 6 and 9."""
        if not (self.place / "cut").exists():
            place = self.place / "cut"
            process = self.start(place, "--config.keep_checkpoints=9")
            waited_for(lambda: (place / "checkpoints" / "9").is_dir(), process)
            process.kill()
            process.wait()
            shutil.rmtree(place / "checkpoints" / str(STEPS), ignore_errors=True)
            shutil.rmtree(place / "results.json", ignore_errors=True)
        return pathlib.Path(shutil.copytree(self.place / "cut", self.folder()))

    def is_exact(self, folder):
        return figures(folder) == figures(self.whole)


class Forked:
    """A command that `tests.fault_server` started, to be used as a Popen."""

    returncode = None

    def __init__(self, server, asked, ended):
        self.ended = ended
        self.ended.unlink(missing_ok=True)
        server.stdin.write(json.dumps(asked | {"ended": str(ended)}) + "\n")
        server.stdin.flush()
        self.pid = int(server.stdout.readline())

    def poll(self):
        if self.returncode is None and self.ended.exists():
            self.returncode = int(self.ended.read_text())
        return self.returncode

    def wait(self, timeout=None):
        end = time.monotonic() + (timeout or 1e9)
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            time.sleep(0.02)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def figures(folder):
    """(losses by step, results) of a run; times are not among them."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}
    evaluated = {line["step"]: {k: v for k, v in line.items() if "/" in k} for line in lines if "train/loss" not in line}
    return losses, evaluated, json.loads((folder / "results.json").read_text())


def waited_for(is_there, process, seconds=1200):
    end = time.monotonic() + seconds
    while not is_there():
        if process.poll() is not None or time.monotonic() > end:
            raise AssertionError(f"waited too long, or ended with {process.poll()}: {process.log.read_text()[-2000:]}")
        time.sleep(0.05)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def step_of(folder):
    """The last step whose figures are written."""
    try:
        steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines() if line.endswith("}")]
    except (FileNotFoundError, ValueError):
        return -1
    return max(steps, default=-1)


def is_paragraph(status, text, *words):
    """Whether a command ended as bad input should: status 2, one paragraph with these words, no traceback."""
    told = " ".join(re.split("^Error: ", text, flags=re.MULTILINE)[-1].split())
    return status == 2 and "Traceback" not in text and all(re.search(word, told) for word in words)


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

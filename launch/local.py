#!/usr/bin/env python3
"""Start N processes on this machine the way a cluster would, on simulated CPU devices.

    python launch/local.py --processes=4 --devices-per-process=2 -- \\
        python -m xmodal_jax.main --config=configs/pretrain.py:debug --workdir=runs/four

Every output line begins with [i], the process it is from. Process 0 is shown in full; of the others only the last lines of one
that fails, unless --all. SIGINT and SIGTERM go to all of them (a run saves and ends; the same command goes on from there). When
one fails, the others are ended after a grace period. The exit status is that of the first that failed.
"""

import argparse
import collections
import contextlib
import os
import queue
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time

DEVICES = "--xla_force_host_platform_device_count"
SAYING = threading.Lock()
KEPT_LINES = 40  # of a hidden process, shown where it fails


def parse(argv):
    """-> arguments; `command` is what stands after --."""
    usage = "python launch/local.py --processes=N [--devices-per-process=M] [--all] [--grace=S] [--dry-run] -- COMMAND ..."
    parser = argparse.ArgumentParser(
        usage=usage, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="how many processes (default 2)")
    parser.add_argument(
        "--devices-per-process", type=int, default=1, metavar="M", help="simulated CPU devices of each process (default 1)"
    )
    parser.add_argument("--all", action="store_true", help="show what every process prints, not process 0 alone")
    parser.add_argument(
        "--grace", type=float, default=15.0, metavar="S", help="seconds from a failure to SIGTERM, and to SIGKILL (default 15)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be started, and start nothing")
    split = argv.index("--") if "--" in argv else len(argv)
    args = parser.parse_args(argv[:split])
    args.command = argv[split + 1 :]
    if not args.command:
        parser.error(
            "which command? It stands after --, for example: -- python -m xmodal_jax.main --config=configs/pretrain.py"
        )
    if args.processes < 1 or args.devices_per_process < 1 or args.grace < 0:
        parser.error("--processes and --devices-per-process are at least 1, --grace at least 0")
    return args


def free_port():
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cluster_environment(index, args, port, xla_flags=""):
    """What a cluster would set for process `index`. Other XLA flags stay; a device count among them is replaced."""
    others = [flag for flag in xla_flags.split() if not flag.startswith(DEVICES)]
    return {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": str(args.processes),
        "JAX_PROCESS_ID": str(index),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": " ".join([*others, f"{DEVICES}={args.devices_per_process}"]),
        "PYTHONUNBUFFERED": "1",
    }


class Worker:
    """One process: its output line by line, and its exit status into a queue once it has ended."""

    def __init__(self, index, args, env, ended):
        self.index, self.shown, self.kept = index, args.all or index == 0, collections.deque(maxlen=KEPT_LINES)
        self.process = subprocess.Popen(
            args.command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,  # the terminal's Ctrl-C comes here alone, and is forwarded once
        )  # fmt: skip
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        threading.Thread(target=lambda: ended.put((self, self.process.wait())), daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            line = line.decode(errors="replace").rstrip("\r\n")
            say(f"[{self.index}] {line}") if self.shown else self.kept.append(line)

    def tell_end(self, code):
        """The last lines of a hidden process that failed, and how it ended."""
        self.reader.join(timeout=2)
        for line in self.kept:
            say(f"[{self.index}] {line}")
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
        say(f"local.py: process {self.index} {how}", sys.stderr)

    def tell(self, signum):
        if self.process.poll() is None:
            self.process.send_signal(signum)

    def kill(self):
        """SIGKILL for the process and what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


def say(line, stream=None):
    """A whole line at once, whichever threads write at the same time."""
    with SAYING:
        print(line, file=stream or sys.stdout, flush=True)


def run(args):
    """Start, watch and end the processes -> exit status."""
    port, ended = free_port(), queue.SimpleQueue()
    workers, failed, code = [], None, 0
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # forwarded below, once all have started
        signal.signal(signum, lambda signum, _: ended.put((None, signum)))
    try:
        for index in range(args.processes):
            env = os.environ | cluster_environment(index, args, port, os.environ.get("XLA_FLAGS", ""))
            workers.append(Worker(index, args, env, ended))
        running, stages = len(workers), [(signal.SIGTERM, 1), (signal.SIGKILL, 2)]
        while running:
            try:
                worker, status = ended.get(timeout=0.1)
            except queue.Empty:
                if failed and stages and time.monotonic() > failed + args.grace * stages[0][1]:
                    signum, _ = stages.pop(0)
                    for worker in workers:
                        worker.tell(signum)
                continue
            if worker is None:
                for worker in workers:
                    worker.tell(status)
                continue
            running -= 1
            if status and failed is None:
                failed, code = time.monotonic(), 128 - status if status < 0 else status
                worker.tell_end(status)
                if running:
                    say(f"local.py: the other {running} have {args.grace:g} s to end by themselves", sys.stderr)
            elif status and len(stages) == 2:  # failed by itself; later ones were ended from here
                worker.tell_end(status)
    except OSError as error:
        say(f"local.py: cannot start {args.command[0]}: {error.strerror}", sys.stderr)
        code = 127
    finally:
        for worker in workers:
            worker.kill()
    for worker in workers:
        worker.reader.join(timeout=2)
    return code


def main(argv):
    args = parse(argv)
    if not args.dry_run:
        return run(args)
    for index in range(args.processes):
        env = cluster_environment(index, args, "PORT", os.environ.get("XLA_FLAGS", ""))
        print(" ".join([*(f"{name}={shlex.quote(value)}" for name, value in env.items()), shlex.join(args.command)]))
    print("# PORT is a free one, found at the start", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

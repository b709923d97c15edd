"""Starts commands in forks of a process that has imported already: half of the time of a small run is Python's imports.

Reads one line of JSON for each command, {"module", "arguments", "env", "log", "limits", "ended"}, and prints its process id.
The fork does what `python -m MODULE ARGUMENTS` does from there on; JAX's backend is started behind it. The file `ended` gets
the exit status, negative for a signal.
"""

import atexit
import gc
import importlib
import json
import os
import pathlib
import resource
import runpy
import select
import sys
import threading

IMPORTED = (
    "configs.pretrain", "jax", "matplotlib.backends.backend_svg", "orbax.checkpoint", "grain", "tensorboardX", "transformers",
    "xmodal_jax.api", "xmodal_jax.cli", "xmodal_jax.draw.report", "xmodal_jax.evaluators", "xmodal_jax.systems.recipe",
    "xmodal_jax.train.loop", "tests.fault_config",
)  # fmt: skip


def become(module, arguments, env, log, limits):
    """What the new process does; it does not return."""
    code = 1
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for stream in (1, 2):
            os.dup2(out, stream)
        os.environ.clear()
        os.environ.update(env)
        for kind, value in limits:
            resource.setrlimit(kind, (value, value))
        sys.argv = [module, *arguments]
        sys.stdin = open(os.devnull)  # noqa: SIM115
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        threading._shutdown()
        atexit._run_exitfuncs()
        os._exit(code)


def main():
    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    ended, said = {}, b""
    while True:
        if select.select([0], [], [], 0.02)[0]:
            more = os.read(0, 1 << 16)
            if not more:
                return
            said += more
        while b"\n" in said:
            line, _, said = said.partition(b"\n")
            asked = json.loads(line)
            file = asked.pop("ended")
            pid = os.fork()
            if pid == 0:
                become(**asked)
            ended[pid] = file
            print(pid, flush=True)
        for pid in list(ended):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                file = pathlib.Path(ended.pop(pid))
                file.with_suffix(".part").write_text(str(os.waitstatus_to_exitcode(status)))
                file.with_suffix(".part").rename(file)


if __name__ == "__main__":
    main()

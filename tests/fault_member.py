"""A process of a run that is lost at a moment of its own: `python -m tests.fault_member`, with XMODAL_FAULT="MOMENT HOW FILE".

MOMENT: restore, loop or save, of HOW: killed, stopped or failing. FILE is made just before. The rest is `xmodal_jax.main`.
"""

import errno
import os
import pathlib
import runpy
import signal
import sys

STEP = 5  # of which the batch does not come


def lose(how, file):
    pathlib.Path(file).touch()
    if how == "failing":
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    os.kill(os.getpid(), {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}[how])


def arm(moment, how, file):
    """Have this process lost where it reads a checkpoint, waits for a batch, or writes one."""
    from xmodal_jax.train import checkpoints, checksums, loop

    if moment == "restore":
        right = checksums.verify

        def verify(*args):
            lose(how, file)
            return right(*args)

        checksums.verify = verify
    elif moment == "loop":
        make = loop.to_device

        def to_device(*args):
            for number, batch in enumerate(make(*args), 1):
                if number == STEP:
                    lose(how, file)
                yield batch

        loop.to_device = to_device
    elif moment == "save":
        save = checkpoints.ocp.CheckpointManager.save

        def saving(self, step, **kwargs):
            if step and how != "failing":
                save(self, step, **kwargs)  # which goes on in a thread
            lose(how, file)

        checkpoints.ocp.CheckpointManager.save = saving
    else:
        raise ValueError(moment)


if __name__ == "__main__":
    arm(*os.environ["XMODAL_FAULT"].split(maxsplit=2))
    sys.argv[0] = "xmodal_jax.main"
    runpy.run_module("xmodal_jax.main", run_name="__main__", alter_sys=True)

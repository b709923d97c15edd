"""One run at a time in a folder: a lock that the system lets go of when the process ends, however it ends."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import time

from absl import logging

from xmodal_jax.errors import UserError
from xmodal_jax.train import peers

FILE = "lock"
TAKEN = (errno.EWOULDBLOCK, errno.EACCES)


@contextlib.contextmanager
def locked(workdir):
    """Within, no other run writes into `workdir`, a folder that there is; its first process holds the lock for all of them.

    Raises UserError, in all processes, where another one holds it. On a disk without locks this is said once, and all goes on.
    """
    with contextlib.ExitStack() as held:
        peers.first_says("locking the folder", lambda: take(workdir, held))
        yield


def take(workdir, held):
    file = held.enter_context(open(os.path.join(workdir, FILE), "a+", encoding="utf-8"))  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in TAKEN:
            raise UserError(
                f"The folder {workdir} is in use: {holder(file)} trains there. Wait until it is done, end it, or give another "
                "--workdir."
            ) from None
        logging.warning(
            "%s: this disk has no locks (%s): take care that no second run uses this folder.", workdir, error.strerror
        )
        return
    file.truncate(0)
    file.write(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}))
    file.flush()


def holder(file):
    """Who wrote its name into a lock."""
    try:
        file.seek(0)
        told = json.load(file)
        return f"process {told['process']} on {told['host']}, since {told['since']},"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"

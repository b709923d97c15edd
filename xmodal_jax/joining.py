"""One of several processes: how it finds the others, and how it leaves them."""

import os
import socket
import sys
import time

from absl import flags, logging

from xmodal_jax.errors import UserError


def join_processes():
    """Join the other processes of this run, where it has any; only the first one tells how it goes."""
    import jax

    named = "JAX_COORDINATOR_ADDRESS" in os.environ
    if not (named or flags.FLAGS.distributed):
        return
    try:
        count, index = (
            int(os.environ[name]) if name in os.environ else None for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
        )
        address = os.environ.get("JAX_COORDINATOR_ADDRESS")
        jax.distributed.initialize(num_processes=count, process_id=index, coordinator_bind_address=door(address))
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"The processes of this run do not find each other ({str(error).splitlines()[0][:300]}): set "
            "JAX_COORDINATOR_ADDRESS (HOST:PORT), JAX_NUM_PROCESSES and JAX_PROCESS_ID for each, or use the scripts in launch/."
        ) from error
    from xmodal_jax.train import alive

    alive.start()
    if jax.process_index():
        logging.set_verbosity(logging.WARNING)


def door(address):
    """HOST:PORT that the first process listens at: the address that it is given, where that is one of this machine's own.

    None leaves it to JAX, which takes JAX_COORDINATOR_BIND_ADDRESS or, without it, every interface.
    """
    if not address or "JAX_COORDINATOR_BIND_ADDRESS" in os.environ:
        return None
    host, _, port = address.rpartition(":")
    try:
        for family, kind, _, _, place in socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM):
            with socket.socket(family, kind) as probe:
                probe.bind((place[0], 0))
            return f"[{place[0]}]:{port}" if family == socket.AF_INET6 else f"{place[0]}:{port}"
    except (OSError, ValueError):
        pass
    return None


def is_joined():
    """Whether this is one of several processes, which would wait for each other at their end."""
    return "jax" in sys.modules and sys.modules["jax"].distributed.is_initialized()


def is_lost(error):
    """Whether an error tells that another process of this run cannot be reached."""
    signs = ("Gloo", "Connection reset by peer", "Connection closed by peer", "coordination service", "NCCL", "UNAVAILABLE")
    return is_joined() and any(sign in str(error) for sign in signs)


def leave_others(reason, wait=False):
    """Where this is one of several processes, tell the others why it ends, or None: as it should.

    wait: another one was lost; it will be named in a moment, and then this process ends where it waits.
    """
    if not is_joined():
        return
    from xmodal_jax.train import alive

    if alive.here is not None:
        if wait:
            time.sleep(alive.SILENCE + 3 * alive.BEAT)
        alive.here.leave(reason)

"""One of several processes: how it finds the others, and how it leaves them."""

import ipaddress
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
        address = os.environ.get("JAX_COORDINATOR_ADDRESS") or address_in_cluster()
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


def address_in_cluster():
    """HOST:PORT at which the processes of this run meet, as JAX finds it of Slurm, Cloud TPU or GKE; None where it does not."""
    try:
        from jax._src.clusters import ClusterEnv  # there is no public name for it

        known = {"num_processes": 0, "process_id": 0, "local_device_ids": [0]}  # so that these are not looked for
        return ClusterEnv.auto_detect_unset_distributed_params(
            coordinator_address=None, cluster_detection_method=None, initialization_timeout=10, **known
        )[0]
    except Exception:  # jax.distributed.initialize says what is wrong
        return None


def door(address):
    """HOST:PORT that the first process listens at: the address that it is given, where that is one of this machine's own.

    None leaves it to JAX, which takes JAX_COORDINATOR_BIND_ADDRESS or, without it, every interface: also where a name means
    several addresses here, or the loopback interface (as many systems have it of their own name), since to other machines it
    may mean another one.
    """
    if not address or "JAX_COORDINATOR_BIND_ADDRESS" in os.environ:
        return None
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        found = {(family, place[0]) for family, _, _, _, place in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
        is_name = host != "localhost" and host not in {place for _, place in found}
        if is_name and (len(found) > 1 or any(ipaddress.ip_address(place).is_loopback for _, place in found)):
            return None
        for family, place in sorted(found):
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.bind((place, 0))
            return f"[{place}]:{port}" if family == socket.AF_INET6 else f"{place}:{port}"
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

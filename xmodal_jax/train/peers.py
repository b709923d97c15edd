"""The other processes of a run: what all of them agree on, by way of the coordinator's store of keys."""

import itertools
import json
import time

import jax
from jax.experimental import multihost_utils

from xmodal_jax.errors import UserError

PATIENCE = 600  # seconds that processes which do the same thing may lie apart
TURNS = itertools.count()  # every process comes to the same exchanges in the same order


def store():
    """The store of keys that all processes of this run share; None of a single process."""
    if jax.process_count() == 1:
        return None
    from jax._src import distributed  # there is no public name for it; orbax takes it from there as well

    return distributed.global_state.client


def meet():
    """All processes come here together, and try whether they reach each other.

    Gloo gives the first exchange between devices 30 s, which processes that compile for longer would not keep.
    """
    if jax.process_count() > 1:
        gathered("starting", None)
        multihost_utils.sync_global_devices("xmodal")


def gathered(what, value, patience=PATIENCE):
    """[value of process 0, 1, ...], JSON values: every process calls this, whatever it has met.

    The first process collects and hands on, so that a run of n processes asks 2 n times. Raises UserError where one process
    has not come here `patience` seconds after the others, and says which; what: what it is about, for that message.
    """
    client, count, index = store(), jax.process_count(), jax.process_index()
    if client is None:
        return [value]
    key, end = f"xmodal/{next(TURNS)}", time.monotonic() + patience
    if index:
        client.key_value_set(f"{key}/{index}", json.dumps(value))
        found = json.loads(waited(client, f"{key}/all", patience + 30, what, 0))
    else:
        found = {"values": [value]}
        try:
            for other in range(1, count):
                found["values"].append(json.loads(waited(client, f"{key}/{other}", end - time.monotonic(), what, other)))
        except UserError as error:
            found = {"error": str(error)}
        client.key_value_set(f"{key}/all", json.dumps(found))
    if "error" in found:
        raise UserError(found["error"])
    return found["values"]


def waited(client, key, seconds, what, process):
    """The value of a key once it is there; UserError where it does not come in time."""
    try:
        return client.blocking_key_value_get(key, max(1, int(1000 * seconds)))
    except jax.errors.JaxRuntimeError as error:
        if "DEADLINE_EXCEEDED" not in str(error):
            raise
        raise UserError(
            f"Process {process} is not done with {what} {PATIENCE} s after the others. Look at its log and its disk; "
            "the same command goes on from the last checkpoint."
        ) from None


def first_says(what, function):
    """function() of the first process, a JSON value, in all of them; a UserError or OSError of it in all of them."""
    if jax.process_count() == 1:
        return function()
    told = None
    if jax.process_index() == 0:
        try:
            told = {"value": function()}
        except (UserError, OSError) as error:
            told = {"error": str(error)}
    told = gathered(what, told)[0]
    if "error" in told:
        raise UserError(told["error"])
    return told["value"]

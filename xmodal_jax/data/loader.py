"""Batches in an order that is a pure function of (seed, epoch, index): step k is the same whoever asks, and whenever.

Grain shuffles, repeats and prefetches; one element of its data set is one global batch, so the state to save is the number of
the next step, and neither worker nor process count is part of it.
"""

import dataclasses
import signal

import grain
import jax
import numpy as np
from absl import flags

from xmodal_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class LoaderConfig:
    """threads: read-ahead threads; workers: processes (0: none); prefetch: batches made ahead; shuffle: per-epoch order.
    patience: seconds without a batch or a step after which the log names what stands still (0: never).
    """

    threads: int = 1
    workers: int = 0
    prefetch: int = 4
    shuffle: bool = True
    patience: int = 120


class Batches:
    """Random access to training batches: `self[step]` is a dictionary of arrays [B, ...]."""

    def __init__(self, source, make, batch_size, seed, shuffle=True):
        if len(source) == 0:
            raise UserError("The training data is empty: the source has no example in this split.")
        self.source, self.make, self.batch_size = source, make, batch_size
        order = grain.MapDataset.range(len(source)).seed(seed)
        self.order = (order.shuffle() if shuffle else order).repeat().batch(batch_size)

    def indices(self, step):
        """Example numbers of the whole global batch of `step`, int [B]."""
        return np.asarray(self.order[step])

    def __getitem__(self, step):
        return self.assemble(self.order[step], step, range(self.batch_size))

    def assemble(self, indices, step, rows):
        made = [self.make(self.source[int(indices[row])], step * self.batch_size + row) for row in rows]
        return {key: np.stack([row[key] for row in made]) for key in made[0]}

    def iterate(self, start, config=LoaderConfig(), rows=None):
        """Iterator over steps start, start + 1, ... with grain's read-ahead threads or worker processes.

        rows: the row numbers of each global batch that are made here (default all): what this process' devices hold.
        """
        rows = range(self.batch_size) if rows is None else rows
        batches = self.order[start:].map_with_index(lambda number, indices: self.assemble(indices, start + number, rows))
        options = grain.ReadOptions(num_threads=config.threads, prefetch_buffer_size=config.prefetch)
        dataset = batches.to_iter_dataset(options)
        if config.workers:
            if not flags.FLAGS.is_parsed():  # grain asks absl's flags, which a notebook never parses
                flags.FLAGS.mark_as_parsed()
            dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=config.workers), worker_init_fn=leave_ctrl_c)
        return explained(dataset)


def leave_ctrl_c(index, count):
    """In a worker: Ctrl-C in a terminal reaches it too, and is the run's own to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def explained(dataset):
    """What a data set gives; a UserError where one of its worker processes was lost."""
    try:
        yield from dataset
    except RuntimeError as error:
        if "terminated unexpectedly" not in str(error):
            raise
        raise UserError(
            f"A worker process of the loader was lost ({str(error).split('. ')[0][:200]}): the machine may be short of memory. "
            "The same command goes on from the last checkpoint; config.loader.workers sets how many there are."
        ) from error


def to_device(iterator, sharding, ahead=2):
    """Move batches to the device(s) ahead of their use, laid out by `sharding` (the rows of all processes joined)."""
    queue = []
    for batch in iterator:
        queue.append({key: jax.make_array_from_process_local_data(sharding(value.ndim), value) for key, value in batch.items()})
        if len(queue) >= ahead:
            yield queue.pop(0)
    yield from queue

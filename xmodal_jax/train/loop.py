"""The training loop of every system, top to bottom.

Order of a step: evaluate and save the old state, take the next batch, step, write. A run is a function of its config alone:
started again in the same folder it goes on from its newest checkpoint, and every further loss is bit for bit the same.
"""

import collections
import contextlib
import os
import time

import jax
from absl import logging
from jax.experimental import multihost_utils

from xmodal_jax import evaluators
from xmodal_jax.data.loader import to_device
from xmodal_jax.errors import UserError
from xmodal_jax.train import alive, checksums, fingerprint, peers, progress, report
from xmodal_jax.train import mesh as layout
from xmodal_jax.train.checkpoints import Checkpoints
from xmodal_jax.train.program import compile_step, state_maker
from xmodal_jax.train.signals import Stop, Stopped, stop_by_signals
from xmodal_jax.train.step import averaged
from xmodal_jax.train.watchdog import Watchdog
from xmodal_jax.train.workdir import claimed, differences, settings


def train(parts, workdir, is_stopped=None, strict=False):
    """Train (or go on training) in `workdir`; returns the last evaluation, a flat dictionary, or None where it was stopped.

    parts: `systems.recipe.Recipe`. is_stopped: step -> whether to save and end there. Default: on SIGTERM and Ctrl-C. strict:
    data that have changed since the run began are refused.
    Raises UserError for a config that cannot run, a folder of another config or in use, a loss that is not finite.
    """
    told = is_stopped if isinstance(is_stopped, Stop) or is_stopped is None else Stop(is_stopped)
    with claimed(parts.config, workdir), stop_by_signals() if told is None else contextlib.nullcontext(told) as stop:
        parts.keep(workdir)
        peers.first_says(
            "comparing the data", lambda: fingerprint.check(parts.train, workdir, strict, getattr(parts.maker, "files", ()))
        )
        return run(parts, workdir, stop)


def run(parts, workdir, stop):
    """The same in a folder that is this run's alone."""
    peers.meet()
    alive.running()
    config, mesh = parts.config, layout.make_mesh(parts.config.mesh)
    with jax.set_mesh(mesh):
        batch_sharding, rows = layout.batch_sharding(mesh), layout.local_rows(mesh, config.batch_size)
        make_state, shapes = state_maker(parts, mesh)
        judge = evaluators.make(parts)  # before the step is compiled: what they lack is told at once
        step, flops, facts, costs = compile_step(parts, mesh, shapes)
        progress.write_costs(workdir, costs)
        checkpoints = Checkpoints(os.path.join(workdir, "checkpoints"), config.keep_checkpoints)
        restored = checkpoints.restore(shapes)
        state, meta = restored or (make_state(), {"next_step": 0, "seconds": 0.0})
        origin = {"config": settings(config), "kept": checksums.digest(parts.kept_in(workdir))}
        check_origin(meta, origin, workdir)
        first = meta["next_step"]
        logging.info(
            "%s step %d of %d in %s", "going on from" if restored else "starting at", first, config.total_steps, workdir
        )

        board = progress.Progress(workdir, config.total_steps, first)
        batches = to_device(parts.batches.iterate(first, parts.loader, rows), batch_sharding)
        clock = Clock(first, meta["seconds"], flops, config.batch_size, parts.tokens_per_example())
        watchdog = Watchdog(parts.loader.patience)
        in_flight, pending, saved = collections.deque(), None, first if restored else None

        def write(step_number, values):
            values = {f"train/{name}": float(value) for name, value in jax.device_get(values).items()}
            if values.pop("train/bad_step") >= 0:
                stop_at_bad_step(parts, int(jax.device_get(state.bad_step)), workdir, checkpoints)
            values |= clock.rates(step_number)
            board.write(step_number, values)
            board.line(step_number, values, ("loss", *parts.objectives))

        def save(step_number):
            if int(jax.device_get(state.bad_step)) >= 0:
                stop_at_bad_step(parts, int(state.bad_step), workdir, checkpoints)
            board.sync()
            checkpoints.save(step_number, state, {"next_step": step_number, "seconds": clock.seconds(), **origin})

        def evaluated(step_number):
            with clock.paused(), stop.breaking():
                board.write(step_number, evaluate(judge, parts.used(averaged(state)), step_number)[0])

        def is_due(number):
            if not config.eval_every or number % config.eval_every:
                return False
            return number > first or bool(restored) and number > 0 and board.lacks_evaluation(number)

        number = first
        try:
            if config.eval_at_start and not restored:
                evaluated(0)
            for number in range(first, config.total_steps):
                stopped = stop(number)
                if not stopped and is_due(number):
                    try:
                        evaluated(number)
                    except Stopped:
                        stopped = True
                if number and number != saved and (number % config.checkpoint_every == 0 or stopped):
                    if pending:  # a run that goes on from here has all its lines up to here
                        write(*pending)
                        pending = None
                    save(number)
                if stopped:
                    raise Stopped
                with clock.waiting(), watchdog.over("batch", f"the batch of step {number + 1}"):
                    batch = next(batches)
                state, values = step(state, batch, number)
                if pending:
                    write(*pending)
                    pending = None
                if (number + 1) % config.log_every == 0 or number + 1 == config.total_steps:
                    jax.tree.map(lambda value: value.copy_to_host_async(), values)
                    pending = number + 1, values
                in_flight.append(values["loss"])
                if len(in_flight) > 2:  # never more than two steps ahead of the device, so that batches do not pile up there
                    with watchdog.over("step", f"the end of step {number - 1}"):
                        in_flight.popleft().block_until_ready()
                checkpoints.check()
            number = config.total_steps
            if pending:
                write(*pending)
            if number != saved:
                save(number)
            with stop.breaking():
                results, samples = evaluate(judge, parts.used(averaged(state)), number)
                board.write(number, results)
                results |= progress.before(workdir, ("retrieval/gap",))
                more, *shown = parts.conclude(averaged(state), workdir)
        except Stopped:
            checkpoints.close()
            saying = "stopped at step %d, saved: the same command with --workdir=%s goes on from here."
            if not number:
                saying = "stopped at step %d, before the first step, nothing saved: the same command with --workdir=%s starts."
            logging.info(saying, number, workdir)
            return None
        finally:
            watchdog.close()
            board.close()
        checkpoints.close()
        return report.finish(parts, workdir, results | more, samples, facts, *shown)


def check_origin(meta, origin, workdir):
    """Raise a UserError where a checkpoint comes of another config, or of another vocabulary than the run's folder holds.

    Both are {"config": `workdir.settings`, "kept": digest of what the run keeps}; checkpoints from before lack them.
    """
    wrong = differences(meta["config"], origin["config"]) if "config" in meta else []
    if meta.get("kept") not in (None, origin["kept"]):
        wrong.append("what the run keeps of its model (model/) has changed")
    if wrong:
        raise UserError(
            f"The newest checkpoint in {workdir} is not of this run: {'; '.join(wrong)}. It is left as it is: put the folder "
            "back as it was, or give a new --workdir to start afresh."
        )


def evaluate(judge, params, step):
    """Run every evaluator -> (flat metrics, samples). Of several processes each evaluates a whole copy by itself."""
    start = time.monotonic()
    if jax.process_count() > 1:
        whole = multihost_utils.process_allgather(params, tiled=True)
        with jax.set_mesh(layout.make_mesh({}, jax.local_devices()[:1])):
            results, samples = judge(whole)
    else:
        results, samples = judge(params)
    logging.info("evaluation at step %d took %.1f s", step, time.monotonic() - start)
    for name, value in results.items():
        logging.info("  %-36s %.4g", name, value)
    return results, samples


def stop_at_bad_step(parts, index, workdir, checkpoints):
    """The NaN guard's end, the same in all processes: the last checkpoint is finished, the step and its examples are named.

    index: of the step's batch; steps are counted from 1.
    """
    checkpoints.close()
    ids = [parts.train[int(i)]["id"] for i in parts.batches.indices(index)]
    good = f"the last checkpoint in {workdir} is good" if checkpoints.steps() else f"there is no checkpoint in {workdir} yet"
    raise UserError(
        f"The loss or its gradient is not finite at step {index + 1}; the parameters were left as they were before it and "
        f"{good}. The batch of that step: {', '.join(ids)}. A lower config.optimizer.learning_rate or a look at these examples "
        "may help."
    )


class Clock:
    """Rates between log steps, without the time of evaluations; the time that steps waited for data."""

    def __init__(self, step, seconds, flops, batch_size, tokens):
        self.flops, self.batch_size, self.tokens, self.before = flops, batch_size, tokens, seconds
        self.start = self.last = time.monotonic()
        self.first_step = self.last_step = step
        self.waited = 0.0

    def seconds(self):
        """Training time of the run so far, earlier starts included."""
        return self.before + time.monotonic() - self.start

    @contextlib.contextmanager
    def paused(self):
        begin = time.monotonic()
        yield
        self.last += time.monotonic() - begin

    @contextlib.contextmanager
    def waiting(self):
        begin = time.monotonic()
        yield
        self.waited += time.monotonic() - begin

    def rates(self, step):
        """Since the last call: examples/s, tokens/s, TFLOP/s per device (analytic), share of the time that data was awaited."""
        now = time.monotonic()
        per_second = (step - self.last_step) / max(now - self.last, 1e-9)
        waited = self.waited / max(now - self.last, 1e-9)
        self.last, self.last_step, self.waited = now, step, 0.0
        return {
            "examples_per_s": per_second * self.batch_size,
            "tokens_per_s": per_second * self.batch_size * self.tokens,
            "tflops_per_s": per_second * self.flops / 1e12 / jax.device_count(),
            "data_wait_share": waited,
            "seconds": self.seconds(),
        }

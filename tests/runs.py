"""Short runs that tests share: each is trained once in a run of the suite, by whichever process needs it first."""

import contextlib
import functools
import json

import pytest
from filelock import FileLock
from jax import monitoring

from configs.pretrain import get_config
from xmodal_jax import api
from xmodal_jax.train import loop, report

compilations, known = [0], {}


def count(event, seconds, **_):
    compilations[0] += event == "/jax/core/compile/backend_compile_duration"


monitoring.register_event_duration_secs_listener(count)


def pretrain_config():
    """Of system 1, with random numbers in its steps and an average that must go on as well."""
    config = get_config("debug,image_size=32")
    config.total_steps, config.log_every, config.checkpoint_every, config.batch_size = 8, 1, 3, 4
    config.data.count, config.model.dropout, config.ema = 24, 0.1, 0.5
    config.evaluators = {"masked": {"count": 8, "rows": 8}, "retrieval": {"count": 8}}
    return config


@contextlib.contextmanager
def compiled_once():
    """Within, this process has the programs and the evaluators of one config once: most of a short run's time."""

    def once(name, function):
        def get(parts, *rest):
            key = name, str(parts.config)
            if key not in known:
                known[key] = function(parts, *rest)
            return known[key]

        return get

    with pytest.MonkeyPatch.context() as patch:
        for place, name in ((loop, "state_maker"), (loop, "compile_step"), (loop.evaluators, "make")):
            patch.setattr(place, name, once(name, getattr(place, name)))
        yield


@contextlib.contextmanager
def counted_steps():
    """Yields a list: how many programs this process had compiled before each step of the runs within."""
    compile_step, seen = loop.compile_step, []

    def counted(*args):
        step, *rest = compile_step(*args)

        def counting(state, batch, number):
            seen.append(compilations[0])
            return step(state, batch, number)

        return counting, *rest

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "compile_step", counted)
        yield seen


def trained(root, config):
    """-> (folder of a system's finished run, not to be changed; its results; programs compiled before each step)."""
    name = (
        config.model.name
        + "-compress" * bool(config.get("compress"))
        + "-fused" * (config.model.get("interaction", "dual") != "dual")
    )
    folder, told = root / name / "run", root / f"{name}.json"
    with FileLock(f"{told}.lock"):
        if not told.exists():
            with compiled_once(), counted_steps() as seen, pytest.MonkeyPatch.context() as patch:
                few = functools.partial(report.write_report, most_panels=4)  # all thirty take as long as the training
                patch.setattr(report, "write_report", few)
                results = api.train(config, str(folder))
            told.write_text(json.dumps([results, seen]))
    return str(folder), *json.loads(told.read_text())

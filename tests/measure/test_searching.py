"""Search of meshes, recomputation and batches: what is tried, how estimates come about and learn; nothing is compiled."""

import dataclasses
import math
import pathlib

import jax
import pytest

from tests.measure.test_planning import some_plan
from xmodal_jax.config import load_config
from xmodal_jax.errors import UserError
from xmodal_jax.measure import chips, planning, searching

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"


def config_of(name, arguments=""):
    return load_config(str(CONFIGS / f"{name}.py"), arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "towers"),
    [("pretrain", "size=base", 1), ("caption", "scale=paper", 2), ("vqa", "text=bert,image=beit", 2), ("vqa", "", 0)],
)
def test_candidates_fill_the_devices_and_differ(name, arguments, towers):
    config = config_of(name, arguments)
    sections = planning.sections(config)
    assert len(sections) == towers
    found = list(searching.candidates(config, 16))
    assert len(set(found)) == len(found) > (50 if towers else 15)
    for one in found:
        assert math.prod(one.mesh) == 16 and one.batch_size % (one.mesh[0] * one.mesh[1] * one.accumulate) == 0
        assert all(section.heads % one.mesh[2] == 0 for section in sections)
        assert one.rows * one.accumulate * one.mesh[0] * one.mesh[1] == one.batch_size
    made = found[-1].config(config)
    assert made.batch_size == found[-1].batch_size and config.batch_size < made.batch_size
    assert [section.remat for section in planning.sections(made)] == [found[-1].remat] * towers
    assert [section.remat for section in sections] == ["none"] * towers


@pytest.fixture(scope="module")
def estimates():
    """Of a tiny model with two of its losses on one chip, which has 16 times the memory of a v5e."""
    config = config_of("pretrain", "size=tiny")
    config.objectives = {name: config.objectives[name].to_dict() for name in ("masked_words", "contrastive")}
    config.optimizer.name = "adamw"  # which keeps two moments of every parameter
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "open_topology", lambda name: (chips.tpu("v5e"), 1, jax.devices()[:1]))
        found = searching.Estimates(config, "v5e:1x1")
    for mesh in ((1, 1, 1), (1, 8, 1), (8, 1, 1), (1, 4, 2)):
        assert found.divides(mesh)
    return found


def candidate(mesh=(1, 8, 1), remat="none", batch_size=8, accumulate=1):
    return searching.Candidate(mesh, remat, batch_size, accumulate)


@pytest.mark.slow
def test_the_gradient_keeps_less_the_more_is_recomputed(estimates):
    assert estimates.kept["none"] > 1.5 * estimates.kept["dots"] > 1.5 * estimates.kept["full"] > 0
    parameters, state = estimates.states[1, 1, 1]
    assert parameters == 4 * estimates.parameters and 3 * parameters < state < 3.01 * parameters
    assert estimates.states[1, 8, 1][1] < 0.3 * state and estimates.states[8, 1, 1][1] == state


@pytest.mark.slow
def test_estimates_scale_as_they_should(estimates, monkeypatch):
    rows = [estimates.temporaries(candidate(batch_size=8 * rows)) for rows in (1, 2, 3)]
    assert rows[2] - rows[1] == pytest.approx(rows[1] - rows[0]) == pytest.approx(estimates.kept["none"])
    assert estimates.temporaries(candidate(batch_size=32, accumulate=4)) == rows[0]
    gathered = 2 * 4 + 4  # parameters twice, their gradient once; of float32 here
    assert estimates.sent(candidate()) == pytest.approx(7 / 8 * gathered * estimates.parameters)
    assert estimates.sent(candidate((8, 1, 1))) == pytest.approx(2 * 7 / 8 * 4 * estimates.parameters)
    assert estimates.sent(candidate(batch_size=32, accumulate=4)) == 4 * estimates.sent(candidate())
    assert estimates.sent(candidate((1, 1, 1))) == 0
    chip, one = chips.tpu("v5e"), candidate((1, 1, 1), "full", 10**7)
    arithmetic, idle = 4 / 3 * estimates.flops * 10**7, dataclasses.replace(chip, flops=1e99)
    traffic = 2 * (estimates.states[one.mesh][1] + estimates.temporaries(one)) / chip.bandwidth
    monkeypatch.setattr(estimates, "chip", idle)
    assert estimates.seconds(one) == pytest.approx(traffic + searching.FIXED)
    monkeypatch.setattr(estimates, "chip", dataclasses.replace(chip, flops=arithmetic / traffic / 10))
    assert estimates.seconds(one) == pytest.approx((10 + searching.APART) * traffic + searching.FIXED)


def test_what_was_compiled_corrects_those_like_it(estimates, monkeypatch):
    monkeypatch.setattr(estimates, "factors", {})
    one, alike, other = candidate(), candidate(batch_size=64), candidate(remat="dots")
    before = [estimates.temporaries(x) for x in (alike, other)]
    plan = some_plan(temporary_bytes=3 * estimates.temporaries(one), network_s=0.0)
    estimates.correct(one, plan)
    assert estimates.temporaries(alike) == pytest.approx(3 * before[0]) and estimates.temporaries(other) == before[1]
    sent = estimates.sent(one)
    estimates.correct(one, some_plan(temporary_bytes=0, network_s=5 * sent / chips.tpu("v5e").network))
    assert estimates.sent(alike) == pytest.approx(5 * sent)


def test_a_search_goes_on_from_what_it_compiled(estimates, monkeypatch):
    """What was compiled and is too big costs its kind the promise to fit; what is refused or breaks is left out."""
    monkeypatch.setattr(estimates, "factors", {})
    monkeypatch.setattr(estimates, "devices", 8)
    monkeypatch.setattr(estimates, "chip", dataclasses.replace(estimates.chip, flops=1e9, bandwidth=1e18))  # arithmetic alone
    monkeypatch.setattr(searching, "Estimates", lambda config, topology: estimates)
    tried = []

    def make(config, topology, stage):
        one = candidate(tuple(config.mesh.values()), config.model.remat, config.batch_size, config.accumulate)
        tried.append(one)
        if len(tried) == 1:
            raise UserError("not this one")
        if len(tried) == 4:
            raise jax.errors.JaxRuntimeError("INTERNAL: nor this")
        fits = one.remat != "none"
        figures = dict(temporary_bytes=estimates.temporaries(one) if fits else 10**15, network_s=0.0, memory_s=0.0)
        seconds = estimates.seconds(one) if fits else 0.0
        return some_plan(batch_size=one.batch_size, remat=one.remat, fits=fits, compute_s=seconds, **figures)

    monkeypatch.setattr(planning, "make", make)
    plans = list(searching.search(config_of("pretrain", "size=tiny"), "v5e:2x4", 4))
    assert len(plans) == 3 and len(tried) == len(set(tried)) == 5
    too_big = [one.mesh[2] > 1 for one in tried if one.remat == "none"]
    assert 1 <= len(too_big) == len(set(too_big)), "of its kind none is tried again"
    assert {one.rows for one in tried} == {1}, "arithmetic alone: a larger batch is not faster"
    assert [plan.fits for plan in searching.ranked(plans)] == sorted((plan.fits for plan in plans), reverse=True)


def test_a_search_that_finds_nothing_says_so(estimates, monkeypatch):
    def make(config, topology, stage):
        raise UserError("not this one")

    monkeypatch.setattr(estimates, "devices", 1)
    monkeypatch.setattr(searching, "Estimates", lambda config, topology: estimates)
    monkeypatch.setattr(planning, "make", make)
    with pytest.raises(UserError, match="None of the candidates for v5e:1x1"):
        list(searching.search(config_of("pretrain", "size=tiny"), "v5e:1x1", 2))

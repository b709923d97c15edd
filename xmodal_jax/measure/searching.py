"""Which mesh, recomputation, batch and accumulation to train with: all are estimated, the most promising few are compiled.

What an estimate needs is known without compiling: bytes of the state on every mesh, arithmetic, and what the gradient keeps of
an example. Each compiled plan then corrects the estimates of those like it.
"""

import dataclasses
import math
import time

import jax
import jax.numpy as jnp
from absl import logging
from jax.sharding import AbstractMesh, AxisType
from ml_collections import ConfigDict

from xmodal_jax.errors import UserError
from xmodal_jax.measure import planning
from xmodal_jax.measure.figures import size
from xmodal_jax.models.transformer import REMAT
from xmodal_jax.models.verbs import Verbs
from xmodal_jax.systems import recipe
from xmodal_jax.train import mesh as layout
from xmodal_jax.train import program
from xmodal_jax.train.gradient import active, evaluate_with, weighted_mean

FIXED = 5e-4  # seconds of a microbatch that no rate explains
APART = 0.1  # share of the shorter of arithmetic, memory traffic and network that does not overlap with the longest
ROOM = 0.9  # share of the memory that an estimate may fill
ALIKE = 0.02  # relative difference of rates that does not count: of so fast ones the smaller batch


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A way to run the config: mesh sizes, remat policy, global batch, accumulation."""

    mesh: tuple
    remat: str
    batch_size: int
    accumulate: int

    @property
    def rows(self):
        """Examples of a microbatch on one device."""
        return self.batch_size / (self.mesh[0] * self.mesh[1]) / self.accumulate

    def config(self, base):
        """A copy of `base` with this candidate's settings."""
        config = with_remat(base, self.remat)
        config.mesh = dict(zip(layout.AXES, self.mesh, strict=True))
        config.batch_size, config.accumulate = self.batch_size, self.accumulate
        return config


def with_remat(base, remat):
    """A copy of `base` whose model, or every tower of it, recomputes by a policy."""
    config = ConfigDict(base.to_dict())
    for section in planning.sections(config):
        section.remat = remat
    return config


def candidates(config, devices):
    """All that are worth a thought: fsdp and data and tensor sizes, policies, batches from one example a device upwards."""
    heads = [section.heads for section in planning.sections(config)]
    meshes = []
    for tensor in (1, 2, 4, 8):
        rest = devices // tensor
        if devices % tensor or any(count % tensor for count in heads):
            continue
        fsdp = rest
        while fsdp >= 1 and rest % fsdp == 0:
            meshes.append((rest // fsdp, fsdp, tensor))
            fsdp //= 4
    for mesh in meshes:
        rows = mesh[0] * mesh[1]
        for per_row in (1, 2, 4, 8, 16, 32, 64):
            for accumulate in (1, 4):
                for remat in REMAT if heads else ("none",):
                    if per_row % accumulate == 0:
                        yield Candidate(mesh, remat, rows * per_row, accumulate)


class Estimates:
    """Memory and time of candidates, before any is compiled and better after each that was."""

    def __init__(self, config, topology):
        """Traces the model once a recomputation policy; nothing is compiled."""
        self.chip, count, devices = planning.open_topology(topology)
        self.devices, self.share = len(devices), len(devices) // count
        self.kept = {}  # {remat: bytes that the gradient keeps of an example}
        with jax.set_mesh(layout.make_mesh({"data": -1}, devices)):
            for remat in REMAT if planning.sections(config) else ("none",):
                parts = recipe.make(with_remat(config, remat))
                if not self.kept:  # recomputation changes no shape
                    _, self.shapes = program.state_maker(parts, jax.sharding.get_mesh())
                self.kept[remat] = kept_bytes(parts, self.shapes.params, 16) - kept_bytes(parts, self.shapes.params, 8)
                self.kept[remat] /= 8
            self.flops = program.step_flops(parts, self.shapes) / config.batch_size
        self.stage = parts.stages.longest(config.total_steps)  # what most steps take
        self.compute = jnp.dtype(parts.model.dtype).itemsize
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(self.shapes.params))
        self.states = {}  # {mesh: bytes on one device (of parameters, of the whole state)}
        self.factors = {}  # {(figure, what plans like it share): compiled over estimated}

    def divides(self, mesh):
        """Whether every array of the state can be split as a mesh says."""
        axes = AbstractMesh(mesh, layout.AXES, axis_types=(AxisType.Auto,) * len(mesh))
        try:
            places = layout.shardings(self.shapes, axes)
        except UserError as error:
            logging.info("left out the mesh %s: %s", mesh, error)
            return False
        shapes = jax.tree.map(lambda s, place: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place), self.shapes, places)
        self.states[mesh] = planning.device_bytes(shapes.params), planning.device_bytes(shapes)
        return True

    def temporaries(self, one):
        """Bytes of activations, gradients and a few gathered parameters."""
        parameters, _ = self.states[one.mesh]
        tensor = one.mesh[2]
        most, least = self.kept[one.remat], min(self.kept.values())  # tensor does not split what lies between layers
        whole = self.parameters * self.compute / tensor
        guess = one.rows * (least + (most - least) / tensor) + parameters + whole / 8
        return guess * self.factors.get(("temporaries", one.remat, tensor > 1), 1.0)

    def sent(self, one):
        """Bytes that a device sends: parameters gathered twice and gradients scattered, per microbatch, and tensor's sums."""
        data, fsdp, tensor = one.mesh
        whole = self.parameters / tensor
        guess = one.accumulate * whole * self.compute * (3 * (fsdp - 1) / fsdp + 2 * (data - 1) / data / fsdp)
        guess += 8 * (tensor - 1) / tensor * min(self.kept.values()) * one.rows * one.accumulate
        return guess * self.factors.get(("sent", fsdp > 1, tensor > 1), 1.0)

    def seconds(self, one):
        """Of a step: the longest of arithmetic, memory traffic and network, a little of the others, and FIXED a microbatch."""
        flops = planning.RECOMPUTED[one.remat] * self.flops * one.batch_size / math.prod(one.mesh)
        traffic = 2 * (self.states[one.mesh][1] + self.temporaries(one))
        rates = (flops, self.chip.flops), (traffic, self.chip.bandwidth), (self.sent(one), self.chip.network)
        times = [count * self.share / rate for count, rate in rates]
        return (1 - APART) * max(times) + APART * sum(times) + FIXED * one.accumulate

    def most_promising(self, candidates):
        """Of those that should fit, else of all: the smallest batch of those that are about as fast as the fastest, of these
        the fastest."""
        memory = {one: self.states[one.mesh][1] + self.temporaries(one) for one in candidates}
        fitting = [one for one in candidates if memory[one] < ROOM * self.chip.hbm / self.share] or candidates
        rates = {one: one.batch_size / self.seconds(one) for one in fitting}
        least = (1 - ALIKE) * max(rates.values())
        return max((one for one in fitting if rates[one] >= least), key=lambda one: (-one.batch_size, rates[one]))

    def correct(self, one, plan):
        """Take the figures of a compiled plan for those of the candidates like it."""
        _, fsdp, tensor = one.mesh
        for key, estimate, found in (
            (("temporaries", one.remat, tensor > 1), self.temporaries(one), plan.temporary_bytes),
            (("sent", fsdp > 1, tensor > 1), self.sent(one), plan.network_s * self.chip.network / self.share),
        ):
            if estimate and found:  # what did not fit has no times
                self.factors[key] = self.factors.get(key, 1.0) * found / estimate


def kept_bytes(parts, params, rows):
    """Bytes that the gradient of all objectives keeps from the forward pass of `rows` examples, parameters included."""

    def forward(params, batch):
        key, objectives = jax.random.PRNGKey(0), active(parts.objectives)

        def loss(params):
            losses, _ = evaluate_with(Verbs(parts.model, params, key, train=True), objectives, batch, key)
            return jnp.asarray(weighted_mean(objectives, losses), jnp.float32)

        return jax.vjp(loss, params)[1]

    kept = jax.eval_shape(forward, params, parts.example_batch(rows))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))


def search(config, topology, compiles):
    """Compile the most promising candidates, at most `compiles` of them; yields their plans as they come.

    UserError where there are none to compile. One that the compiler breaks on is told and left out.
    """
    estimates, start, done, found = Estimates(config, topology), time.monotonic(), 0, False
    left = list(candidates(config, estimates.devices))
    usable = {mesh for mesh in {one.mesh for one in left} if estimates.divides(mesh)}
    left = [one for one in left if one.mesh in usable]
    while left and done < compiles:
        one = estimates.most_promising(left)
        left.remove(one)
        try:
            plan = planning.make(one.config(config), topology, estimates.stage)
        except UserError as error:
            logging.info("left out %s: %s", one, error)
            continue
        except jax.errors.JaxRuntimeError as error:
            logging.warning("the compiler breaks on %s: %s", one, str(error).splitlines()[0][:300])
            done += 1
            continue
        estimates.correct(one, plan)
        done, found = done + 1, True
        spent = time.monotonic() - start
        logging.info(
            "%d/%d %s: %s of %s%s, %.3g examples/s, ETA %d s", done, compiles, planning.describe(plan), size(plan.peak_bytes),
            size(plan.hbm_bytes), "" if plan.fits else " does not fit", plan.examples_per_s, spent / done * (compiles - done),
        )  # fmt: skip
        yield plan
    if not found:
        raise UserError(f"None of the candidates for {topology} could be compiled; the lines above say why.")


def ranked(plans):
    """Best first: those that fit, by their rate."""
    return sorted(plans, key=lambda plan: (plan.fits, plan.examples_per_s), reverse=True)

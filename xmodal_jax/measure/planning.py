"""What one training step needs on chips that are not here: compiled by their own compiler, measured, priced.

Times are bounds from the chip's published rates, not predictions of a real run: `bound_s` is the longest of arithmetic, memory
traffic and network (perfectly overlapped), `serial_s` their sum.
"""

import dataclasses
import glob
import math
import os
import re
import shutil
import tempfile
import time

import jax
from jax.experimental import topologies
from ml_collections import ConfigDict

from xmodal_jax.draw.blocks import Table
from xmodal_jax.errors import UserError
from xmodal_jax.measure import chips, hlo
from xmodal_jax.measure.figures import size
from xmodal_jax.systems import recipe
from xmodal_jax.train import mesh as layout
from xmodal_jax.train import program

RECOMPUTED = {"none": 1.0, "dots": 1.0, "full": 4 / 3}  # matrix products done over those that count, at most
DUMPS = f"xmodal-plan-{os.getpid()}-"  # folders of the compiler's texts


@dataclasses.dataclass
class Plan:
    """One step of one config on one topology. Bytes and FLOPs are per device, of which a chip has `devices_per_chip`."""

    topology: str
    chips: int
    devices: int
    mesh: dict
    batch_size: int
    accumulate: int
    remat: str
    parameters: int = 0
    parameter_bytes: int = 0
    optimizer_bytes: int = 0
    batch_bytes: int = 0
    temporary_bytes: int = 0
    peak_bytes: int = 0
    hbm_bytes: int = 0
    fits: bool = False
    flops: float = 0.0
    collectives: dict = dataclasses.field(default_factory=dict)
    compute_s: float = 0.0
    memory_s: float = 0.0
    network_s: float = 0.0
    compile_s: float = 0.0
    warnings: list = dataclasses.field(default_factory=list)
    advice: str = ""
    stage: str = ""

    @property
    def devices_per_chip(self):
        return self.devices // self.chips

    @property
    def bound_s(self):
        return max(self.compute_s, self.memory_s, self.network_s)

    @property
    def serial_s(self):
        return self.compute_s + self.memory_s + self.network_s

    @property
    def mfu_bound(self):
        """Share of the peak arithmetic rate that the bound leaves to the model; what is done twice does not count."""
        return self.compute_s / RECOMPUTED[self.remat] / self.bound_s if self.bound_s else 0.0

    @property
    def examples_per_s(self):
        return self.batch_size / self.bound_s if self.bound_s else 0.0

    def cost(self, steps, price):
        """Dollars for `steps` steps at `price` dollars per chip and hour, at the bound."""
        return steps * self.bound_s / 3600 * self.chips * price

    def as_json(self):
        """All figures, with the derived ones."""
        names = ("devices_per_chip", "bound_s", "serial_s", "mfu_bound", "examples_per_s")
        return dataclasses.asdict(self) | {name: getattr(self, name) for name in names}


def open_topology(name):
    """ "v5e:16x16" -> (chip, number of chips, devices that are not there). UserError where name or compiler is unknown."""
    generation, _, shape = name.partition(":")
    chip = chips.tpu(generation)
    if not re.fullmatch(r"\d+(x\d+)+", shape):
        raise UserError(f"Topology {name!r}: write GENERATION:SHAPE, for example v5e:16x16, v5p:8x8x8, v6e:16x16, tpu7x:4x4x4.")
    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=name).devices
    except Exception as error:  # the plugin's own kinds
        lines = [line for line in str(error).splitlines() if line] or [type(error).__name__]
        raise UserError(
            f"The TPU compiler cannot describe {name!r} ({lines[0][:200]}). The compiler is part of the extra `tpu` "
            "(pip install 'xmodal_jax[tpu]'), and the shape must be one that exists."
        ) from error
    return chip, math.prod(map(int, shape.split("x"))), list(devices)


def sections(config):
    """The sections of a config that are transformers: the model's own, or those of its towers."""
    own = [section for section in (config.model, *config.model.values()) if isinstance(section, ConfigDict)]
    return [section for section in own if "remat" in section]


def of_stages(config, topology):
    """Plans of the steps of every stage of a run, one after the other."""
    for number in range(len(recipe.make(config).stages.stages)):
        yield make(config, topology, number)


def make(config, topology, stage=0):
    """Lower and compile the training step of `config` for `topology` -> Plan. UserError for a config that cannot be.

    stage: number of the stage of the run whose step it is.
    """
    chip, count, devices = open_topology(topology)
    parts, mesh = recipe.make(config), layout.make_mesh(config.mesh, devices)
    layout.check_rows(mesh, config.batch_size)
    remat = max((section.remat for section in sections(config)), key=RECOMPUTED.get, default="none")
    plan = Plan(topology, count, len(devices), dict(mesh.shape), config.batch_size, config.accumulate, remat)
    plan.stage = parts.stages.stages[stage].name if len(parts.stages.stages) > 1 else ""
    share = plan.devices_per_chip
    with jax.set_mesh(mesh):
        _, shapes = program.state_maker(parts, mesh)
        plan.parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes.params))
        plan.parameter_bytes = device_bytes(shapes.params)
        plan.optimizer_bytes = device_bytes(shapes) - plan.parameter_bytes
        plan.batch_bytes = device_bytes(program.batch_shapes(parts, mesh))
        plan.hbm_bytes = round(chip.hbm / share)
        plan.flops = program.step_flops(parts, shapes) / len(devices)
        start = time.monotonic()
        try:
            compiled, text = compile_with_text(program.lower_step(parts, mesh, shapes, stage))
        except jax.errors.JaxRuntimeError as error:
            plan.peak_bytes = wanted_bytes(str(error))
            plan.compile_s = time.monotonic() - start
            if not plan.peak_bytes:
                raise
            plan.temporary_bytes = max(0, plan.peak_bytes - plan.parameter_bytes - plan.optimizer_bytes - plan.batch_bytes)
            plan.advice = advise(plan)
            return plan
    plan.compile_s = time.monotonic() - start
    memory = compiled.memory_analysis()
    plan.temporary_bytes = memory.temp_size_in_bytes
    outputs = memory.output_size_in_bytes - memory.alias_size_in_bytes
    plan.peak_bytes = memory.argument_size_in_bytes + plan.temporary_bytes + outputs + memory.generated_code_size_in_bytes
    plan.fits = plan.peak_bytes <= plan.hbm_bytes
    found = hlo.collectives(text)
    plan.collectives = hlo.by_kind(found)
    plan.compute_s = RECOMPUTED[plan.remat] * plan.flops * share / chip.flops
    state = plan.parameter_bytes + plan.optimizer_bytes
    plan.memory_s = (2 * state + plan.batch_bytes + 2 * plan.temporary_bytes) * share / chip.bandwidth
    plan.network_s = sum(one.sent_bytes for one in found) * share / chip.network
    plan.warnings = contradictions(found, shapes, config.batch_size, mesh)
    plan.advice = advise(plan)
    return plan


def compile_with_text(lowered):
    """-> (compiled program, its optimised text). The TPU compiler writes the text itself: it may be newer than jaxlib, whose
    `as_text` then cannot read what it made. Nor can the compilation cache give back a program for chips that are not here."""
    caching = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        return compile_anew(lowered)
    finally:
        jax.config.update("jax_enable_compilation_cache", caching)


def compile_anew(lowered):
    with tempfile.TemporaryDirectory(prefix=DUMPS) as folder:
        compiled = lowered.compile(compiler_options={"xla_dump_to": folder, "xla_dump_hlo_as_text": True})
        (path,) = glob.glob(os.path.join(folder, "*.after_codegen.txt"))
        with open(path, encoding="utf-8") as file:
            return compiled, file.read()


def clear():
    """Remove what compiles that were not waited for leave."""
    for folder in glob.glob(os.path.join(tempfile.gettempdir(), f"{DUMPS}*")):
        shutil.rmtree(folder, ignore_errors=True)


def device_bytes(tree):
    """Bytes of a tree of ShapeDtypeStructs on one device, by their shardings: the closed form."""
    leaves = jax.tree.leaves(tree)
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)


def wanted_bytes(message):
    """Bytes that a program asked for, from the compiler's out-of-memory message; 0 where it is another message."""
    found = re.search(r"([\d.]+)([KMGT])i?B?\)? exceeds available|Used ([\d.]+)([KMGT]) of", message)
    if "hbm" not in message.lower() or not found:
        return 0
    number, unit = (found.group(1) or found.group(3)), (found.group(2) or found.group(4))
    return round(float(number) * 1024 ** " KMGT".index(unit))


def contradictions(found, shapes, batch_size, mesh):
    """Sentences on what the compiled text does against the layout, or what of it was not understood.

    A whole stack of layers gathered at once (hoisted out of the loop over them), and an activation of the whole batch's rows
    on every device.
    """
    stacks, single = {}, set()  # shapes of whole stacks, and of single layers, in any order of dimensions
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes.params):
        if "layers/" not in layout.path_of(path):
            continue
        single |= {tuple(sorted(leaf.shape[1:])), tuple(sorted((1, *leaf.shape[1:])))}
        if leaf.ndim > 2 and leaf.shape[0] > 1 and not leaf.sharding.is_fully_replicated:
            stacks.setdefault(tuple(sorted(leaf.shape)), layout.path_of(path))
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    out = [
        f"the groups of a {one.kind} cannot be read, its traffic is not counted ({one.op_name[-80:]})"
        for one in found
        if not one.group
    ]
    for one in found:
        if one.kind != "all-gather":
            continue
        for _, dims in one.shapes:
            path = stacks.get(tuple(sorted(dims)))
            if path and tuple(sorted(dims)) not in single:
                out.append(
                    f"{path}: all layers {list(dims)} are gathered at once instead of one at a time ({one.op_name[-80:]})"
                )
            elif ways > 1 and len(dims) > 2 and dims[0] == batch_size:
                out.append(f"an activation {list(dims)} of the whole batch is gathered on every device ({one.op_name[-80:]})")
    return sorted(set(out))


def advise(plan):
    """What to change where it does not fit, or where memory is left."""
    if plan.fits:
        return ""
    state = plan.parameter_bytes + plan.optimizer_bytes
    ways = []
    if state > 0.5 * plan.hbm_bytes:
        ways.append("split the state over more chips (mesh.fsdp)")
    if plan.remat != "full":
        ways.append(f"recompute activations (model.remat={'dots' if plan.remat == 'none' else 'full'})")
    ways.append("fewer examples a chip (batch_size), or the same in parts (accumulate)")
    return f"does not fit: {size(plan.peak_bytes)} of {size(plan.hbm_bytes)}; " + ", or ".join(ways)


def tables(plans, config, price):
    """What to print: one table of all plans (a row each), and under it collectives, warnings and advice."""
    headers = (
        "topology", "layout", "params", "optimiser", "batch", "temporaries", "peak of HBM", "TFLOP", "compute", "memory",
        "network", "MFU bound", "examples/s", "cost", "compiled in",
    )  # fmt: skip
    rows, notes = [], []
    for plan in plans:
        times = [f"{1e3 * value:.3g} ms" if value else "-" for value in (plan.compute_s, plan.memory_s, plan.network_s)]
        bound = [f"{100 * plan.mfu_bound:.0f} %", f"{plan.examples_per_s:,.0f}"] if plan.bound_s else ["-", "-"]
        cost = f"${plan.cost(config.total_steps, price):,.2f}" if price and plan.bound_s else "-"
        bytes_of = (plan.parameter_bytes, plan.optimizer_bytes, plan.batch_bytes, plan.temporary_bytes)
        peak = f"{size(plan.peak_bytes)} of {size(plan.hbm_bytes)} {'fits' if plan.fits else 'TOO MUCH'}"
        flops = f"{plan.flops / 1e12:.3g}"
        layout_of = describe(plan)
        rows.append(
            [plan.topology, layout_of, *map(size, bytes_of), peak, flops, *times, *bound, cost, f"{plan.compile_s:.0f} s"]
        )
        kinds = [
            f"{kind} x {row['count']} ({size(row['bytes'])}, {size(row['sent_bytes'])} sent)"
            for kind, row in sorted(plan.collectives.items())
        ]
        lines = [*(["collectives: " + "; ".join(kinds)] if kinds else []), *([plan.advice] if plan.advice else [])]
        lines += [f"WARNING {warning}" for warning in plan.warnings]
        notes += [f"{plan.topology}, {layout_of}: {line}" for line in lines]
    devices = sorted({f"{plan.topology}: {plan.chips} chips, {plan.devices} devices" for plan in plans})
    title = f"{plans[0].parameters:,} parameters; {'; '.join(devices)}. All per device and step; times are lower bounds."
    return [Table(title, headers, rows, "\n".join(notes))]


def plot(plans, path):
    """PNG: peak memory against examples/s of every plan; a line where the memory ends."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    for remat in sorted({plan.remat for plan in plans}):
        chosen = [plan for plan in plans if plan.remat == remat]
        axes.scatter([p.peak_bytes / 2**30 for p in chosen], [p.examples_per_s for p in chosen], label=f"remat {remat}")
    for plan in plans:
        axes.annotate(describe(plan), (plan.peak_bytes / 2**30, plan.examples_per_s), fontsize=6)
    for hbm in sorted({plan.hbm_bytes for plan in plans}):
        axes.axvline(hbm / 2**30, color="crimson", linestyle="--", linewidth=1)
    axes.set(xlabel="peak memory per device, GiB (dashed: what there is)", ylabel="examples/s, upper bound")
    axes.legend()
    figure.savefig(path, dpi=150, bbox_inches="tight")
    pyplot.close(figure)


def describe(plan):
    """ "data 1, fsdp 64, tensor 4 - batch 256 / 2 - remat dots"."""
    mesh = ", ".join(f"{axis} {ways}" for axis, ways in plan.mesh.items() if ways > 1) or "one device"
    parts = f" / {plan.accumulate}" if plan.accumulate > 1 else ""
    stage = f"; {plan.stage}" if plan.stage else ""
    return f"{mesh}; batch {plan.batch_size}{parts}; remat {plan.remat}{stage}"

"""How fast a recipe trains here: step time, utilisation, memory, the input pipeline, and what loading costs the steps.

Every figure is of the program and the loader that `train.loop` uses, with the same number of steps in flight.
"""

import collections
import glob
import os
import platform
import re
import resource
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from xmodal_jax import malloc
from xmodal_jax.data.loader import to_device
from xmodal_jax.draw.blocks import Table
from xmodal_jax.measure import chips
from xmodal_jax.measure.figures import percent, quartiles, size
from xmodal_jax.measure.pages import huge_bytes, page_faults
from xmodal_jax.systems import recipe
from xmodal_jax.train import mesh as layout
from xmodal_jax.train import program

ON_DEVICE = 2  # batches moved there ahead, as in train.loop
IN_FLIGHT = 2  # steps ahead of the device, as in train.loop
SETTLE = 2  # further steps at the start of a stretch that are not counted
ROUNDS = 5  # alternations of held and loaded stretches, at most
MATMUL = {"cpu": 2048, "gpu": 8192, "tpu": 8192}  # side of the matrices whose product is the measured rate
CONTROL_FLOW = re.compile(r"^%?(while|call|conditional)\b")  # their time is that of the operations inside


def measure(config, steps=30, warmup=5, trace=None, keep=lambda found: None):
    """Benchmark a config on the devices here -> nested dictionary of plain numbers and texts (see `tables`).

    Args:
      config: as for `train`; steps: counted steps with the batch held on the device, and as many with loading.
      warmup: steps before any is counted; trace: folder for a profiler trace of three steps, or None.
      keep: called with the figures before the trace: profilers can take the whole process with them.

    Raises:
      UserError: for a config that cannot run here.
    """
    load = os.getloadavg()[0]
    parts = recipe.make(config)
    mesh = layout.make_mesh(config.mesh)
    device, rows = jax.local_devices()[0], layout.local_rows(mesh, config.batch_size)
    with jax.set_mesh(mesh):
        make_state, shapes = program.state_maker(parts, mesh)
        step, built = build(parts, mesh, shapes)
        logging.info("traced in %.1f s, compiled in %.1f s", built["trace_seconds"], built["compile_seconds"])
        pipeline = loader_rate(parts, rows, steps)
        logging.info("loader alone: %.3g examples/s, the same examples again %.3g", *pipeline.values())
        batches = parts.batches.iterate(steps, parts.loader, rows)  # from where the loader's own measurement ended
        batches = to_device(batches, layout.batch_sharding(mesh), ON_DEVICE)
        batch = next(batches)
        state, _ = stretch(step, make_state(), lambda: next(batches), warmup)
        memory = memory_use(step)  # before there are other arrays than training's
        buffered = ON_DEVICE + parts.loader.prefetch * max(1, parts.loader.workers)
        pause = 2 * buffered * config.batch_size / pipeline["first_pass_examples_per_s"]
        products = matrix_products(parts.model.dtype, device)
        state, held, loaded, product_rates, faults = alternate(step, state, batch, batches, steps, products, buffered, pause)
    matrix = matrix_rate(product_rates, parts.model.dtype, device)
    seconds = spread(np.concatenate(held))
    tokens, flops = parts.tokens_per_example(), program.step_flops(parts, shapes)
    found = {
        "machine": machine(device, mesh.size, load),
        "program": {
            "model": config.model.name,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(shapes.params)),
            "batch_size": config.batch_size,
            "tokens_per_example": tokens,
            "flops_per_step": flops,
            "mesh": {axis: int(size) for axis, size in mesh.shape.items()},
            **built,
            "dtype": parts.model.dtype,
        },
        "step": seconds | rates(seconds["median"], config.batch_size, tokens, flops, independent(device, mesh.size), matrix),
        "matrix_product": matrix,
        "memory": memory | {"page_faults_per_step": faults},
        "input_pipeline": pipeline,
        "loading": compare(held, loaded),
        "costliest_operations": None,
    }
    if trace:
        keep(found)
        with jax.set_mesh(mesh):
            found["costliest_operations"] = costliest_operations(step, state, batch, trace)
    return found


def build(parts, mesh, shapes):
    """Trace and compile the step -> (compiled step, facts). Without a compilation cache, or the times mean little."""
    start = time.monotonic()
    lowered = program.lower_step(parts, mesh, shapes)
    traced = time.monotonic()
    compiled = lowered.compile(compiler_options=program.COMPILER_OPTIONS.get(mesh.devices.flat[0].platform))
    done = time.monotonic()
    return compiled, {
        "trace_seconds": traced - start,
        "compile_seconds": done - traced,
        "attention": attention(compiled.as_text()),
    }


def attention(text):
    """Which attention the compiled program holds, told from its custom calls."""
    calls = [line for line in text.splitlines() if "custom_call_target=" in line]
    if any("fmha" in call for call in calls):
        return "cuDNN kernel"
    kernels = [call for call in calls if re.search("tpu_custom_call|triton|mosaic", call)]
    if any(re.search("(?i)attention|flash|splash", call) for call in kernels):
        return "Pallas kernel"
    return "XLA, head-major products, softmax in float32"


def stretch(step, state, supply, count):
    """Run steps on the batches of `supply()` -> (state, seconds from step to step, float [count]).

    An end is noted where the host has fetched a batch, sent a step off and waited for the one before the last two, as
    `train.loop` does; so a step lasts as long as the slower of device and loader. Of more steps than count those at the start,
    while steps are sent off without waiting, and at the end, without fetching, are left out.
    """
    ends, in_flight = [], collections.deque()
    for _ in range(SETTLE + count + IN_FLIGHT):
        state, values = step(state, supply())
        in_flight.append(values["loss"])
        if len(in_flight) > IN_FLIGHT:
            in_flight.popleft().block_until_ready()
            ends.append(time.perf_counter())
    jax.block_until_ready(state)
    return state, np.diff(ends)[-count:]


def stretch_lengths(steps):
    """Counted steps of each stretch, as even as can be, of at least 3 where there are that many: 30 -> [6, 6, 6, 6, 6]."""
    rounds = max(1, min(ROUNDS, steps // 3))
    return [steps // rounds + (number < steps % rounds) for number in range(rounds)]


def alternate(step, state, batch, batches, steps, products, buffered, pause):
    """Stretches on one held batch and with loading, in turn, so that what else the machine does is the same for both.

    Args:
      batch: on the device; batches: iterator of loaded ones; steps: to count of each; products: of `matrix_products`;
      buffered: how many batches are read ahead; pause: seconds that this takes.
    Returns:
      (state, seconds per step of every held stretch, of every loaded stretch, FLOP/s of matrix products meanwhile, page faults
      of a held step).
    """
    held, loaded, product_rates, faults, run = [], [], [], 0, 0
    for number, count in enumerate(stretch_lengths(steps)):
        time.sleep(pause)  # reading ahead comes to rest: held steps have the machine to themselves
        product_rates += [products(), products()]
        before = page_faults()
        state, seconds = stretch(step, state, lambda: batch, count)
        faults, run = faults + page_faults() - before, run + SETTLE + count + IN_FLIGHT
        held.append(seconds)
        for _ in range(buffered):  # else a short stretch would live on what was made while nothing was counted
            next(batches)
        state, seconds = stretch(step, state, lambda: next(batches), count)
        loaded.append(seconds)
        logging.info("round %d: %.4g s a step held, %.4g s loaded", number + 1, held[-1].mean(), loaded[-1].mean())
    return state, held, loaded, product_rates, faults / run


def loader_rate(parts, rows, count):
    """Examples per second of the loader alone, global batches 0 .. count, and the same again (what sources keep in memory)."""

    def once():
        batches = parts.batches.iterate(0, parts.loader, rows)
        next(batches)  # threads and worker processes start
        start = time.perf_counter()
        for _ in range(count):
            next(batches)
        return count * parts.config.batch_size / (time.perf_counter() - start)

    return {"first_pass_examples_per_s": once(), "again_examples_per_s": once()}


def spread(values):
    """Median, quartiles, extremes and number of some values."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    numbers = {"median": middle, "q1": low, "q3": high, "min": np.min(values), "max": np.max(values)}
    return {name: float(value) for name, value in numbers.items()} | {"count": len(values)}


def rates(seconds, batch_size, tokens, flops, devices, matrix):
    """What one step of `seconds` means.

    Args:
      tokens: per example; flops: of one step on the global batch; devices: how many share them.
      matrix: of `matrix_rate`, FLOP/s of one device.
    """
    done = flops / seconds / devices
    datasheet = matrix["datasheet_flops_per_s"]
    return {
        "examples_per_s": batch_size / seconds,
        "tokens_per_s": batch_size * tokens / seconds,
        "tflops_per_s_per_device": done / 1e12,
        "mfu_of_measured": done / matrix["flops_per_s"]["max"],
        "mfu_of_datasheet": done / datasheet if datasheet else None,
    }


def compare(held, loaded):
    """Steps per second with loading over those on a held batch, by sums, by medians and round by round.

    held, loaded: lists, one entry a round, of seconds per step. 1 means that loading costs the steps nothing.
    """
    every_held, every_loaded = np.concatenate(held), np.concatenate(loaded)
    return {
        "held_steps_per_s": float(len(every_held) / every_held.sum()),
        "loaded_steps_per_s": float(len(every_loaded) / every_loaded.sum()),
        "ratio_of_sums": float(every_held.mean() / every_loaded.mean()),
        "ratio_of_medians": float(np.median(every_held) / np.median(every_loaded)),
        "ratio_by_round": spread([a.mean() / b.mean() for a, b in zip(held, loaded, strict=True)]),
        "held_seconds": [[float(value) for value in seconds] for seconds in held],
        "loaded_seconds": [[float(value) for value in seconds] for seconds in loaded],
    }


def matrix_products(dtype, device, repeats=4):
    """-> function of nothing: FLOP/s of one device at `repeats` large square matrix products, one after the other."""
    side = MATMUL.get(device.platform, 4096)
    keys, alone = jax.random.split(jax.random.PRNGKey(0)), layout.make_mesh({}, [device])
    a, b = (jax.device_put(jax.random.normal(key, (side, side), dtype) / side**0.5, device) for key in keys)

    @jax.jit  # without the step's compiler options: on CPU large products alone are a third faster so
    def products(a, b):
        return jax.lax.fori_loop(0, repeats, lambda _, x: x @ b, a)

    def rate():
        with jax.set_mesh(alone):  # whatever mesh the steps are spread over
            start = time.perf_counter()
            products(a, b).block_until_ready()
        return repeats * 2 * side**3 / (time.perf_counter() - start)

    rate()  # compiles
    return rate


def matrix_rate(rates, dtype, device):
    """What was measured by `matrix_products`, and what the vendor states."""
    return {
        "side": MATMUL.get(device.platform, 4096),
        "dtype": str(jnp.dtype(dtype)),
        "flops_per_s": spread(rates),
        "datasheet_flops_per_s": chips.peak_flops(device.device_kind),
    }


def independent(device, count):
    """Devices that share no cores: those of a CPU do."""
    return 1 if device.platform == "cpu" else count


def memory_use(compiled):
    """Bytes on one device: allocator's peak, the compiler's plan for the step; and the peak of this process. None: not told."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    plan = compiled.memory_analysis()
    planned = {"arguments": None, "temporaries": None, "outputs": None}
    if plan is not None:
        outputs = plan.output_size_in_bytes - plan.alias_size_in_bytes
        planned = {"arguments": plan.argument_size_in_bytes, "temporaries": plan.temp_size_in_bytes, "outputs": outputs}
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "device_peak_bytes": max((s["peak_bytes_in_use"] for s in stats if "peak_bytes_in_use" in s), default=None),
        "device_limit_bytes": min((s["bytes_limit"] for s in stats if "bytes_limit" in s), default=None),
        **{f"planned_{name}_bytes": size for name, size in planned.items()},
        "process_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        "process_huge_bytes": huge_bytes(),
    }


def machine(device, count, load):
    """What the figures were measured on; `load`: how many processes wanted its cores before this one began."""
    return {
        "platform": device.platform,
        "device_kind": device.device_kind,
        "devices": count,
        "processes": jax.process_count(),
        "host_cpus": os.cpu_count(),
        "load_average_before": load,
        "host": f"{platform.system()} {platform.machine()}",
        "jax": jax.__version__,
        "allocator": malloc.in_use(),
        "huge_pages": malloc.huge_pages(),
    }


def costliest_operations(step, state, batch, folder, most=10):
    """Trace three steps into `folder` (TensorBoard, Perfetto) -> its costliest operations, or None where the trace lacks them.

    [{"operation", "source" (path of the module), "ms_per_step" (added up over threads and devices), "share"}].
    """
    with jax.profiler.trace(folder):
        for _ in range(3):
            state, _ = step(state, batch)
        jax.block_until_ready(state)
    files = glob.glob(os.path.join(folder, "**", "*.xplane.pb"), recursive=True)
    spent = collections.Counter()
    for plane in jax.profiler.ProfileData.from_file(max(files, key=os.path.getmtime)).planes:
        for line in plane.lines:
            for event in line.events:
                # CPUs and GPUs mark the events of operations by a statistic; TPUs have a line of them.
                if (line.name == "XLA Ops" or "hlo_op" in dict(event.stats)) and not CONTROL_FLOW.match(event.name):
                    spent[event.name.split(" = ")[0].lstrip("%")] += event.duration_ns
    if not spent:
        logging.warning("The trace in %s holds no times of single operations.", folder)
        return None
    sources = dict(re.findall(r'%([\w.-]+) = .*op_name="([^"]*)"', step.as_text()))
    total = sum(spent.values())
    return [
        {"operation": name, "source": sources.get(name, ""), "ms_per_step": time / 3e6, "share": time / total}
        for name, time in spent.most_common(most)
    ]


def tables(found):
    """The result of `measure` as tables to be read."""
    host, built, step, matrix = (found[name] for name in ("machine", "program", "step", "matrix_product"))
    memory, loading, pipeline = (found[name] for name in ("memory", "loading", "input_pipeline"))
    rate, datasheet, ms = matrix["flops_per_s"], matrix["datasheet_flops_per_s"], lambda value: f"{1e3 * value:.4g} ms"
    mesh = ", ".join(f"{axis} {ways}" for axis, ways in built["mesh"].items())
    busy = f"{host['host_cpus']} host CPUs, load before {host['load_average_before']:.1f}"
    best = f"best of {rate['count']}, {matrix['side']} squared, {matrix['dtype']}; median {rate['median'] / 1e12:.4g}"
    huge = size(memory["process_huge_bytes"])
    limit, again = size(memory["device_limit_bytes"]), f"{pipeline['again_examples_per_s']:.4g}"
    by_round = quartiles(loading["ratio_by_round"], percent)
    rows = [
        (
            "devices",
            f"{host['devices']} x {host['device_kind']}",
            f"{host['platform']}, {host['processes']} process(es), {busy}",
        ),
        (
            "program",
            f"{built['parameters']:,} parameters",
            f"{built['model']}, {built['dtype']}, jax {host['jax']}, mesh {mesh}",
        ),
        ("attention", built["attention"], ""),
        ("batch", f"{built['batch_size']} examples", f"of {built['tokens_per_example']} tokens each, padding included"),
        ("compile time", f"{built['compile_seconds']:.1f} s", f"and {built['trace_seconds']:.1f} s to trace; no cache"),
        ("step time", ms(step["median"]), f"median; {quartiles(step, ms)}"),
        ("examples/s", f"{step['examples_per_s']:.4g}", ""),
        ("tokens/s", f"{step['tokens_per_s']:.4g}", ""),
        ("TFLOP/s a device", f"{step['tflops_per_s_per_device']:.4g}", f"{built['flops_per_step']:.4g} FLOPs a step, analytic"),
        ("MFU", percent(step["mfu_of_measured"]), "of the measured rate of matrix products"),
        ("matrix products", f"{rate['max'] / 1e12:.4g} TFLOP/s", best),
        ("MFU, datasheet", percent(step["mfu_of_datasheet"]), f"of {datasheet / 1e12:.4g} bf16 TFLOP/s" if datasheet else ""),
        ("peak on a device", size(memory["device_peak_bytes"]), f"of {limit}, by its allocator"),
        ("planned on a device", *planned(memory)),
        ("peak of the process", size(memory["process_peak_bytes"]), "resident, compiling and data included"),
        ("page faults a step", f"{memory['page_faults_per_step']:.0f}", f"{huge} of the process in huge pages"),
        ("allocator", host["allocator"], f"huge pages of the kernel: {host['huge_pages']}"),
        ("loader alone", f"{pipeline['first_pass_examples_per_s']:.4g} examples/s", f"first pass; same examples again {again}"),
        ("steps/s, batch held", f"{loading['held_steps_per_s']:.4g}", "the same batch, on the device"),
        ("steps/s, with loading", f"{loading['loaded_steps_per_s']:.4g}", "examples of a first pass"),
        ("speed kept, sums", percent(loading["ratio_of_sums"]), f"steps/s with loading over held; by round {by_round}"),
        ("speed kept, medians", percent(loading["ratio_of_medians"]), "the same of the median steps"),
    ]
    out = [Table("Training step", ("figure", "value", "of what"), rows)]
    if found["costliest_operations"]:
        rows = [
            (op["operation"], f"{op['ms_per_step']:.3g}", percent(op["share"]), op["source"].split("/", 1)[-1][-70:])
            for op in found["costliest_operations"]
        ]
        out.append(Table("Costliest operations", ("operation", "ms a step", "share", "where"), rows, "Added up over threads."))
    return out


def planned(memory):
    """What the compiler plans for a device: (sum, parts)."""
    parts = {name: memory[f"planned_{name}_bytes"] for name in ("arguments", "temporaries", "outputs")}
    if None in parts.values():
        return "-", "the compiler tells nothing"
    return size(sum(parts.values())), ", ".join(f"{name} {size(count)}" for name, count in parts.items()) + ", by the compiler"

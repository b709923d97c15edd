"""What a fusion costs: operations, training memory and time of every method against tokens N and width D, and their laws.

Of the gradient of a scalar with respect to parameters and sources, two modalities of N tokens and width D, one example.
Operations are XLA's count of the compiled program (without the library calls of GPUs), besides matrix products alone.
"""

import functools
import itertools
import math
import os
import statistics
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from xmodal_jax.draw import curves
from xmodal_jax.draw.blocks import Figure, Table
from xmodal_jax.draw.report import write_report
from xmodal_jax.measure.benchmark import machine
from xmodal_jax.measure.figures import percent, size
from xmodal_jax.measure.scaling import FAST
from xmodal_jax.models.backbones.encoded import Encoded
from xmodal_jax.models.dense import Dense
from xmodal_jax.models.flops import count_flops
from xmodal_jax.models.fusion import FUSIONS, in_one_space
from xmodal_jax.models.pairs import NEVER, tile_of, weighted_rows

SIZES, WIDTHS = (32, 64, 128, 256, 512), (64, 128, 256, 512, 768)
EXAMPLE = (64, 577), 768  # tokens of a question, and of a picture of 384 x 384 in patches of 16; their width
LIMIT = 6 * 2**30  # bytes of temporaries above which a program is compiled, but not run
PATIENCE = 3.0  # seconds after which no program is run once more, if it was three times
TERMS = {"N^2 D^2": (2, 2), "N^2 D": (2, 1), "N D^2": (1, 2), "N D": (1, 1), "N^2": (2, 0), "D^2": (0, 2), "D": (0, 1)}


class Naive(nn.Module):
    """The formula as it is written: tanh(W [h_i; h_j; h_i - h_j; h_i o h_j] + b) for every pair, then pooled as by UME.

    The vectors of all pairs are held at once: O(N^2 D^2) operations, O(N^2 D) memory.
    """

    width: int = 256
    groups: int = 4

    @nn.compact
    def __call__(self, sources, train=False):
        x, y = in_one_space(sources, self.width, "float32")
        shape = (*x.shape[:2], *y.shape[1:])
        first, second = jnp.broadcast_to(x[:, :, None], shape), jnp.broadcast_to(y[:, None], shape)  # [B, N, M, D]
        whole = jnp.concatenate([first, second, first - second, first * second], -1)  # [B, N, M, 4 D]
        h = jnp.tanh(Dense(self.width, name="mix")(whole)).reshape(shape[0], -1, self.width)  # [B, N M, D]
        query = self.param("query", nn.initializers.normal(self.width**-0.5), (self.width, self.groups))
        there = (sources[0].mask[:, :, None] & sources[1].mask[:, None]).reshape(shape[0], -1, 1)
        return weighted_rows(h, jnp.where(there, h @ query, NEVER))


METHODS = {"ume": FUSIONS["ume"], "evc": FUSIONS["evc"], "naive": Naive} | FUSIONS  # those to be compared first


def measure(sizes=SIZES, widths=WIDTHS, batch=16, steps=30, keep=lambda found: None, example=EXAMPLE, limit=LIMIT):
    """Cost of every method at every N and D, the laws that it follows, a comparison -> dictionary of plain numbers.

    Args:
      sizes, widths: all N, all D; three of each or more, for laws that mean anything.
      steps: runs of which the median time is taken, at most; 0: none is timed.
      batch, example: of the comparison; (N_1, N_2), D.
      keep: called with the figures before the comparison, which takes most memory.
      limit: bytes of temporaries above which a program is not run.
    """
    load, rows = os.getloadavg()[0], []
    cases = list(itertools.product(METHODS, sorted(widths), sorted(sizes)))
    for number, (name, width, count) in enumerate(cases, 1):
        logging.info("%d of %d: %s, N = %d, D = %d", number, len(cases), name, count, width)
        rows.append({"method": name, "tokens": count, "width": width} | cost(METHODS[name](width), count, width, steps, limit))
    of = {name: [row for row in rows if row["method"] == name] for name in METHODS}
    found = {
        "machine": machine(jax.local_devices()[0], 1, load),
        "limit_bytes": limit,
        "rows": rows,
        "laws": {name: {"flops": flops_law(own), "memory": memory_laws(own)} for name, own in of.items()},
        "example": None,
    }
    keep(found)
    return found | {"example": compare(*example, batch, steps, limit)}


def program(model, lengths, width, batch=1):
    """(gradient of a scalar with respect to parameters and sources, shapes of parameters, sources and masks)."""

    def scalar(params, xs, masks):
        return jnp.square(model.apply({"params": params}, list(map(Encoded, xs, masks)))).sum()

    xs = [jax.ShapeDtypeStruct((batch, count, width), jnp.float32) for count in lengths]
    masks = [jax.ShapeDtypeStruct((batch, count), bool) for count in lengths]
    params = jax.eval_shape(lambda *given: model.init(jax.random.PRNGKey(0), list(map(Encoded, *given)))["params"], xs, masks)
    return jax.grad(scalar, (0, 1)), (params, xs, masks)


def plan(gradient, shapes):
    """-> (compiled program, bytes of its temporaries), on CPU of machine code that is soon made and not to be run."""
    options = FAST if jax.default_backend() == "cpu" else {}
    compiled = jax.jit(gradient).lower(*shapes).compile(compiler_options=options)
    return compiled, compiled.memory_analysis().temp_size_in_bytes


def cost(model, count, width, steps, limit):
    """FLOPs, those of products alone, bytes of temporaries, seconds (None: not timed), columns of a tile (None: no tiles)."""
    gradient, shapes = program(model, (count, count), width)
    compiled, memory = plan(gradient, shapes)
    tile = tile_of(count, count, width) if hasattr(model, "tile") else None
    if tile and tile < count:  # XLA counts the body of a loop once: with one tile there is one turn
        compiled, _ = plan(*program(model.clone(tile=count), (count, count), width))
    return {
        "flops": float(compiled.cost_analysis()["flops"]),
        "product_flops": count_flops(gradient, *shapes),
        "memory_bytes": memory,
        "seconds": median_seconds(gradient, shapes, steps) if memory <= limit else None,
        "tile": tile,
    }


def median_seconds(gradient, shapes, steps):
    """Median time of up to `steps` runs on random numbers, after one that does not count; None: of no runs."""
    rng, found = np.random.default_rng(0), []
    if not steps:
        return None
    compiled = jax.jit(gradient).lower(*shapes).compile()
    args = jax.tree.map(lambda s: jnp.asarray(0.1 * rng.standard_normal(s.shape, np.float32)).astype(s.dtype), shapes)
    jax.block_until_ready(compiled(*args))
    while len(found) < min(steps, 3) or (len(found) < steps and sum(found) < PATIENCE):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*args))
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def fit(terms, values):
    """Least squares of relative errors: terms [n, k], values [n] -> (parts of each value [n, k], largest error, R^2)."""
    coefficients, *_ = np.linalg.lstsq(terms / values[:, None], np.ones(len(values)), rcond=None)
    parts, spread = terms * coefficients, np.square(values - values.mean()).sum()
    missed = parts.sum(1) - values
    return parts, float(np.abs(missed / values).max()), float(1 - np.square(missed).sum() / spread) if spread else 1.0


def flops_law(rows):
    """FLOPs = a sum over TERMS: the share of each in the last row, and the largest relative error; None of too few N or D."""
    n, d, values = (np.array([row[name] for row in rows], float) for name in ("tokens", "width", "flops"))
    if min(len(set(n)), len(set(d))) < 3:
        return {"shares": dict.fromkeys(TERMS), "largest_error": None}
    parts, error, _ = fit(np.stack([n**i * d**j for i, j in TERMS.values()], 1), values)
    shares = (parts[-1] / values[-1]).tolist()
    return {"shares": dict(zip(TERMS, shares, strict=True)), "largest_error": error}


def memory_laws(rows):
    """For every D bytes = m0 + m1 N: m0, m1, largest relative error, R^2, and r of N^r between the two largest N.

    Where a method goes by tiles, of those N whose pairs take several, if these are three: one tile holds N^2 pairs.
    """
    out = []
    for width, group in itertools.groupby(rows, lambda row: row["width"]):
        own = list(group)
        several = [row for row in own if row["tile"] and row["tile"] < row["tokens"]]
        own = several if len(several) > 2 else own
        n, values = (np.array([row[name] for row in own], float) for name in ("tokens", "memory_bytes"))
        parts, error, r2 = fit(np.stack([np.ones_like(n), n], 1), values)
        m0, m1 = (parts[-1] / (1, n[-1])).tolist()
        power = math.log(values[-1] / values[-2]) / math.log(n[-1] / n[-2])
        out.append({"width": width, "m0": m0, "m1": m1, "largest_error": error, "r2": r2, "power": power})
    return out


def compare(lengths, width, batch, steps, limit):
    """Memory and time of UME, EVC and the naive formula for one batch; a program above the limit is timed at fewer rows."""
    rows = []
    for name in ("ume", "evc", "naive"):
        logging.info("%s, N = %d x %d, D = %d, batch %d", name, *lengths, width, batch)
        make = functools.partial(program, METHODS[name](width), lengths, width)
        timed, memory = batch, plan(*make(batch))[1]
        needed = memory
        while steps and needed > limit and timed > 1:
            timed -= 1
            needed = plan(*make(timed))[1]
        seconds = median_seconds(*make(timed), steps) if needed <= limit else None
        seconds = seconds and seconds * batch / timed
        rows.append({"method": name, "memory_bytes": memory, "seconds": seconds, "timed_batch": timed})
    return {"tokens": list(lengths), "width": width, "batch": batch, "rows": rows}


def tables(found):
    """The result of `measure` as tables to be read."""
    cells, over_n, over_d = grid(found)
    points = over_n + over_d[:-1]
    shown = {
        "flops": ("GFLOP", lambda x: f"{x / 1e9:.4g}", "Of the compiled gradient."),
        "product_flops": ("GFLOP of matrix products", lambda x: f"{x / 1e9:.4g}", "Of the traced gradient."),
        "memory_bytes": ("Training memory", size, "Temporaries of the compiled gradient, with the tiles of training."),
        "seconds": ("Time", ms, f"Median; a dash: not timed, or temporaries above {size(found['limit_bytes'])}."),
    }
    out, operations, memory = [], [], []
    for name, (title, show, note) in shown.items():
        rows = [(method, *(show(cells[method, *point][name]) for point in points)) for method in found["laws"]]
        out.append(Table(f"{title}, N x D", ("method", *(f"{n} x {d}" for n, d in points)), rows, note))
    for method, law in found["laws"].items():
        operations.append((method, *map(share_text, [*law["flops"]["shares"].values(), law["flops"]["largest_error"]])))
        by_width = [f"{of['r2']:.4f}, {percent(of['largest_error'])}, {of['power']:.2f}" for of in law["memory"]]
        memory.append((method, *by_width))
    note = "Share of each term of the fitted sum at the largest N and D; the sum's largest relative error anywhere."
    out.append(Table("Law of the operations", ("method", *TERMS, "largest error"), operations, note))
    note = "Of m0 + m1 N: R^2 and largest relative error; then r of N^r between the two largest N. "
    note += "Methods that go by tiles: for those N whose pairs take several, if these are three."
    out.append(Table("Law of the memory", ("method", *(f"D {d}" for _, d in over_d)), memory, note))
    if example := found["example"]:
        rows, least = [], example["rows"][0]["memory_bytes"]
        for row in example["rows"]:
            how = f"scaled from a batch of {row['timed_batch']}" if row["timed_batch"] < example["batch"] else ""
            rows.append(
                (row["method"], size(row["memory_bytes"]), f"{row['memory_bytes'] / least:.3g}", ms(row["seconds"]), how)
            )
        title = f"N = {' x '.join(map(str, example['tokens']))}, D = {example['width']}, batch {example['batch']}"
        out.append(Table(title, ("method", "memory", "of UME's", "time", ""), rows))
    return out


def ms(seconds):
    return "-" if seconds is None else f"{1e3 * seconds:.4g} ms"


def share_text(share):
    """In percent, without a minus before 0."""
    return percent(share and round(share, 3) + 0.0)


def grid(found):
    """{(method, N, D): row}, [(N, D)] of every N at the largest D, and of every D at the largest N."""
    sizes, widths = (sorted({row[name] for row in found["rows"]}) for name in ("tokens", "width"))
    cells = {(row["method"], row["tokens"], row["width"]): row for row in found["rows"]}
    return cells, [(n, widths[-1]) for n in sizes], [(sizes[-1], d) for d in widths]


def page(found, path):
    """Write the tables and the curves as a self-contained page."""
    cells, over_n, over_d = grid(found)
    n, d = over_n[-1]

    def lines(name, unit, points, axis):
        return {m: [(point[axis], cells[m, *point][name] / unit) for point in points] for m in found["laws"]}

    drawing = curves.log_lines([
        (f"GFLOP, D = {d}", "N", lines("flops", 1e9, over_n, 0)),
        (f"GFLOP, N = {n}", "D", lines("flops", 1e9, over_d, 1)),
        (f"memory in MiB, D = {d}", "N", lines("memory_bytes", 2**20, over_n, 0)),
    ])  # fmt: skip
    summary = []
    for name, target in {"ume": "< 1 %", "evc": "< 1 %", "naive": ""}.items():
        share = found["laws"][name]["flops"]["shares"]["N^2 D^2"]
        met = abs(share) < 0.01 if target and share is not None else None
        summary.append(Figure(f"N^2 D^2 in {name}", share_text(share), f"of its operations at N = {n}, D = {d}", target, met))
    if example := found["example"]:
        ume, _, naive = (row["memory_bytes"] for row in example["rows"])
        summary.append(Figure("memory, naive over ume", f"{naive / ume:.3g}", tables(found)[-1].title))
    write_report(
        path, title="Cost of the fusion methods", summary=summary, tables=tables(found), notes=[" ".join(__doc__.split())],
        drawings=[drawing], facts=found["machine"],
    )  # fmt: skip

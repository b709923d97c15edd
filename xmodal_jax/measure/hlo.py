"""What a compiled program sends between devices, read from its text (HLO): collectives by kind, loops counted."""

import dataclasses
import math
import re

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
BYTES = {
    "pred": 1,
    "s8": 1,
    "u8": 1,
    "bf16": 2,
    "f16": 2,
    "s16": 2,
    "u16": 2,
    "f32": 4,
    "s32": 4,
    "u32": 4,
    "f64": 8,
    "s64": 8,
    "u64": 8,
}
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([\w\-]+)\(")
HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{\s*$")
SHAPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
CALLED = re.compile(r"(body|condition|calls|to_apply|called_computations|branch_computations)=(\{[^}]*\}|%?[\w.\-]+)")


@dataclasses.dataclass(frozen=True)
class Collective:
    """kind; shapes of its result on one device [(type, dimensions)]; devices in a group (0: not understood); times it runs in
    one step; op_name."""

    kind: str
    shapes: tuple
    group: int
    times: int
    op_name: str

    @property
    def result_bytes(self):
        """Bytes of the result on one device, of one run."""
        return sum(BYTES.get(kind, 4) * math.prod(dims) for kind, dims in self.shapes)

    @property
    def sent_bytes(self):
        """Bytes that one device sends in one step, by ring algorithms (Patarasuk and Yuan, 2009)."""
        n = max(1, self.group)
        factor = {
            "all-gather": (n - 1) / n, "all-reduce": 2 * (n - 1) / n, "reduce-scatter": n - 1, "all-to-all": (n - 1) / n,
            "collective-permute": 1,
        }[self.kind]  # fmt: skip
        return self.times * factor * self.result_bytes


def collectives(text):
    """List of `Collective`s of a compiled program's text. Steps of one asynchronous collective count once."""
    bodies, entry = computations(text)
    times = run_counts(bodies, entry)
    found, seen = [], set()
    for name, lines in bodies.items():
        for line in lines:
            match = INSTRUCTION.match(line)
            kind = match and match.group(3).removesuffix("-start")
            if kind not in KINDS or not times.get(name):
                continue
            chain = re.search(r'chain_id="(\d+)"', line)  # TPU: a collective spread over several fusions
            if chain and (kind, chain.group(1)) in seen:
                continue
            seen.add((kind, chain and chain.group(1)))
            shapes = shapes_of(match.group(2))
            if name.startswith("all-reduce-scatter"):  # TPU: a fusion of which each device keeps its part of the sum
                kind = "reduce-scatter"
                shapes = [shape for line in lines if "ROOT " in line for shape in shapes_of(INSTRUCTION.match(line).group(2))]
            if match.group(3).endswith("-start"):  # (operands ..., results ..., context)
                shapes = [shape for shape in shapes if shape[1]]
                shapes = shapes[len(shapes) // 2 :] if len(shapes) > 1 else shapes
            op_name = re.search(r'op_name="([^"]*)"', line)
            found.append(Collective(kind, tuple(shapes), group_size(line), times[name], op_name.group(1) if op_name else ""))
    return found


def shapes_of(text):
    """[(type, dimensions)] of the arrays in a result's type."""
    return [(kind, tuple(int(d) for d in dims.split(",") if d)) for kind, dims in SHAPE.findall(text)]


def by_kind(found):
    """{kind: {"count": runs in one step, "bytes": of results on one device, "sent_bytes"}} of those that occur."""
    out = {}
    for one in found:
        row = out.setdefault(one.kind, {"count": 0, "bytes": 0, "sent_bytes": 0})
        row["count"] += one.times
        row["bytes"] += one.times * one.result_bytes
        row["sent_bytes"] += round(one.sent_bytes)
    return out


def computations(text):
    """-> ({computation: its lines}, name of the entry)."""
    bodies, current, entry = {}, None, None
    for line in text.splitlines():
        header = HEADER.match(line)
        if header and not line.startswith((" ", "HloModule")):
            current = header.group(2)
            bodies[current] = []
            entry = current if header.group(1) else entry
        elif current is not None:
            bodies[current].append(line)
    return bodies, entry


def run_counts(bodies, entry):
    """{computation: how often one run of the program runs it}; a loop runs its body as often as its trip count says."""
    calls = {name: [] for name in bodies}  # (called, times)
    for name, lines in bodies.items():
        for line in lines:
            refs = {}
            for role, value in CALLED.findall(line):
                refs.setdefault(role, []).extend(re.findall(r"[\w.\-]+", value))
            turns = trip_count(line, bodies, refs) if "body" in refs else 1
            for role, called in refs.items():
                calls[name] += [(one, turns if role in ("body", "condition") else 1) for one in called if one in bodies]
    counts, order, done = dict.fromkeys(bodies, 0), [], set()

    def visit(name):
        if name not in done:
            done.add(name)
            for called, _ in calls[name]:
                visit(called)
            order.append(name)

    if entry is None:
        return counts
    visit(entry)
    counts[entry] = 1
    for name in reversed(order):  # callers before what they call
        for called, turns in calls[name]:
            counts[called] += counts[name] * turns
    return counts


def trip_count(line, bodies, refs):
    """Turns of a while loop: as the compiler notes them, else the bound that its condition compares with (1 if unknown)."""
    known = re.search(r'known_trip_count"?:\s*\{"?n"?:\s*"?(\d+)', line)
    if known:
        return int(known.group(1))
    bounds, waiting = [], list(refs.get("condition", ()))
    while waiting:
        for inner in bodies.get(waiting.pop(), ()):
            bounds += [int(value) for value in re.findall(r"s32\[\][^=]* constant\((\d+)\)", inner)]
            waiting += [one for role, value in CALLED.findall(inner) for one in re.findall(r"[\w.\-]+", value)]
    return max([*bounds, 1])


def group_size(line):
    """Devices that take part in one group of a collective, from any notation of replica_groups; 0 where it is a new one."""
    mesh = re.search(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\([^{}]*\))? \{([^}]*)\}", line)
    if mesh:
        sizes = {axis: int(size) for axis, size in re.findall(r"'(\w+)'=(\d+)", mesh.group(1))}
        return math.prod(sizes.get(axis, 1) for axis in re.findall(r"'(\w+)'", mesh.group(2)))
    iota = re.search(r"replica_groups=\[(\d+),(\d+)\]<=", line)
    if iota:
        return int(iota.group(2))
    listed = re.search(r"replica_groups=\{\{([\d,]*)\}", line)
    if listed:
        return len(listed.group(1).split(","))
    if "source_target_pairs" in line:
        return 2
    return 0 if "replica_groups=" in line else 1

"""How one array of ours is made of arrays of a public checkpoint, and back.

Ours: dense kernels [D, *features], q/k/v side by side [D, P, H, d], convolutions [h, w, in, out], layers stacked in front.
Theirs (PyTorch): dense weights [out, in], convolutions [out, in, h, w], every layer and projection by itself.
"""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Layout:
    """read(array of theirs, shape of ours) -> ours; write(ours) -> theirs. Both are views where possible."""

    read: Callable
    write: Callable


SAME = Layout(lambda a, shape: a, lambda a: a)
FLAT = Layout(lambda a, shape: a.reshape(shape), lambda a: a.reshape(-1))  # theirs [F] of ours [*features]
DENSE = Layout(lambda a, shape: a.T.reshape(shape), lambda a: a.reshape(len(a), -1).T)
IN_OUT = Layout(lambda a, shape: a.reshape(shape), lambda a: a.reshape(len(a), -1))  # theirs [in, out], as GPT-2's
CONV = Layout(lambda a, shape: a.transpose(2, 3, 1, 0), lambda a: a.transpose(3, 2, 0, 1))


def patches(size, channels=3):
    """Of a convolution whose windows do not overlap, which is one product for us: theirs [D, C, p, p], ours [p p C, D]."""
    return Layout(
        lambda a, shape: a.transpose(2, 3, 1, 0).reshape(shape),
        lambda a: a.reshape(size, size, channels, -1).transpose(3, 2, 0, 1),
    )


@dataclasses.dataclass(frozen=True)
class Entry:
    """One array of ours.

    Attributes:
      ours: its path, "encoder/layers/up/kernel". theirs: names that it is made of; several stand along its axis `axis` (not
        counting the layer axis); None among them: zeros that their format leaves out. "{}" is the layer's number.
      layout: of each part. layers: length of its layer axis, 0 where it has none.
      group: "" for the base model; else the name of an optional head that a checkpoint may hold.
    """

    ours: str
    theirs: tuple
    layout: Layout = SAME
    layers: int = 0
    axis: int | None = None
    group: str = ""

    def names(self):
        """All names of theirs that it is made of."""
        return [name for number in range(self.layers or 1) for name in self.names_of(number) if name is not None]

    def names_of(self, number):
        """Names of the parts of one layer."""
        return [name if name is None else name.replace("{}", str(number)) for name in self.theirs]

    def parts(self, array):
        """(name or None for what theirs leaves out, view of ours) of every layer and part."""
        for number in range(self.layers or 1):
            layer = array[number] if self.layers else array
            for part, name in enumerate(self.names_of(number)):
                index = (slice(None),) * self.axis + (part,) if self.axis is not None else ...
                yield name, layer[index]


def norm(ours, theirs, layers=0, group="", bias=True):
    """Scale and bias of a normalisation."""
    out = [Entry(f"{ours}/scale", (f"{theirs}.weight",), layers=layers, group=group)]
    return out + ([Entry(f"{ours}/bias", (f"{theirs}.bias",), layers=layers, group=group)] if bias else [])


def dense(ours, theirs, layers=0, group="", bias=True, layout=DENSE):
    """Kernel and bias of a dense layer; layout=IN_OUT for GPT-2's."""
    out = [Entry(f"{ours}/kernel", (f"{theirs}.weight",), layout, layers, group=group)]
    return out + ([Entry(f"{ours}/bias", (f"{theirs}.bias",), layers=layers, group=group)] if bias else [])


def side_by_side(ours, theirs, layers=0, group="", bias=None):
    """Projections q, k, v (or k, v; or q) that we keep in one kernel [D, P, H, d] and bias [P, H, d].

    bias: for each of `theirs` whether it has one (None: all do). Only that of the keys may be missing: it adds the same to all
    scores of a query, which changes nothing. False: none has.
    """
    out = [Entry(f"{ours}/kernel", tuple(f"{name}.weight" for name in theirs), DENSE, layers, 1, group)]
    if bias is not False:
        names = tuple(f"{name}.bias" if has else None for name, has in zip(theirs, bias or [True] * len(theirs), strict=True))
        out.append(Entry(f"{ours}/bias", names, FLAT, layers, 0, group))
    return out


def stack(ours, layer, layers, *, qkv, out, norm_attention, up, down, norm_mlp, bias=None):
    """A Stack whose layers are called `layer` ("encoder.layer.{}"), by their names of its parts; bias: of q, k and v."""
    block = f"{ours}/layers"
    return [
        *norm(f"{block}/norm_attention", f"{layer}.{norm_attention}", layers),
        *side_by_side(f"{block}/attention/qkv", [f"{layer}.{name}" for name in qkv], layers, bias=bias),
        *dense(f"{block}/attention/out", f"{layer}.{out}", layers),
        *norm(f"{block}/norm_mlp", f"{layer}.{norm_mlp}", layers),
        *dense(f"{block}/up", f"{layer}.{up}", layers),
        *dense(f"{block}/down", f"{layer}.{down}", layers),
    ]


def array(ours, theirs, layers=0, group=""):
    """An array that has the same elements in the same order."""
    return [Entry(ours, (theirs,), layers=layers, group=group)]

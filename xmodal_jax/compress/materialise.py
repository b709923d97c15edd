"""A pruned and shared model without what was pruned, and with what is shared once.

Compact parameters hold of every layer the vectors that are its own; `gathered` makes of them the layers that a stack with
`Style.widths` computes with, by taking each vector from the layer that holds it. Done when the program runs, the device too
holds shared vectors once; done when a model is loaded, the program is faster. Gradients go back to where a vector stands.

Letters: L layers, D width, H heads, d width of a head, A = H d, F hidden units, n vectors of a layer's own, m vectors in use.
"""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np

from xmodal_jax.compress.pair import Pair, put
from xmodal_jax.compress.structure import SHARED, TOWERS
from xmodal_jax.errors import UserError
from xmodal_jax.interop.trees import get, leaves, nest

ABSENT = 2**30  # of an index: beyond every array, where a gather finds 0
FILE = "structure.npz"


@dataclasses.dataclass(frozen=True, eq=False)
class Materialised:
    """What a `constrained` structure of 0 and 1 makes of the parameters of a pair of stacks."""

    pair: Pair
    structure: dict  # of numpy arrays

    def __post_init__(self):
        bits = {0.0, 1.0}
        for tower in TOWERS:
            for vectors in (*self.structure[tower]["m"].values(), *self.structure[tower]["s"].values()):
                if not set(np.unique(vectors)) <= bits:
                    raise UserError("A structure to be materialised consists of 0 and 1.")

    def used(self, tower, group, layer):
        """int [m]: the vectors that a layer computes with, in order."""
        m = self.structure[tower]["m"].get(group)
        count = self.structure[tower]["s"][group].shape[1]
        return np.arange(count) if m is None else np.flatnonzero(m[layer])

    def own(self, tower, group, layer):
        """int [n]: those of them that are the layer's own."""
        used = self.used(tower, group, layer)
        return used[self.structure[tower]["s"][group][layer, used] > 0]

    def holders(self, tower, layer):
        """[(tower, layer)]: whose vectors a layer may use, itself first."""
        found = [(tower, layer)]
        if tower == "vision" and self.pair.across:
            found.append(("text", layer))
        base = int(self.pair.bases[layer]) if found[-1][0] == "text" else layer
        return found if base == layer else [*found, ("text", base)]

    def places(self, tower, group, layer):
        """int [m]: where the vectors that a layer uses stand among those of its holders, laid end to end (equation 5)."""
        used = self.used(tower, group, layer)
        out, missing, start = np.zeros(len(used), int), np.ones(len(used), bool), 0
        for name, number in self.holders(tower, layer):
            own = self.own(name, group, number)
            here = missing & (self.structure[name]["s"][group][number, used] > 0)
            out[here] = start + np.searchsorted(own, used[here])
            missing, start = missing & ~here, start + len(own)
        return out

    def by_head(self, tower, layer, values):
        """Values [m] of the q and k vectors in use -> int [H, widest head], ABSENT where a head has fewer."""
        sizes, used = getattr(self.pair, tower), self.used(tower, "qk", layer)
        heads = [values[used // sizes.head == head] for head in range(sizes.heads)]
        out = np.full((sizes.heads, max(1, max(map(len, heads)))), ABSENT)
        for row, head in zip(out, heads, strict=True):
            row[: len(head)] = head
        return out

    @functools.cached_property
    def widths(self):
        """{tower: ((width of a head's q and k, hidden units), ...)}, for `Style.widths`."""
        made = {}
        for tower in TOWERS:
            layers = range(getattr(self.pair, tower).layers)
            counts = [len(self.used(tower, "ff", layer)) for layer in layers]
            heads = [self.by_head(tower, layer, self.used(tower, "qk", layer)).shape[1] for layer in layers]
            made[tower] = tuple((head, max(1, count)) for head, count in zip(heads, counts, strict=True))
        return made

    def compact(self, params):
        """Parameters (stacks [L, ...]) -> those that stay, layer by layer, each shared vector where it is held."""
        made = dict(params)
        for tower in TOWERS:
            sizes = getattr(self.pair, tower)
            stack = get(params, sizes.path)
            layers = {str(layer): self.compact_layer(tower, layer, layer_of(stack, layer)) for layer in range(sizes.layers)}
            made = put(made, sizes.path, layers)
        return made

    def compact_layer(self, tower, layer, arrays):
        own = {group: self.own(tower, group, layer) for group in SHARED}
        used, attention = self.used(tower, "qk", layer), dict(arrays["attention"])
        qkv = attention.pop("qkv")
        kernel = qkv["kernel"].reshape(qkv["kernel"].shape[0], 3, -1)  # [D, 3, A]
        attention["qk"] = {"kernel": kernel[:, :2, own["qk"]]}  # [D, 2, n]
        attention["v"] = {"kernel": kernel[:, 2, own["v"]]}  # [D, n]
        if "bias" in qkv:
            bias = qkv["bias"].reshape(3, -1)
            attention["qk"]["bias"], attention["v"]["bias"] = bias[:2, used], bias[2]  # [2, m], [A]
        made = {**arrays, "attention": attention}
        for name in ("up", "gate"):
            if name in arrays:
                made[name] = {part: array[..., own["ff"]] for part, array in arrays[name].items()}  # [D, n], [n]
        made["down"] = {**arrays["down"], "kernel": arrays["down"]["kernel"][own["ff"]]}  # [n, D]
        return made

    def gathered(self, params):
        """Compact parameters -> those of a model whose stacks have `widths`."""
        made = dict(params)
        for tower in TOWERS:
            sizes = getattr(self.pair, tower)
            layers = {str(layer): self.gathered_layer(params, tower, layer) for layer in range(sizes.layers)}
            made = put(made, sizes.path, layers)
        return made

    def gathered_layer(self, params, tower, layer):
        sizes = getattr(self.pair, tower)
        holders = [get(params, f"{getattr(self.pair, name).path}/{number}") for name, number in self.holders(tower, layer)]
        own, places = holders[0], {group: self.places(tower, group, layer) for group in SHARED}

        def take(path, index, axis=-1):
            return taken([get(holder, path) for holder in holders], index, axis)

        heads = (sizes.heads, self.widths[tower][layer][0])
        index = self.by_head(tower, layer, places["qk"]).ravel()
        qk = {"kernel": take("attention/qk/kernel", index).reshape(sizes.width, 2, *heads)}
        v = {"kernel": take("attention/v/kernel", places["v"]).reshape(sizes.width, 1, sizes.heads, sizes.head)}
        if "bias" in own["attention"]["qk"]:
            count = np.arange(len(places["qk"]))
            bias = taken([own["attention"]["qk"]["bias"]], self.by_head(tower, layer, count).ravel(), -1)
            qk["bias"], v["bias"] = bias.reshape(2, *heads), own["attention"]["v"]["bias"].reshape(1, sizes.heads, sizes.head)
        units = places["ff"] if len(places["ff"]) else np.array([ABSENT])
        made = {**own, "attention": {**own["attention"], "qk": qk, "v": v}}
        for name in ("up", "gate"):
            if name in own:
                made[name] = {part: take(f"{name}/{part}", units) for part in own[name]}
        made["down"] = {**own["down"], "kernel": take("down/kernel", units, axis=0)}
        return made

    def pruned(self, model):
        """The model whose stacks have these widths: it computes with what `gathered` gives."""
        return with_widths(model, {getattr(self.pair, tower).path: widths for tower, widths in self.widths.items()})

    def compressed(self, model):
        """The model that computes with compact parameters, gathering them as it runs."""
        return Compressed(model, self)


class Compressed:
    """A model of compact parameters, with all verbs and settings of the model that it was made of.

    Args: model: as it was before, with stacks [L, ...]; made: what became of its parameters.
    """

    def __init__(self, model, made):
        self.before, self.made, self.pruned = model, made, made.pruned(model)

    def __getattr__(self, name):
        return getattr(self.pruned, name)

    def init(self, *args, **kwargs):
        """New variables: compact, of new ones of the model before."""
        variables = self.before.init(*args, **kwargs)
        return {**variables, "params": self.made.compact(variables["params"])}

    def apply(self, variables, *args, **kwargs):
        """As of every module."""
        return self.pruned.apply({**variables, "params": self.made.gathered(variables["params"])}, *args, **kwargs)

    def clone(self, **changes):
        """The model with other settings."""
        return Compressed(self.before.clone(**changes), self.made)


def layer_of(stack, layer):
    """One layer's arrays of a stack's [L, ...]."""
    return {name: layer_of(value, layer) if isinstance(value, dict) else value[layer] for name, value in stack.items()}


def taken(arrays, index, axis):
    """The elements `index` of arrays laid end to end along an axis; 0 where it is ABSENT. Nothing is copied needlessly."""
    if len(index) == arrays[0].shape[axis] and (index == np.arange(len(index))).all():
        return arrays[0]
    joined = arrays[0] if len(arrays) == 1 else jnp.concatenate(arrays, axis)
    if not joined.shape[axis]:  # nothing is left of it
        shape = list(joined.shape)
        shape[axis] = len(index)
        return jnp.zeros(shape, joined.dtype)
    return jnp.take(joined, index, axis, mode="fill", fill_value=0)


def with_widths(model, widths):
    """A model with other widths of the layers of the stacks at these paths: in the style of the tower that holds them."""
    for path, pairs in widths.items():
        tower = getattr(model, path.split("/")[0])
        style = dataclasses.replace(tower.style, widths=pairs)
        model = model.clone(**{path.split("/")[0]: tower.clone(style=style)})
    return model


def save(file, made):
    """Write what a `Materialised` is made of: its structure with a bit an entry, and what it is of."""
    flat = {path: np.asarray(vectors) for path, vectors in leaves(made.structure).items()}
    shapes = {f"{path}/shape": np.array(vectors.shape) for path, vectors in flat.items()}
    about = {"blocks": made.pair.blocks, "text": made.pair.text.path, "vision": made.pair.vision.path}
    np.savez_compressed(file, **{path: np.packbits(vectors > 0) for path, vectors in flat.items()}, **shapes, **about)


def load(file):
    """Read it -> (structure, {"blocks", "text", "vision"} as `pair_of` takes them)."""
    with np.load(file) as found:
        about = {"blocks": int(found["blocks"]), "text": str(found["text"]), "vision": str(found["vision"])}
        structure = {}
        for path in found.files:
            if path.count("/") == 2:
                shape = found[f"{path}/shape"]
                bits = np.unpackbits(found[path], count=int(np.prod(shape)))
                structure[path] = bits.reshape(shape).astype(np.float32)
    return nest(structure), about

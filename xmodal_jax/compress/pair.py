"""Which stacks of a parameter tree are compressed together, and their sizes.

Letters: L layers, D width, H heads, d width of a head, A = H d, F hidden units.
"""

import dataclasses
import re

import jax
import numpy as np

from xmodal_jax.errors import UserError
from xmodal_jax.interop.trees import get

KNOWN = (  # of a layer's arrays, those that are compressed; what else it has stays as it is
    "attention/qkv/kernel", "attention/qkv/bias", "up/kernel", "up/bias", "gate/kernel", "gate/bias", "down/kernel",
)  # fmt: skip
NEEDED = ("attention/qkv/kernel", "up/kernel", "down/kernel")
TEXT, VISION = r"^(text|decoder)", r"^image"  # towers' names in the models here
BEFORE_STREAMS = r"^interaction/encoder"  # of a model of two streams: the image's own layers (`interactions.dual_stream`)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """A stack: path of its layers in the tree; layers L, width D, heads H, head d, hidden F; gated: its MLP has a gate."""

    path: str
    layers: int
    width: int
    heads: int
    head: int
    hidden: int
    gated: bool = False

    def alike(self, other):
        """Whether the vectors of two stacks can stand for each other."""
        return dataclasses.replace(self, path="") == dataclasses.replace(other, path="")

    def groups(self):
        """{group of vectors: (how many a layer has, weights of one)}."""
        ways = 3 if self.gated else 2
        inner = self.heads * self.head
        return {"qk": (inner, 2 * self.width), "v": (inner, self.width), "ff": (self.hidden, ways * self.width)}

    def total(self):
        """Weights of all matrices of self-attention and MLP: P_total's part; biases and norms are not counted."""
        rest = self.heads * self.head * self.width  # W_o
        return self.layers * (rest + sum(count * weights for count, weights in self.groups().values()))


@dataclasses.dataclass(frozen=True)
class Pair:
    """A text and a vision stack. blocks: of text layers that may share with their first one (0: none does)."""

    text: Sizes
    vision: Sizes
    blocks: int = 0

    def __post_init__(self):
        if not 0 <= self.blocks <= self.text.layers:
            raise UserError(f"blocks={self.blocks}: of {self.text.layers} text layers at most {self.text.layers} blocks, or 0.")

    @property
    def across(self):
        """Whether the vision stack can take vectors of the text stack's."""
        return self.text.alike(self.vision)

    @property
    def bases(self):
        """int [L]: the base layer of every text layer, the first of its block; each layer its own without blocks."""
        parts = np.array_split(np.arange(self.text.layers), self.blocks or self.text.layers)
        return np.concatenate([np.full(len(part), part[0]) for part in parts])

    @property
    def is_base(self):
        """bool [L, 1]"""
        return (self.bases == np.arange(self.text.layers))[:, None]

    def total(self):
        """P_total of both stacks."""
        return self.text.total() + self.vision.total()


def put(tree, path, value):
    """A copy of the tree with another subtree at "a/b/c"."""
    name, _, rest = path.partition("/")
    return {**tree, name: put(tree[name], rest, value) if rest else value}


def stacks_of(params):
    """{path of its layers: Sizes} of every stack [L, ...] whose vectors can be compressed."""
    found = {}

    def visit(tree, path):
        for name, value in tree.items():
            here = f"{path}/{name}" if path else name
            if name == "layers" and isinstance(value, dict) and all(has(value, part) for part in NEEDED):
                layers, width, _, heads, head = get(value, NEEDED[0]).shape
                hidden = value["up"]["kernel"].shape[-1]
                found[here] = Sizes(here, layers, width, heads, head, hidden, "gate" in value)
            elif isinstance(value, dict):
                visit(value, here)

    visit(params, "")
    return found


def has(tree, path):
    """Whether a tree has a subtree at "a/b/c"."""
    for name in path.split("/"):
        if not isinstance(tree, dict) or name not in tree:
            return False
        tree = tree[name]
    return True


def pair_of(params, blocks=0, text="", vision=""):
    """The Pair of a model's parameters (arrays or shapes).

    text, vision: paths of the stacks' layers; where they are not given: the deepest stack of the text tower (or of the decoder
    where there is no text tower) and of the image tower. Raises UserError where there is none.
    """
    known = stacks_of(params)

    def chosen(path, pattern, what):
        if path:
            if path not in known:
                raise UserError(f"compress.{what}={path!r} is no stack that can be compressed. There are: {', '.join(known)}.")
            return known[path]
        here = [sizes for name, sizes in known.items() if re.search(pattern, name)]
        if not here:
            raise UserError(
                f"This model has no {what} transformer that can be compressed. Stacks: {', '.join(known) or 'none'}."
            )
        return max(here, key=lambda sizes: (sizes.path.startswith("text"), sizes.layers))

    image = f"{VISION}|{BEFORE_STREAMS}" if has(params, "interaction/streams") else VISION
    return Pair(chosen(text, TEXT, "text"), chosen(vision, image, "vision"), blocks)


def count(tree):
    """Elements of all arrays of a tree."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))

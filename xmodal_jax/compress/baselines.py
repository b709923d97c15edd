"""Structures that nobody learned, to compare with."""

import jax
import jax.numpy as jnp
import numpy as np

from xmodal_jax.compress.decide import decided
from xmodal_jax.compress.effective import arrays, norm
from xmodal_jax.compress.hypernetwork import BIAS
from xmodal_jax.compress.structure import PRUNED, TOWERS, constrained, fixed, kept, shapes, whole
from xmodal_jax.errors import UserError
from xmodal_jax.interop.trees import get


def random(key, pair, p, multiple=0, prune=True, share=True):
    """A structure of the wanted size whose vectors are pruned and shared at random, as far as they may be."""
    leaves, tree = jax.tree.flatten(shapes(pair))
    logits = [jax.random.normal(jax.random.fold_in(key, i), leaf.shape) - BIAS for i, leaf in enumerate(leaves)]
    return decided(jax.tree.unflatten(tree, logits), pair, p, multiple, prune, share)


def magnitude(params, pair, p, multiple=0):
    """Uniform magnitude pruning: of every head and every MLP the same share of vectors, those of the greatest length.

    A vector's length is that of all its weights. Raises UserError where pruning alone cannot reach p.
    """
    ranks = {}  # of every vector in its head or MLP, the longest first
    for name in TOWERS:
        sizes = getattr(pair, name)
        found = arrays(get(params, sizes.path))
        squares = {path: norm(w, -1 if path.startswith("down") else 1) ** 2 for path, w in found.items() if "kernel" in path}
        qkv = squares.pop("attention/qkv/kernel")  # [L, 3, H, d]
        lengths = {"qk": qkv[:, 0] + qkv[:, 1], "ff": sum(squares.values())[:, None]}
        ranks[name] = {group: jnp.argsort(jnp.argsort(-of, axis=-1), axis=-1) for group, of in lengths.items()}

    ratios = np.linspace(0, 1, 201)
    step, numbers = multiple or 1, {}  # {tower: {group: how many vectors of each head or MLP stay, of every ratio}}
    for name in TOWERS:
        sizes = {group: order.shape[-1] for group, order in ranks[name].items()}
        numbers[name] = {group: np.round(ratios * size / step) * step for group, size in sizes.items()}

    def at(numbers):
        structure = whole(pair)
        for name in TOWERS:
            for group in PRUNED:
                made = ranks[name][group] < numbers[name][group]
                structure[name]["m"][group] = made.astype(jnp.float32).reshape(len(made), -1)
        return structure

    shares = np.asarray(jax.jit(lambda numbers: jax.lax.map(lambda one: kept(at(one), pair), numbers))(numbers))
    if shares[0] > p:
        raise UserError(f"Pruning alone leaves {100 * shares[0]:.1f} % of the weights at least, more than {100 * p:.1f} %.")
    best = int(np.argmin(np.abs(shares - p)))
    return constrained(at(jax.tree.map(lambda of: of[best], numbers)), pair)


def layers(pair, p):
    """Whole layers of the vision stack that are those of the text stack, the deepest first; with blocks, whole text layers
    too, once all of these are: the nearest size that can be reached."""
    share = jax.jit(lambda structure: kept(structure, pair))
    structure = fixed(whole(pair), pair)
    best, candidates = structure, []
    if pair.across:
        candidates += [("vision", layer) for layer in reversed(range(pair.vision.layers))]
    candidates += [("text", layer) for layer in reversed(range(pair.text.layers)) if not pair.is_base[layer, 0]]
    for tower, layer in candidates:
        s = jax.tree.map(lambda x, layer=layer: x.at[layer].set(0.0), structure[tower]["s"])
        structure = {**structure, tower: {**structure[tower], "s": s}}
        if abs(float(share(structure)) - p) < abs(float(share(best)) - p):
            best = structure
    return constrained(best, pair)

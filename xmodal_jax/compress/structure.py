"""Which weight vectors are kept (m) and which are a layer's own (s), what constrains them, and what stays of the weights.

A structure is {"text" | "vision": {"m": {"qk", "ff"}, "s": {"qk", "v", "ff"}}} of float [L, vectors of a layer], 1 or 0. m = 0:
the vector is pruned (a column of W_q with that of W_k; a hidden unit). s = 0: it is another's: in the vision stack that of the
text stack's same layer (equation 3), in the text stack that of its block's base layer (equation 4). W_v is shared, not pruned.

Letters: L layers. Source: US 12,386,873 B2, equations (2) to (9).
"""

import jax
import jax.numpy as jnp
import numpy as np

PRUNED, SHARED = ("qk", "ff"), ("qk", "v", "ff")
TOWERS = ("text", "vision")


def shapes(pair):
    """A structure of jax.ShapeDtypeStructs."""

    def of(sizes):
        vectors = {
            name: jax.ShapeDtypeStruct((sizes.layers, count), jnp.float32) for name, (count, _) in sizes.groups().items()
        }
        return {"m": {name: vectors[name] for name in PRUNED}, "s": {name: vectors[name] for name in SHARED}}

    return {tower: of(getattr(pair, tower)) for tower in TOWERS}


def whole(pair):
    """The structure that keeps all and shares nothing."""
    return jax.tree.map(lambda shape: jnp.ones(shape.shape, shape.dtype), shapes(pair))


def fixed(structure, pair, prune=True, share=True):
    """The structure with 1 where there is no choice: base layers are their own; towers of different sizes share nothing.

    prune, share: whether vectors may be pruned, and shared, at all.
    """

    def ones(tree, keep):
        return tree if keep else jax.tree.map(jnp.ones_like, tree)

    text, vision = structure["text"], structure["vision"]
    own = jax.tree.map(lambda s: jnp.where(pair.is_base, 1.0, s), text["s"])
    return {
        "text": {"m": ones(text["m"], prune), "s": ones(own, share)},
        "vision": {"m": ones(vision["m"], prune), "s": ones(vision["s"], share and pair.across)},
    }


def block_products(s, pair):
    """s [L, n] of the text stack -> [L, n]: for every layer the product over its block."""
    products = [jnp.prod(s[pair.bases == base], axis=0) for base in np.unique(pair.bases)]
    return jnp.stack(products)[np.searchsorted(np.unique(pair.bases), pair.bases)]


def across_of(structure, pair, group):
    """The vision stack's s [L, n] as the text stack meets it: 1 where the towers share nothing."""
    return structure["vision"]["s"][group] if pair.across else 1.0


def constrained(structure, pair):
    """Equations (6) and (7): no vector is pruned that is shared, or that another one uses. Sharing wins: m becomes 1 there.

        vision  m' = 1 - s (1 - m);  text, layer of its own: m' = 1 - s s_t (1 - m);  base: m' = 1 - s (prod of s_t) (1 - m)
    The closed form keeps gradients. The structure must be `fixed`.
    """
    text, vision = structure["text"], structure["vision"]

    def of_text(group):
        own = text["s"][group]
        used = jnp.where(pair.is_base, block_products(own, pair), own)
        return 1 - across_of(structure, pair, group) * used * (1 - text["m"][group])

    return {
        "text": {**text, "m": {group: of_text(group) for group in PRUNED}},
        "vision": {**vision, "m": {group: 1 - vision["s"][group] * (1 - vision["m"][group]) for group in PRUNED}},
    }


def stored(structure, pair):
    """{tower: {group: float [L, n]}}: 1 for vectors that stay in the file, of a structure that is `fixed`, not `constrained`.

    Multilinear in every entry of m and s, so that at 0 and 1 the derivative by an entry is the difference that it makes.
    """
    text, vision = structure["text"], structure["vision"]

    def of_text(group):
        own, across = text["s"][group], across_of(structure, pair, group)
        m = text["m"].get(group, 1.0)
        base = 1 - across * block_products(own, pair) * (1 - m)
        return jnp.where(pair.is_base, base, own * (1 - across * (1 - m)))

    return {
        "text": {group: of_text(group) for group in SHARED},
        "vision": {group: vision["s"][group] * vision["m"].get(group, 1.0) for group in SHARED},
    }


def kept(structure, pair):
    """P / P_total: the share of the weights of self-attention and MLPs that stays, float32 []. W_o stays whole."""
    vectors, total = stored(structure, pair), pair.total()
    share = 0.0
    for tower in TOWERS:
        sizes = getattr(pair, tower)
        share += sizes.layers * sizes.heads * sizes.head * sizes.width / total
        for group, (_, weights) in sizes.groups().items():
            share += weights / total * vectors[tower][group].sum()
    return share


def given_up(structure, pair):
    """{"shared", "pruned"}: what is not kept, as shares of all weights, of a structure that is `constrained`; adds up with
    `kept` to 1."""
    found = {"shared": 0.0, "pruned": 0.0}
    for tower in TOWERS:
        for group, (_, weights) in getattr(pair, tower).groups().items():
            own, m = structure[tower]["s"][group], structure[tower]["m"].get(group, 1.0)
            found["shared"] += weights / pair.total() * (1 - own).sum()
            found["pruned"] += weights / pair.total() * (own * (1 - m)).sum()
    return found


DISTANCES = {  # R of equation (9)
    "log": lambda share, p: jnp.abs(jnp.log(share / p)),
    "mse": lambda share, p: (share - p) ** 2,
    "mae": lambda share, p: jnp.abs(share - p),
}

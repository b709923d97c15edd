"""Two small stacks with random parameters, random structures, and the equations written out vector by vector in float64."""

import jax
import numpy as np

from xmodal_jax.compress.pair import pair_of

PATHS = {"text": "text/encoder/layers", "vision": "image/encoder/layers"}


def stack(rng, L=4, D=6, H=2, d=3, F=5, gated=False, bias=True):
    """A stack's layers as the models here have them, with another array that is not compressed."""

    def draw(*shape):
        return rng.normal(size=shape).astype(np.float32)

    tree = {
        "attention": {"qkv": {"kernel": draw(L, D, 3, H, d)}, "out": {"kernel": draw(L, H * d, D)}},
        "up": {"kernel": draw(L, D, F)}, "down": {"kernel": draw(L, F, D)}, "norm_mlp": {"scale": draw(L, D)},
    }  # fmt: skip
    if bias:
        tree["attention"]["qkv"]["bias"], tree["up"]["bias"], tree["down"]["bias"] = draw(L, 3, H, d), draw(L, F), draw(L, D)
    if gated:
        tree["gate"] = {"kernel": draw(L, D, F), "bias": draw(L, F)} if bias else {"kernel": draw(L, D, F)}
    return tree


def both(rng, blocks=0, text=None, vision=None, **sizes):
    """-> (params, Pair)."""
    params = {
        "text": {"encoder": {"layers": stack(rng, **(text or sizes))}},
        "image": {"encoder": {"layers": stack(rng, **(vision or sizes))}, "patch": rng.normal(size=3).astype(np.float32)},
    }
    return params, pair_of(params, blocks)


def drawn(rng, pair, share=0.5):
    """A structure of 0 and 1 at random, not constrained; base layers and towers without a counterpart have s = 1."""
    out = {}
    for tower in ("text", "vision"):
        sizes = getattr(pair, tower)
        counts = {group: count for group, (count, _) in sizes.groups().items()}

        def bits(group, counts=counts, sizes=sizes):
            return (rng.random((sizes.layers, counts[group])) < share).astype(np.float32)

        out[tower] = {"m": {g: bits(g) for g in ("qk", "ff")}, "s": {g: bits(g) for g in ("qk", "v", "ff")}}
        for s in out[tower]["s"].values():
            if tower == "text":
                s[np.unique(pair.bases)] = 1
            elif not pair.across:
                s[:] = 1
    return out


def transcribed(structure, pair):
    """Equations (6) and (7) entry by entry -> the structure with m = 1 wherever something is shared or used by others."""
    made = jax.tree.map(np.copy, structure)
    for group in ("qk", "ff"):
        m_v, s_v = made["vision"]["m"][group], made["vision"]["s"][group]
        m_t, s_t = made["text"]["m"][group], made["text"]["s"][group]
        m_v[s_v == 0] = 1
        for layer in range(pair.text.layers):
            for i in range(m_t.shape[1]):
                users = [k for k, base in enumerate(pair.bases) if base == layer and k != layer and s_t[k, i] == 0]
                by_vision = pair.across and s_v[layer, i] == 0
                if s_t[layer, i] == 0 or users or by_vision:
                    m_t[layer, i] = 1
    return made

"""The weights that a structure makes of given ones (equations 2 to 5), and what brings them together before (equation 10).

Letters: L layers, D width, H heads, d width of a head, F hidden units.
"""

import jax
import jax.numpy as jnp

from xmodal_jax.compress.pair import KNOWN, has, put
from xmodal_jax.interop.trees import get


def over(sizes, qk, v, ff):
    """{array of a layer: factor that fits it} of factors a vector: qk, v [L, H d], ff [L, F]. None: that array has none."""
    heads = (sizes.layers, sizes.heads, sizes.head)
    qkv = jnp.stack([part.reshape(heads) for part in (qk, qk, v)], axis=1)  # [L, 3, H, d]
    columns = dict.fromkeys(("up/bias", "gate/bias"), ff) | dict.fromkeys(("up/kernel", "gate/kernel"), ff[:, None])
    return {"attention/qkv/kernel": qkv[:, None], "down/kernel": ff[..., None], **columns}


def shared_by(sizes, s):
    """{array: s that fits it}; the biases of q, k and v stay every layer's own."""
    return over(sizes, s["qk"], s["v"], s["ff"])


def masked_by(sizes, m):
    """{array: m that fits it}, the biases of q and k among them: a pruned vector adds nothing to the scores."""
    factors = over(sizes, m["qk"], jnp.ones_like(m["qk"]), m["ff"])
    return factors | {"attention/qkv/bias": factors["attention/qkv/kernel"][:, 0]}


def arrays(layers):
    """{path: array} of what is compressed of a stack's layers."""
    return {path: get(layers, path) for path in KNOWN if has(layers, path)}


def mixed(own, others, s):
    """s W + (1 - s) W of another, for every array that s says something about."""
    return {path: s[path] * w + (1 - s[path]) * others[path] if path in s else w for path, w in own.items()}


def effective(params, structure, pair):
    """Parameters with shared vectors in place of a layer's own and pruned ones 0, for a `constrained` structure.

    Differentiable in both. The model computes with them what the materialised one computes without the zeros.
    """
    layers = {"text": get(params, pair.text.path), "vision": get(params, pair.vision.path)}
    s = {tower: shared_by(getattr(pair, tower), structure[tower]["s"]) for tower in layers}
    made = {"text": arrays(layers["text"])}
    if pair.blocks:
        based = {path: w[pair.bases] for path, w in made["text"].items()}
        made["text"] = mixed(made["text"], based, s["text"])  # equation (4)
    made["vision"] = arrays(layers["vision"])
    if pair.across:
        made["vision"] = mixed(made["vision"], made["text"], s["vision"])  # equations (3) and (5)
    for tower, sizes in (("text", pair.text), ("vision", pair.vision)):
        m, stack = masked_by(sizes, structure[tower]["m"]), layers[tower]
        for path, w in made[tower].items():
            stack = put(stack, path, (w * m[path]).astype(w.dtype) if path in m else w)  # equation (2)
        params = put(params, sizes.path, stack)
    return params


def alignment(params, structure, pair):
    """R_w, float32 []: what is shared comes together and what is pruned goes to 0, before either happens.

        R_w = sum |(1 - s)(W_t - W_v)|_1 + sum |(1 - s_t)(W_t,l - W_t,b)|_1 + sum over pruned vectors |W[:, i]|_2
    The print of equation (10) repeats W_t - W_v and drops a minus; its text settles both. A vector of the last sum is a
    column of W_q, of W_k or of W_1, or a row of W_2.
    """
    text, vision = (arrays(get(params, sizes.path)) for sizes in (pair.text, pair.vision))
    total = 0.0

    def apart(a, b, s):
        return sum(jnp.abs((1 - s[path]) * (a[path] - b[path])).sum() for path in a if path in s)

    if pair.across:
        total += apart(text, vision, shared_by(pair.vision, structure["vision"]["s"]))
    if pair.blocks:
        based = {path: w[pair.bases] for path, w in text.items()}
        total += apart(text, based, shared_by(pair.text, structure["text"]["s"]))
    for sizes, found, tower in ((pair.text, text, "text"), (pair.vision, vision, "vision")):
        m = masked_by(sizes, structure[tower]["m"])
        for path, w in found.items():
            if path.endswith("kernel"):
                axis = -1 if path.startswith("down") else 1
                total += ((1 - jnp.squeeze(m[path], axis)) * norm(w, axis)).sum()
    return total


@jax.custom_jvp
def root(x):
    """sqrt(x) whose derivative at 0 is 0."""
    return jnp.sqrt(x)


@root.defjvp
def _root_derivative(primals, tangents):
    (x,), (dx,) = primals, tangents
    y = root(x)
    return y, jnp.where(y > 0, dx / (2 * jnp.where(y > 0, y, 1.0)), 0.0)


def norm(w, axis):
    """Euclidean length along an axis."""
    return root(jnp.square(w).sum(axis))

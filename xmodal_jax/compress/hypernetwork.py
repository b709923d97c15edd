"""m and s = HN(z; theta): a structure as the output of a small network (equation 8), or learned directly.

z: a fixed Gaussian vector a layer. A bidirectional GRU lets the layers of both stacks see each other, the text stack's first;
a layer of its own for every layer turns its state into logits. Widths, temperature and bias as in the authors' related work.

Letters: L layers of both stacks, Z width of z, n vectors of a layer.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmodal_jax.compress.structure import TOWERS, shapes
from xmodal_jax.models.backbones.recurrent import Layer

TEMPERATURE = 0.4
BIAS = 3.0  # starts at: keep all, share nothing
Z_WIDTH = 64


class Heads(nn.Module):
    """x [L, W] -> logits [L, n]: one weight-normalised matrix without bias a layer (Salimans and Kingma, 2016)."""

    count: int

    @nn.compact
    def __call__(self, x):
        layers, width = x.shape

        def uniform(key, shape):
            return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0) / jnp.sqrt(width)

        direction = self.param("direction_kernel", uniform, (layers, width, self.count))
        length = jnp.sqrt(jnp.square(direction).sum(1))  # [L, n]
        gain = self.param("gain_scale", lambda key: length)  # it starts as a matrix without normalisation
        return jnp.einsum("lw,lwn->ln", x, direction) * gain / length


class HyperNetwork(nn.Module):
    """z [L, Z] -> a structure of logits. sizes: {tower: {"m" | "s": {group: (layers, vectors)}}}; hidden: of each direction."""

    sizes: dict
    hidden: int = 128

    @nn.compact
    def __call__(self, z):
        x, mask = z[None], jnp.ones((1, len(z)), bool)
        both = [Layer("gru", self.hidden, reverse=back, name=name)(x, mask)[0] for name, back in DIRECTIONS.items()]
        x = nn.relu(nn.LayerNorm(name="norm")(jnp.concatenate(both, axis=-1)[0]))  # [L, 2 hidden]
        layers = {tower: self.sizes[tower]["s"]["qk"][0] for tower in TOWERS}
        parts = {"text": x[: layers["text"]], "vision": x[layers["text"] :]}

        def head(tower, kind, group):
            return Heads(self.sizes[tower][kind][group][1], name=f"{tower}_{kind}_{group}")(parts[tower])

        return {
            tower: {kind: {group: head(tower, kind, group) for group in groups} for kind, groups in kinds.items()}
            for tower, kinds in self.sizes.items()
        }


DIRECTIONS = {"forward": False, "backward": True}


def network_of(pair):
    """The hypernetwork of a pair of stacks."""
    return HyperNetwork(jax.tree.map(lambda shape: tuple(shape.shape), shapes(pair)))


def start(key, pair, direct=False):
    """New {"theta", "z"}; direct: theta is the logits themselves, and there is no z."""
    if direct:
        return {"theta": jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes(pair)), "z": jnp.zeros((0,))}
    z = jax.random.normal(jax.random.fold_in(key, 1), (pair.text.layers + pair.vision.layers, Z_WIDTH))
    return {"theta": network_of(pair).init(key, z)["params"], "z": z}


def logits_of(theta, z, pair):
    """A structure of logits."""
    return theta if z.ndim == 1 else network_of(pair).apply({"params": theta}, z)


def drawn(logits, key):
    """Gumbel-sigmoid with a straight-through estimator (Jang et al., 2017): 0 or 1 in value, the sigmoid's gradient.

    sigmoid((logit + g + b) / T), g the difference of two Gumbel variables, which is logistic.
    """
    leaves, tree = jax.tree.flatten(logits)
    noise = [jax.random.logistic(jax.random.fold_in(key, i), leaf.shape) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(tree, [straight_through(leaf + g) for leaf, g in zip(leaves, noise, strict=True)])


def settled(logits):
    """The same without noise, as evaluation and export take it: 1 where logit + b >= 0."""
    return jax.tree.map(straight_through, logits)


def straight_through(logit):
    """1 where logit + b >= 0, else 0, with the gradient of sigmoid((logit + b) / T)."""
    soft = nn.sigmoid((logit + BIAS) / TEMPERATURE)
    hard = (logit + BIAS >= 0).astype(soft.dtype)
    return soft + jax.lax.stop_gradient(hard - soft)

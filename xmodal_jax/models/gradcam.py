"""Grad-CAM (Selvaraju et al., 2017): where in the image the features lie that raise the score of an answer.

Letters: B batch, L blocks, h and w rows and columns of the grid, N = class tokens + h w, C channels or width.

    alpha_k = mean over positions of d score / d A_k,    map = relu(sum_k alpha_k A_k)      (equations 1 and 2)
"""

import jax
import jax.numpy as jnp
from flax.traverse_util import unflatten_dict

from xmodal_jax.errors import UserError
from xmodal_jax.models.stacks import is_apart


def grad_cam(score, params, path=(), grid=None, class_tokens=0, layer=None):
    """The maps of one score a row: float32 [B, h, w], largest value 1, all 0 where nothing speaks for the score.

    A are the last features of a convolutional encoder, and of a transformer what its last block but one gives: behind the
    last block often the class token alone reaches the answer.

    Args:
      score: (variables, mutable) -> (scores [B], collections): applies the model to `variables` with `mutable`, and hands on
        the collections that `apply` returned. Rows must not depend on each other.
      params: of the model. path: names of the submodules that lead to the image encoder, e.g. ("image",).
      grid: (h, w) of a transformer's tokens; None: they are square. class_tokens: tokens that stand before those of the grid.
      layer: of a transformer, 0: its input, i: behind block i, negative: counted from the last; static under jit.
    Raises:
      UserError: no encoder at the path; no such layer; tokens that do not fill the grid; outside of jit also where the score
        does not depend on the features at all.
    """
    features, gradient = features_and_gradient(score, params, path, layer)
    features, gradient = (on_grid(x.astype(jnp.float32), grid, class_tokens) for x in (features, gradient))  # [B, h, w, C]
    if not isinstance(gradient, jax.core.Tracer) and not jnp.any(gradient):
        raise UserError(
            f"Grad-CAM: the score does not depend on the features (layer={layer}): their gradient is 0 everywhere. Behind the "
            "last block often the class token alone reaches the answer: choose an earlier layer."
        )
    alpha = gradient.mean((1, 2))  # [B, C]
    maps = jax.nn.relu(jnp.einsum("bc,bhwc->bhw", alpha, features, precision=jax.lax.Precision.HIGHEST))
    largest = maps.max((1, 2), keepdims=True)
    return maps / jnp.where(largest > 0, largest, 1)


def features_and_gradient(score, params, path=(), layer=None):
    """The chosen features A and d score / d A, both [B, h, w, C] or [B, N, C]; arguments and errors as of `grad_cam`."""
    _, shapes = jax.eval_shape(lambda params: score({"params": params}, "intermediates"), params)
    place, index = choose_features(shapes.get("intermediates", {}), tuple(path), layer)
    whole = at(shapes["intermediates"], place)

    def total(nudge):
        if index is not None:  # one block of the scan's [L, B, N, C]
            nudge = jnp.zeros(whole.shape, whole.dtype).at[index].set(nudge)
        scores, kept = score({"params": params, "perturbations": unflatten_dict({place: nudge})}, "intermediates")
        features = at(kept["intermediates"], place)
        return scores.astype(jnp.float32).sum(), features if index is None else features[index]

    shape = whole.shape if index is None else whole.shape[1:]
    gradient, features = jax.grad(total, has_aux=True)(jnp.zeros(shape, whole.dtype))
    return features, gradient


def choose_features(kept, path, layer=None):
    """Where the features lie among the intermediates `kept`: (path, index of the block or None)."""
    node = kept
    for depth, name in enumerate(path):
        if name not in node:
            where, found = "/".join(path[:depth]) or "the model", ", ".join(sorted(node)) or "nothing"
            raise UserError(f"Grad-CAM: no image encoder at {'/'.join(path)}: in {where} there is {found}.")
        node = node[name]
    if layer is None and "features" in node:
        return (*path, "features"), None
    stack = (*path, "encoder") if "encoder" in node else path
    node = node.get("encoder", node)
    if "input" not in node:
        told = "no transformer blocks, leave layer out" if "features" in node else "neither a grid of features nor blocks"
        raise UserError(f"Grad-CAM: layer={layer} of the encoder at {'/'.join(path) or 'the top'}: it has {told}.")
    layers = node.get("layers", {})
    scanned = bool(layers) and not is_apart(layers)
    blocks = at(layers, ("hidden",)).shape[0] if scanned else len(layers)
    number = max(blocks - 1, 0) if layer is None else layer
    if not -blocks - 1 <= number <= blocks:
        raise UserError(f"Grad-CAM: layer={layer}: the encoder has {blocks} blocks, so from {-blocks - 1} to {blocks}.")
    number %= blocks + 1
    if not number:
        return (*stack, "input"), None
    if scanned:
        return (*stack, "layers", "hidden"), number - 1
    return (*stack, "layers", str(number - 1), "hidden"), None


def at(kept, path):
    """What was sown at a path, by an encoder that was called once."""
    for name in path:
        kept = kept[name]
    if len(kept) != 1:
        raise UserError(f"Grad-CAM: the score calls the encoder with {'/'.join(path)} {len(kept)} times: it must call it once.")
    return kept[0]


def on_grid(x, grid, class_tokens):
    """[B, N, C] without its class tokens as [B, h, w, C]; a grid stays as it is."""
    if x.ndim == 4:
        if grid is not None and tuple(grid) != x.shape[1:3]:
            raise UserError(f"Grad-CAM: grid={tuple(grid)}, but the encoder's features are {x.shape[1]} x {x.shape[2]}.")
        return x
    x = x[:, class_tokens:]
    side = round(x.shape[1] ** 0.5)
    rows, columns = grid or (side, side)
    if rows * columns != x.shape[1]:
        raise UserError(
            f"Grad-CAM: {x.shape[1]} tokens behind {class_tokens} class tokens do not fill a grid of {rows} x {columns}: give "
            "grid and class_tokens of the encoder."
        )
    return x.reshape(x.shape[0], rows, columns, x.shape[-1])

"""Transformer blocks of every style, stacked by `lax.scan` so that depth costs neither compile time nor program size.

Letters: L layers, B batch, N tokens, M context tokens, D width, H heads, d width of a head, S length of a cache.
"""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.models.attention import Attention
from xmodal_jax.models.dense import Dense
from xmodal_jax.models.perturb import perturbed
from xmodal_jax.models.platform import lay_out, platform
from xmodal_jax.models.stacks import is_apart, stacked

REMAT = {
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


def recomputing(function):
    """An element-wise function whose gradient recomputes it: less work than to write and read what it would save."""

    @jax.custom_vjp
    def apply(x):
        return function(x)

    def gradient(x, dy):
        x = jax.lax.optimization_barrier(x)  # else the compiler finds the tanh of the forward pass, and keeps it
        return jax.vjp(function, x)[1](dy)

    apply.defvjp(lambda x: (function(x), x), gradient)
    return apply


gelu = recomputing(nn.gelu)  # by tanh
ACTIVATIONS = {
    "gelu": gelu,
    "gelu_exact": recomputing(lambda x: nn.gelu(x, approximate=False)),
    "gelu_quick": recomputing(lambda x: x * nn.sigmoid(1.702 * x)),  # CLIP's
    "relu": nn.relu,
    "silu": nn.silu,
    "tanh": jnp.tanh,
}


@dataclasses.dataclass(frozen=True)
class Style:
    """What tells the transformers of the literature apart.

    Attributes:
      post_norm: normalise after each sum (BERT) instead of before each sub-layer; then no norm closes the stack.
      rms: T5's normalisation, without mean and bias; epsilon: of the normalisation.
      activation: see ACTIVATIONS; gated: activation(gate x) * (up x) in the MLP.
      use_bias: of dense layers; head_width: 0 is D / H; scale: of attention scores, None is 1 / sqrt d.
      layer_scale: a learned factor for every channel of a sub-layer's output (Touvron et al., 2021).
      closing_norm: whether a norm closes a stack that normalises before each sub-layer.
      attention: makes the self-attention from (width, heads, dtype, head_width, use_bias, scale, kernel).
      kernel: "plain", "flash" or "auto", see `flash.attention`.
      widths: ((width of a head's q and k, hidden units), ...), one pair a layer, of a stack whose layers were pruned to
        different sizes (`compress.materialise`): they are apart, and not scanned.
    """

    post_norm: bool = False
    rms: bool = False
    epsilon: float = 1e-6
    activation: str = "gelu"
    gated: bool = False
    use_bias: bool = True
    head_width: int = 0
    scale: float | None = None
    layer_scale: bool = False
    closing_norm: bool = True
    attention: Callable = Attention
    kernel: str = "auto"
    widths: tuple = ()

    def norm(self, dtype, name):
        """The normalisation as a module. The variance is taken about the mean: E[x^2] - E[x]^2 loses half of the digits."""
        if self.rms:
            return nn.RMSNorm(epsilon=self.epsilon, dtype=dtype, name=name)
        return nn.LayerNorm(epsilon=self.epsilon, dtype=dtype, use_fast_variance=False, name=name)


class Block(nn.Module):
    """x + attention(norm x), [+ cross-attention], + mlp(norm x); with style.post_norm norm(x + attention(x)), ..."""

    width: int
    heads: int
    mlp_width: int
    cross: bool = False
    dropout: float = 0.0
    dtype: str = "float32"
    sequence: bool = False
    style: Style = Style()
    qk_width: int = 0

    @nn.compact
    def __call__(self, x, cache, mask, context, context_mask, index, relation, train):
        style = self.style

        def add(x, name, layer):  # x + layer(norm x), or norm(x + layer(x))
            norm = style.norm(self.dtype, f"norm_{name}")
            y = layer(x if style.post_norm else norm(x))
            if style.layer_scale:
                y = y * self.param(f"scale_{name}", nn.initializers.ones, (self.width,)).astype(y.dtype)
            if self.dropout:
                y = nn.Dropout(self.dropout, deterministic=not train)(y)
            return norm(x + y) if style.post_norm else x + y

        def attention(kind, name, qk_width=0):
            widths, scale = (self.width, self.heads, self.dtype, style.head_width), style.scale
            if qk_width and scale is None:  # that of the width before pruning
                scale = (style.head_width or self.width // self.heads) ** -0.5
            return kind(*widths, style.use_bias, scale, style.kernel, qk_width, name=name)

        def attend_self(y):
            nonlocal cache
            attend = attention(style.attention, "attention", self.qk_width)
            y, cache = attend(y, mask, cache=cache, index=index, relation=relation)
            return y

        def mlp(y):
            def dense(size, name):
                return Dense(size, use_bias=style.use_bias, dtype=self.dtype, name=name)

            act = ACTIVATIONS[style.activation]
            up = dense(self.mlp_width, "up")(y)
            up = act(dense(self.mlp_width, "gate")(y)) * up if style.gated else act(up)
            return dense(self.width, "down")(up)

        x = add(lay_out(x, self.sequence), "attention", attend_self)
        if self.cross and context is not None:  # without a context: the text alone
            x = add(x, "cross", lambda y: attention(Attention, "cross")(y, context_mask, context=context)[0])
        x = lay_out(add(x, "mlp", mlp), self.sequence)
        return perturbed(self, "hidden", x), cache


class Layers(nn.Module):
    """Blocks "0", "1", ... of different widths: (of q and k, hidden units) each. kind: `Block`; settings: what they share."""

    kind: Callable
    widths: tuple
    settings: dict

    @nn.compact
    def __call__(self, x, cache, mask, context, *others):
        caches = []
        for number, (qk_width, hidden) in enumerate(self.widths):
            block = self.kind(**self.settings, mlp_width=hidden, qk_width=qk_width, name=str(number))
            own, seen = (jax.tree.map(lambda c, number=number: c[number], part) for part in (cache, by_layer(context)))
            x, own = block(x, own, mask, context if seen is None else seen, *others)
            caches.append(own)
        return x, None if cache is None else jax.tree.map(lambda *parts: jnp.stack(parts), *caches)


def by_layer(context):
    """A context that was projected for every layer, [L, ...], or None."""
    return context if isinstance(context, dict) else None


class Stack(nn.Module):
    """`layers` blocks and a closing norm; parameters carry a leading axis of size `layers`.

    What goes in and what each block gives out is sown as intermediates, and can be perturbed (`perturbed`): "input", [B, N, D],
    and "layers/hidden", [L, B, N, D]. `apply(..., mutable="intermediates")` returns them.

    remat: "none", "full" (recompute all), "dots" (keep the outputs of weight products).
    sequence: between blocks, tokens are split over the mesh's tensor axis (Korthikanti et al., 2022), for long byte sequences.
    """

    layers: int
    width: int
    heads: int
    mlp_ratio: float = 4.0
    cross: bool = False
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    sequence: bool = False
    style: Style = Style()

    @nn.compact
    def __call__(self, x, mask=None, context=None, context_mask=None, cache=None, index=None, relation=None, train=False):
        """x [B, N, D]; masks broadcastable to [B, H, N, M]; cache: {"k", "v": [L, B, H, S, d]} -> (x, cache).

        context: [B, M, D], or {"k", "v": [L, B, H, M, d]} by `project_context`; None: blocks go without cross-attention.
        relation: for the self-attention of every block, by default a bias of its scores broadcastable to [B, H, N, M].
        """
        x = perturbed(self, "input", x)
        if self.layers:
            block = Block
            if REMAT[self.remat] is not None:
                block = nn.remat(Block, policy=REMAT[self.remat], prevent_cse=False, static_argnums=(8,))
            if self.style.widths:
                return self.finish(*self.apart(block)(x, cache, mask, context, context_mask, index, relation, train))
            stack = nn.scan(
                block,
                variable_axes={"params": 0, "intermediates": 0, "attention": 0, "perturbations": 0},
                split_rngs={"params": True, "dropout": True},
                in_axes=(0, nn.broadcast, 0 if isinstance(context, dict) else nn.broadcast, *[nn.broadcast] * 4),
                out_axes=0,
                length=self.layers,
                unroll=self.layers if platform() == "cpu" else 1,  # a loop costs CPU a third of its speed
            )
            if self.has_variable("params", "layers") and is_apart(self.get_variable("params", "layers")):
                # The compiler takes each layer's slice of the stack for the array that it was stacked from.
                stack = nn.map_variables(stack, "params", lambda found: {"params": stacked(found["params"])})
            stack = stack(
                self.width, self.heads, round(self.width * self.mlp_ratio), self.cross, self.dropout, self.dtype, self.sequence,
                self.style, name="layers",
            )  # fmt: skip
            x, cache = stack(x, cache, mask, context, context_mask, index, relation, train)
        return self.finish(x, cache)

    def apart(self, block):
        """Its blocks, of different widths."""
        if len(self.style.widths) != self.layers:
            raise UserError(f"A stack of {self.layers} layers was given the widths of {len(self.style.widths)}.")
        names = ("width", "heads", "cross", "dropout", "dtype", "sequence", "style")
        return Layers(block, self.style.widths, {name: getattr(self, name) for name in names}, name="layers")

    def finish(self, x, cache):
        if self.style.closing_norm and not self.style.post_norm:
            x = self.style.norm(self.dtype, "norm")(x)
        return x, cache


def encoder_of(module, style=None):
    """The Stack "encoder" of a module with a Stack's attributes; style: instead of the module's own."""
    return Stack(
        module.layers, module.width, module.heads, module.mlp_ratio, dropout=module.dropout, remat=module.remat,
        dtype=module.dtype, style=style or module.style, name="encoder",
    )  # fmt: skip


def empty_cache(layers, batch, heads, length, width, dtype="float32"):
    """Key-value cache of a decoder stack: zeros [layers, B, H, S, d]."""
    shape = (layers, batch, heads, length, width // heads)
    return {"k": jnp.zeros(shape, dtype), "v": jnp.zeros(shape, dtype)}

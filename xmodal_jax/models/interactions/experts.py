"""Fusion by experts: one attention for all tokens, an MLP for each modality (VLMo, Bao et al., 2022, "Multiway").

The same layers encode a modality alone, by its own experts, and both together: words through the experts of words, image tokens
through those of images, and in the last layers all of them through experts of the pair. Letters: B batch, T words, N image
tokens, M tokens of either, D width.
"""

import flax.linen as nn
import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.models.attention import Attention
from xmodal_jax.models.interactions.fused import Fused, pooled, refuse_mode
from xmodal_jax.models.interactions.layered import layered
from xmodal_jax.models.interactions.mlp import MLP
from xmodal_jax.models.transformer import Style

MODALITIES = ("text", "image")


class Experts(nn.Module):
    """Attributes: layers: all of them; joint: how many of the last ones have experts of the pair. layer_scale: the factor of a
    sub-layer's channels at the start. pool: what the pair's vector is, see `fused.pooled`."""

    unimodal = True  # a modality's own vector has gone through its experts

    width: int = 768
    heads: int = 12
    layers: int = 12
    joint: int = 2
    mlp_ratio: float = 4.0
    layer_scale: float = 0.1
    pool: str = "first"
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    style: Style = Style(epsilon=1e-6, activation="gelu_exact")

    def setup(self):
        if not 0 <= self.joint <= self.layers:
            raise UserError(f"config.model.interaction.joint={self.joint}: must lie within 0..{self.layers}, the layers.")
        kinds = self.param("modality", nn.initializers.normal(0.02), (2, self.width))
        self.kinds = dict(zip(MODALITIES, kinds, strict=True))
        self.lower = self.stack(self.layers - self.joint, MODALITIES)
        self.upper = self.stack(self.joint, (*MODALITIES, "joint"))
        self.norm = self.style.norm(self.dtype, None)

    def stack(self, layers, experts):
        """Layers with these experts, or None."""
        if not layers:
            return None
        scanned = layered(ExpertBlock, layers, self.remat, (3, 4))
        hidden = round(self.width * self.mlp_ratio)
        return scanned(self.width, self.heads, hidden, experts, self.layer_scale, self.dropout, self.dtype, self.style)

    def through(self, stack, x, mask, parts, train):
        """x [B, M, D] of `parts`, ((expert, tokens), ...), through a stack, or as it is where there is none."""
        return x if stack is None else stack(x, mask, parts, train)[0]

    def alone(self, encoded, modality, train=False):
        """`Encoded` of one modality's embeddings -> its tokens [B, M, D] by its own experts; and, where there are experts of
        the pair, those that these make of it in the last layers, else None."""
        x = encoded.x + self.kinds[modality].astype(encoded.x.dtype)
        mask, parts = encoded.mask[:, None, None], ((modality, x.shape[1]),)
        below = self.through(self.lower, x, mask, parts, train)
        own, pair = (self.through(self.upper, below, mask, parts, train) for parts in (parts, (("joint", x.shape[1]),)))
        return self.norm(own), self.norm(pair) if self.joint else None

    def __call__(self, text, image, mode="both", train=False):
        refuse_mode(self, mode, ("both",))
        for name, encoded in (("words", text), ("image tokens", image)):
            if encoded.x.shape[-1] != self.width:
                raise UserError(
                    f"config.model.interaction: experts {self.width} wide cannot take {name} {encoded.x.shape[-1]} wide."
                )
        T, N = text.x.shape[1], image.x.shape[1]
        x = [part.x + self.kinds[name].astype(part.x.dtype) for name, part in zip(MODALITIES, (text, image), strict=True)]
        mask = jnp.concatenate([text.mask, image.mask], axis=1)[:, None, None]
        x = self.through(self.lower, jnp.concatenate(x, axis=1), mask, (("text", T), ("image", N)), train)  # [B, T + N, D]
        x = self.norm(self.through(self.upper, x, mask, (("joint", T + N),), train))
        return Fused(x[:, :T], x[:, T:], text.mask, image.mask, self.pair(x[:, 0], x[:, T]))

    @nn.compact
    def pair(self, x, y):
        """The pair's vector of its first word and its first image token."""
        return pooled(self.pool, self.width, self.dtype, x, y)


class ExpertBlock(nn.Module):
    """x + g attention(norm x); then of each part x + h mlp_e(norm_e x), e its expert; g, h: learned factors of channels."""

    width: int
    heads: int
    hidden: int
    experts: tuple
    layer_scale: float
    dropout: float
    dtype: str
    style: Style

    @nn.compact
    def __call__(self, x, mask, parts, train):
        """x [B, M, D]; parts: ((expert, tokens), ...) in their order."""

        def scaled(y, name):
            factor = self.param(f"scale_{name}", nn.initializers.constant(self.layer_scale), (self.width,))
            y = y * factor.astype(y.dtype)
            return nn.Dropout(self.dropout, deterministic=not train)(y) if self.dropout else y

        attend = Attention(self.width, self.heads, self.dtype, kernel=self.style.kernel, name="attention")
        x = x + scaled(attend(self.style.norm(self.dtype, "norm_attention")(x), mask)[0], "attention")
        activation = self.style.activation
        layers = {
            name: (self.style.norm(self.dtype, f"norm_{name}"), MLP(self.width, self.hidden, activation, self.dtype, name=name))
            for name in self.experts
        }  # fmt: skip
        if self.is_initializing():
            for norm, mlp in layers.values():  # every expert has its parameters, whoever comes first
                mlp(norm(x))
        first, found = 0, []
        for name, count in parts:
            norm, mlp = layers[name]
            found.append(mlp(norm(x[:, first : first + count])))
            first += count
        return x + scaled(jnp.concatenate(found, axis=1), "mlp"), None

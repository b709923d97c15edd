"""Fusion in two streams that attend to each other (ViLBERT, Lu et al., 2019; LXMERT, Tan and Bansal, 2019).

Letters: B batch, T words, N image tokens, D width of the text's stream, E of the image's, L layers.
"""

import dataclasses

import flax.linen as nn

from xmodal_jax.errors import UserError
from xmodal_jax.models.attention import Attention
from xmodal_jax.models.interactions.fused import Fused, pooled, refuse_mode
from xmodal_jax.models.interactions.layered import layered
from xmodal_jax.models.interactions.mlp import MLP
from xmodal_jax.models.transformer import Stack, Style


class DualStream(nn.Module):
    """Each layer: both streams read the other's input of that layer, [MLP,] self-attention, MLP.

    Attributes:
      width, heads, mlp_ratio: of the text's stream; image_width, image_heads, image_mlp_ratio: of the image's (0: the same).
      image_layers: blocks of the image's own before (those of the text belong to its encoder).
      shared: one cross-attention, its norm included, for both directions (LXMERT). cross_mlp: an MLP of each stream behind the
        cross-attention (ViLBERT).
      pool: what the pair's vector is, see `fused.pooled`.
    """

    width: int = 768
    heads: int = 12
    layers: int = 5
    mlp_ratio: float = 4.0
    image_width: int = 0
    image_heads: int = 0
    image_mlp_ratio: float = 0.0
    image_layers: int = 0
    shared: bool = False
    cross_mlp: bool = False
    pool: str = "first"
    post_norm: bool = True
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    style: Style = Style(epsilon=1e-12, activation="gelu_exact")

    @nn.compact
    def __call__(self, text, image, mode="both", train=False):
        refuse_mode(self, mode, ("both",))
        sizes = (self.width, self.heads, self.mlp_ratio)
        others = tuple(other or own for other, own in zip(
            (self.image_width, self.image_heads, self.image_mlp_ratio), sizes, strict=True
        ))  # fmt: skip
        if text.x.shape[-1] != sizes[0] or image.x.shape[-1] != others[0]:
            raise UserError(
                f"config.model.interaction: streams {sizes[0]} and {others[0]} wide cannot take words {text.x.shape[-1]} and "
                f"image tokens {image.x.shape[-1]} wide."
            )
        if self.shared and sizes != others:
            raise UserError("config.model.interaction.shared: streams that share their cross-attention are of one size.")
        style = dataclasses.replace(self.style, post_norm=self.post_norm)
        masks = text.mask[:, None, None], image.mask[:, None, None]
        y = image.x
        if self.image_layers:
            own = {"dropout": self.dropout, "remat": self.remat, "dtype": self.dtype, "style": style}
            y, _ = Stack(self.image_layers, *others, **own, name="encoder")(y, masks[1], train=train)
        stack = layered(DualBlock, self.layers, self.remat, (4,))
        stack = stack(sizes, others, self.shared, self.cross_mlp, self.dropout, self.dtype, style, name="streams")
        (x, y), _ = stack((text.x.astype(self.dtype), y.astype(self.dtype)), *masks, train)
        return Fused(x, y, text.mask, image.mask, pooled(self.pool, self.width, self.dtype, x[:, 0], y[:, 0]))


class DualBlock(nn.Module):
    """One layer of both streams. sizes, others: (width, heads, MLP ratio) of the text's and of the image's."""

    sizes: tuple
    others: tuple
    shared: bool
    cross_mlp: bool
    dropout: float
    dtype: str
    style: Style

    @nn.compact
    def __call__(self, streams, text_mask, image_mask, train):
        style = self.style

        def join(norm, x, layer):  # x + layer(norm x), or norm(x + layer(x))
            y = layer(x if style.post_norm else norm(x))
            y = nn.Dropout(self.dropout, deterministic=not train)(y) if self.dropout else y
            return norm(x + y) if style.post_norm else x + y

        def crossing(size, name):
            attend = Attention(*size[:2], self.dtype, kernel=style.kernel, name=f"cross{name}")
            return attend, style.norm(self.dtype, f"norm_cross{name}")

        def mlp(size, x, name):
            layer = MLP(size[0], round(size[0] * size[2]), style.activation, self.dtype, name=name)
            return join(style.norm(self.dtype, f"norm_{name}"), x, layer)

        x, y = streams
        if self.shared:
            to_text = to_image = crossing(self.sizes, "")
        else:
            to_text, to_image = crossing(self.sizes, "_text"), crossing(self.others, "_image")
        x, y = (  # both read what the other was before
            join(to_text[1], x, lambda q: to_text[0](q, image_mask, context=y)[0]),
            join(to_image[1], y, lambda q: to_image[0](q, text_mask, context=x)[0]),
        )
        ends = []
        for name, size, z, mask in (("text", self.sizes, x, text_mask), ("image", self.others, y, image_mask)):
            if self.cross_mlp:
                z = mlp(size, z, f"{name}_between")
            attend = Attention(*size[:2], self.dtype, kernel=style.kernel, name=f"{name}_attention")
            z = join(style.norm(self.dtype, f"norm_{name}_attention"), z, lambda q, a=attend, m=mask: a(q, m)[0])
            ends.append(mlp(size, z, f"{name}_mlp"))
        return tuple(ends), None

"""Fusion by cross-attention: words read the image, layer by layer (ALBEF's upper half, Li et al., 2021; BLIP, Li et al., 2022).

Letters: B batch, T words, N image tokens, D width.
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.models.interactions.fused import Fused, pooled, refuse_mode
from xmodal_jax.models.transformer import Stack, Style


class Cross(nn.Module):
    """Self-attention among the words, cross-attention to the image, MLP; image tokens stay as they are, of any width.

    Attributes: post_norm: BERT's order of normalisation. pool: what the pair's vector is, see `fused.pooled`.
    """

    width: int = 768
    heads: int = 12
    layers: int = 6
    mlp_ratio: float = 4.0
    post_norm: bool = True
    pool: str = "none"
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    style: Style = Style(epsilon=1e-12, activation="gelu_exact")

    @nn.compact
    def __call__(self, text, image, mode="both", train=False):
        """mode: "both", words see one another; "causal", only those before them, as a decoder's."""
        refuse_mode(self, mode, ("both", "causal"))
        if text.x.shape[-1] != self.width:
            raise UserError(
                f"config.model.interaction: cross-attention {self.width} wide cannot take words {text.x.shape[-1]} wide: give "
                "both one width."
            )
        mask = text.mask[:, None, None]  # [B, 1, 1, T]
        if mode == "causal":
            mask = mask & jnp.tri(mask.shape[-1], dtype=bool)
        stack = Stack(
            self.layers, self.width, self.heads, self.mlp_ratio, True, self.dropout, self.remat, self.dtype,
            style=dataclasses.replace(self.style, post_norm=self.post_norm), name="encoder",
        )  # fmt: skip
        x, _ = stack(text.x, mask, image.x, image.mask[:, None, None], train=train)
        return Fused(x, image.x, text.mask, image.mask, pooled(self.pool, self.width, self.dtype, x[:, 0], image.x[:, 0]))

"""Numbers of patches as tokens (DALL-E, Ramesh et al., 2021)."""

import flax.linen as nn

from xmodal_jax.models.backbones.encoded import Encoded, mask_of


class PatchCodes(nn.Module):
    """Numbers int32 [B, N] -> Encoded with x [B, N, D]: a vector of the number and one of its place. Pixels are not looked at.

    Attributes: codes: numbers that there are; places: N.
    """

    codes: int = 8192
    places: int = 1024
    width: int = 768
    dropout: float = 0.0
    dtype: str = "float32"

    @nn.compact
    def __call__(self, images, more, train=False):
        """more: {"codes" int32 [B, N]}."""
        x = nn.Embed(self.codes, self.width, dtype=self.dtype, name="codes_embed")(more["codes"])
        table = self.param("place_table", nn.initializers.normal(0.02), (self.places, self.width))
        x = nn.Dropout(self.dropout, deterministic=not train)(x + table.astype(x.dtype))
        return Encoded(x, mask_of(x), x.mean(1))

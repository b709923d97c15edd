"""Public models of a text and the features of an image's regions: LXMERT (Tan and Bansal, 2019), VisualBERT (Li et al., 2019).

Letters: B batch, T words, R regions, F channels of a feature, D width.
"""

import flax.linen as nn
import jax.numpy as jnp

from xmodal_jax.models.backbones.bert import BERT, TextEmbed
from xmodal_jax.models.backbones.encoded import mask_of
from xmodal_jax.models.dense import Dense
from xmodal_jax.models.images.regions import Regions
from xmodal_jax.models.interactions import DualStream
from xmodal_jax.models.interactions.fused import Fused, pooled
from xmodal_jax.models.transformer import Style, encoder_of

STYLE = Style(post_norm=True, epsilon=1e-12, activation="gelu_exact")


class LXMERT(nn.Module):
    """A text, features of regions and their boxes -> `Fused`. Its parts are those of the row `lxmert` of configs/zoo.py.

    Attributes: features: F. layers: of the text alone, image_layers: of the regions alone, cross_layers: of both streams.
    """

    vocabulary: int = 30522
    positions: int = 512
    types: int = 2
    features: int = 2048
    width: int = 768
    heads: int = 12
    layers: int = 9
    image_layers: int = 5
    cross_layers: int = 5
    mlp_ratio: float = 4.0
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    style: Style = STYLE

    def setup(self):
        own = {name: getattr(self, name) for name in ("width", "heads", "mlp_ratio", "dropout", "remat", "dtype", "style")}
        self.text = BERT(self.vocabulary, self.positions, self.types, layers=self.layers, **own)
        self.image = Regions(
            None, self.width, "corners", "mean", norm_parts=True, norm=False, dropout=self.dropout, dtype=self.dtype,
            style=self.style,
        )  # fmt: skip
        self.interaction = DualStream(layers=self.cross_layers, image_layers=self.image_layers, shared=True, **own)

    def __call__(self, ids, features, boxes, mask=None, there=None, types=None, train=False):
        """ids, types int32 [B, T]; features [B, R, F]; boxes [B, R, 4]: x0, y0, x1, y1 in 0..1; mask bool [B, T], there bool
        [B, R]: what is no padding."""
        regions = {"features": features, "boxes": boxes, "there": mask_of(features, there)}
        text = self.text(ids, mask, types, train)
        return self.interaction(text, self.image(None, regions, train), train=train)


class VisualBERT(nn.Module):
    """A text and features of regions -> `Fused`: one transformer over both, which one normalisation has in common.

    Attributes: features: F. pooler: pooled is tanh(W x_0), else x_0.
    """

    vocabulary: int = 30522
    positions: int = 512
    types: int = 2
    features: int = 2048
    width: int = 768
    heads: int = 12
    layers: int = 12
    mlp_ratio: float = 4.0
    pooler: bool = False
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    style: Style = STYLE

    @nn.compact
    def __call__(self, ids, features, mask=None, there=None, types=None, train=False):
        """ids, types int32 [B, T]; features [B, R, F]; mask bool [B, T], there bool [B, R]: what is no padding."""
        embed = TextEmbed(
            self.vocabulary, self.positions, self.types, self.width, dropout=self.dropout, epsilon=self.style.epsilon,
            dtype=self.dtype, name="embed",
        )  # fmt: skip
        x, init = embed(ids, mask, types, train), nn.initializers.normal(0.02)  # [B, T, D]
        kinds = self.param("image_kind_table", init, (self.types, self.width))
        places = self.param("image_place_table", init, (self.positions, self.width))
        y = Dense(self.width, dtype=self.dtype, name="feature")(features.astype(self.dtype))  # [B, R, D]
        y = embed.norm(y + (kinds[1] + places[0]).astype(y.dtype))
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
        masks = mask_of(x, mask), mask_of(y, there)
        both = jnp.concatenate(masks, axis=1)
        z, _ = encoder_of(self)(jnp.concatenate([x, y], axis=1), both[:, None, None], train=train)
        T = x.shape[1]
        pair = pooled("first" if self.pooler else "none", self.width, self.dtype, z[:, 0], z[:, T])
        return Fused(z[:, :T], z[:, T:], *masks, pair)

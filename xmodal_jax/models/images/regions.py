"""Regions as tokens: features of boxes and the geometry of these, mixed as each row of the survey's table does.

Letters: B pictures, R regions, F channels of a feature, G numbers of a box, D width.
"""

import flax.linen as nn
import jax.numpy as jnp

from xmodal_jax.errors import UserError
from xmodal_jax.models.backbones.encoded import Encoded
from xmodal_jax.models.dense import Dense
from xmodal_jax.models.images.roi import roi_align
from xmodal_jax.models.transformer import Style, encoder_of

GEOMETRIES = ("none", "corners", "area", "six", "seven", "sine")
MIXES = ("plain", "joined", "sum", "mean")
HIDDEN = ("zero", "vector")


class Regions(nn.Module):
    """Pictures and boxes -> Encoded with x [B, R, D], features [B, R, F].

    Attributes:
      grid: a module that gives `Encoded` with x [B, h w, F] of a square grid: features are pooled from it (`roi_align`). None:
        features are given, `given` wide, and no pixel is looked at.
      geometry: "none"; "corners", x0 y0 x1 y1 in 0..1 (LXMERT); "area", with the share of the area (ViLBERT, UNIMO, VL-T5);
        "six", with width and height (OSCAR); "seven", with all three (UNITER); "sine", waves of the corners (VL-BERT).
      waves: of each of the four numbers; 0: together as many as a feature is wide, so that neither drowns the other (VL-BERT).
      mix: of feature f and geometry g: "plain", W f; "joined", W [f; g] (OSCAR, VL-BERT); "sum", W f + V g; "mean", half of it
        (LXMERT).
      norm_parts: normalise W f and V g before they are mixed (LXMERT, UNITER); norm: normalise what is mixed (UNITER, ViLBERT).
      segment: add a learned vector before that (UNITER, VisualBERT). whole: a first region, [IMG], the mean of all features
        with the box of the whole picture (ViLBERT).
      numbers: of the regions, so many vectors, which tell the first from the second; 0: none (VL-T5, Cho et al., 2021).
      layers, heads: blocks of a transformer over the regions (WenLan, Huo et al., 2021).
      hidden: what a hidden region's feature becomes: "zero", or a learned "vector" (UNITER, VL-BERT).
    """

    grid: nn.Module | None
    width: int = 768
    geometry: str = "corners"
    mix: str = "sum"
    norm_parts: bool = False
    norm: bool = True
    segment: bool = False
    whole: bool = False
    hidden: str = "zero"
    numbers: int = 0
    given: int = 0
    layers: int = 0
    heads: int = 12
    mlp_ratio: float = 4.0
    dropout: float = 0.0
    remat: str = "none"
    dtype: str = "float32"
    style: Style = Style(epsilon=1e-12)
    waves: int = 64

    @property
    def feature_width(self):
        """F"""
        return self.given if self.grid is None else self.grid.width

    @nn.compact
    def __call__(self, images, regions, train=False):
        """images: normalised, float [B, H, W, 3]; regions: {"boxes" [B, R, 4] x0, y0, x1, y1 in 0..1, "there" bool [B, R],
        without a grid "features" [B, R, F], and where some are masked "hidden" and "replaced" bool [B, R]}."""
        for name, valid in {"geometry": GEOMETRIES, "mix": MIXES, "hidden": HIDDEN}.items():
            if getattr(self, name) not in valid:
                raise UserError(f"config.model.image.{name}={getattr(self, name)!r}: must be one of {', '.join(valid)}.")
        if (self.geometry == "none") != (self.mix == "plain"):
            raise UserError("config.model.image: geometry 'none' and mix 'plain' go together.")
        boxes, there = regions["boxes"], regions["there"].astype(bool)
        if self.grid is None:
            features = regions["features"].astype(self.dtype)
        else:
            features = roi_align(self.cells(images, train), boxes)[:, :, 0, 0]  # [B, R, F]
        hidden = regions.get("hidden")
        hidden = jnp.zeros_like(there) if hidden is None else hidden.astype(bool)
        seen = self.masked(features, hidden)
        if "replaced" in regions:  # of the row half a batch on, which microbatches have too (`gradient.split_batch`)
            seen = jnp.where(regions["replaced"][..., None], jnp.roll(features, len(features) // 2, axis=0), seen)
        if self.whole:
            share = (there / jnp.maximum(there.sum(1, keepdims=True), 1)).astype(seen.dtype)
            mean = jnp.einsum("br,brf->bf", share, seen)
            seen = jnp.concatenate([mean[:, None], seen], 1)
            boxes = jnp.concatenate([jnp.broadcast_to(jnp.array([0.0, 0, 1, 1]), (len(boxes), 1, 4)), boxes], 1)
            there = jnp.pad(there, ((0, 0), (1, 0)), constant_values=True)
        geometry = numbers(boxes, self.geometry, self.waves or max(1, seen.shape[-1] // 4))
        x = self.mixed(seen, geometry.astype(seen.dtype))  # [B, R, D]
        if self.segment:
            x = x + self.param("modality", nn.initializers.normal(0.02), (self.width,)).astype(x.dtype)
        if self.numbers:
            if self.numbers < x.shape[1]:
                raise UserError(f"config.model.image.numbers={self.numbers}: there are {x.shape[1]} regions.")
            x = (
                x
                + self.param("number_table", nn.initializers.normal(0.02), (self.numbers, self.width)).astype(x.dtype)[
                    : x.shape[1]
                ]
            )
        if self.norm:
            x = self.style.norm(self.dtype, "norm")(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        if self.layers:
            x, _ = encoder_of(self)(x, there[:, None, None], train=train)
        return Encoded(x, there, x[:, 0], features=features, class_tokens=int(self.whole))

    def cells(self, images, train):
        """The grid of a picture's features, [B, h, w, F]."""
        found = self.grid(images, train=train)
        x = found.x[:, found.class_tokens :]
        side = round(x.shape[1] ** 0.5)
        if side * side != x.shape[1]:
            raise UserError(f"config.model.image.grid: its {x.shape[1]} tokens are no square grid.")
        return x.reshape(len(x), side, side, -1)

    def masked(self, features, hidden):
        """Features [B, R, F] with those of hidden regions taken away."""
        seen = jnp.where(hidden[..., None], 0, features)
        if self.hidden == "zero":
            return seen
        token = self.param("mask_token", nn.initializers.normal(0.02), (features.shape[-1],)).astype(features.dtype)
        return seen + jnp.where(hidden[..., None], token, 0)

    def mixed(self, f, g):
        """Features [B, R, F] and geometry [B, R, G] -> [B, R, D]."""

        def carried(x, name):
            y = Dense(self.width, dtype=self.dtype, name=name)(x.astype(self.dtype))
            return self.style.norm(self.dtype, f"norm_{name}")(y) if self.norm_parts else y

        if self.mix == "joined":
            return carried(jnp.concatenate([f, g], axis=-1), "feature")
        x = carried(f, "feature")
        if self.mix == "plain":
            return x
        x = x + carried(g, "geometry")
        return x / 2 if self.mix == "mean" else x


def numbers(boxes, geometry, waves=64):
    """Boxes [..., 4] in 0..1 -> [..., G]. waves: of each corner's number, half sines and half cosines."""
    x0, y0, x1, y1 = jnp.moveaxis(boxes, -1, 0)
    wide, high = x1 - x0, y1 - y0
    if geometry == "sine":
        rates = 1e4 ** (-jnp.arange(waves // 2) / (waves // 2)) * 100  # of positions in percent
        angles = boxes[..., None] * rates
        return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1).reshape(*boxes.shape[:-1], -1)
    more = {"none": [], "corners": [], "area": [wide * high], "six": [wide, high], "seven": [wide, high, wide * high]}[geometry]
    return jnp.stack([x0, y0, x1, y1, *more], axis=-1)

"""The regions of a picture as arrays: from a file of what a detector found, else of the objects that an example names and of a
grid; their classes and attributes, and which of them are masked.

Letters: R regions, F width of their features.
"""

import numpy as np
from absl import logging

from xmodal_jax.data.captioning import CaptionMaker
from xmodal_jax.data.region_files import BrokenRegions, Found
from xmodal_jax.data.regions import hidden_regions, regions_of
from xmodal_jax.data.sources.image_text import too_many
from xmodal_jax.errors import UserError, printable


class RegionMaker(CaptionMaker):
    """A `CaptionMaker` that knows the regions of its pictures, as many as `config.regions` says.

    Args: those of `CaptionMaker`; classes: names of objects, attributes: that objects have, each in the order of their numbers;
    found: `RegionFile` of the pictures, or None; width: F of the features in it.
    """

    def __init__(self, *args, classes=(), attributes=(), found=None, width=0, **kwargs):
        super().__init__(*args, **kwargs)
        self.found, self.width, self.broken, self.looked = found, width, {}, set()
        self.classes, self.attributes = tuple(classes), tuple(attributes)
        self._class = {name: number for number, name in enumerate(self.classes)}
        self._attribute = {name: number for number, name in enumerate(self.attributes)}

    def regions_of(self, example):
        """`regions.regions_of`; where patches have numbers the regions are the patches, else those of a file, where one is
        given."""
        if self.config.features:
            found = self.of_file(example)
            told = ([None] * len(found.boxes) if part is None else map(str, part) for part in (found.classes, found.attributes))
            return found.boxes[: self.config.regions], *(list(names)[: self.config.regions] for names in told)
        return regions_of({} if self.config.codes else example, self.config.regions)

    def of_file(self, example):
        """What the file says of an example."""
        if "found" in example:
            return example["found"]
        if self.found is None or "id" not in example:
            raise UserError(
                f"This model reads the regions of a picture from a file: {self.config.features!r} must be there, and pictures "
                "must be given by their paths."
            )
        return self.found.found(example["id"])

    def of_file_or_none(self, example):
        """The same; no region where those of this picture are broken, which is told and counted."""
        self.looked.add(example.get("id"))
        try:
            return self.of_file(example)
        except BrokenRegions as error:
            if example["id"] not in self.broken:
                self.broken[example["id"]] = str(error)
                logging.warning("a picture without regions (%d so far). %s", len(self.broken), printable(error))
            fraction = getattr(self.source, "max_bad_fraction", 0.0)
            floor = min(len(self.source), round(3 / fraction) if fraction else 0)
            touched, what = max(len(self.looked), floor), "regions that cannot be read"
            too_many(self.config.features, len(self.broken), touched, fraction, self.broken.values(), what)
            return Found(np.zeros((0, 4), np.float32), np.zeros((0, self.width), np.float32))

    def features(self, example):
        """Features [R, F] of its regions, zeros where it has fewer."""
        given, features = self.of_file(example).features, np.zeros((self.config.regions, self.width), np.float32)
        features[: len(given)] = given[: len(features)]
        return features

    def regions(self, example):
        """Boxes [R, 4] of an example, zeros where it has fewer."""
        boxes = np.zeros((self.config.regions, 4), np.float32)
        if self.config.regions:
            found = self.regions_of(example)[0]
            boxes[: len(found)] = found
        return boxes

    def hidden(self, example, boxes, rng):
        """What is known of the boxes [R, 4] of the changed picture, and which are masked."""
        config, (found, names, told) = self.config, self.regions_of(example)
        there = (np.arange(len(boxes)) < len(found)) & ((boxes[:, 2:] - boxes[:, :2]).min(-1) > 0)  # not cut off
        classes = np.full(len(boxes), -1, np.int32)
        classes[: len(names)] = [self._class.get(name, -1) for name in names]
        target = hidden_regions(boxes, there, config.region_share, config.overlap, rng)
        drawn = rng.random(len(boxes))
        shown = target & (drawn < config.region_retained + config.region_replaced)
        out = {
            "regions_there": there, "regions_hidden": target & ~shown, "regions_target": target, "region_class": classes
        }  # fmt: skip
        if config.region_replaced:
            out["regions_replaced"] = shown & (drawn >= config.region_retained)
        if self.attributes:
            out["region_attribute"] = np.full(len(boxes), -1, np.int32)
            out["region_attribute"][: len(told)] = [self._attribute.get(name, -1) for name in told]
        return out

    def region_batch(self, rows):
        """What `example_batch` has of regions."""
        config, count = self.config, self.config.regions
        if not count:
            return {}
        batch = {"boxes": np.zeros((rows, count, 4), np.float32), "region_class": np.zeros((rows, count), np.int32)}
        kinds = ("there", "hidden", "target", *["replaced"] * bool(config.region_replaced))
        batch |= {f"regions_{name}": np.zeros((rows, count), bool) for name in kinds}
        if self.attributes:
            batch["region_attribute"] = np.zeros((rows, count), np.int32)
        if config.features:
            batch["region_features"] = np.zeros((rows, count, self.width), np.float32)
        return batch

"""Pictures and texts prepared as the originals of public checkpoints do it: the same pixels and ids, without PyTorch.

image = ImageProcessor.from_folder(folder)(pictures)["image"]     # float32 [B, h, w, 3]; defaults("vit") where there is no file
text = encode(load_tokenizer(folder), texts, 32)                  # {"ids": int32 [B, 32], "mask": bool [B, 32]}
"""

import dataclasses
import json
import os
import re

import numpy as np
from PIL import Image

from xmodal_jax.config import choose
from xmodal_jax.data.images import centre_crop, rgb_of
from xmodal_jax.errors import UserError
from xmodal_jax.files import at_home
from xmodal_jax.interop.files import read_object
from xmodal_jax.spelling import spelled

FILE, OUTER_FILE = "preprocessor_config.json", "processor_config.json"
FLAGS = {"do_resize": True, "do_center_crop": False, "do_rescale": True, "do_normalize": True, "do_pad": False}
BILINEAR, BICUBIC = int(Image.Resampling.BILINEAR), int(Image.Resampling.BICUBIC)
MOST = 80_000_000  # pixels that a picture is resized to
IMAGENET = {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)}
OPENAI = {"image_mean": (0.48145466, 0.4578275, 0.40821073), "image_std": (0.26862954, 0.26130258, 0.27577711)}

# What transformers' class of an image processor takes for a value that its file lacks
HALF = {"image_mean": 0.5, "image_std": 0.5}
COMMON = {"rescale_factor": 1 / 255, "resample": BICUBIC, "default_to_square": True} | HALF | FLAGS
CROP = {"do_center_crop": True, "crop_size": 224}
EDGE = {"default_to_square": False}  # an int `size` is the shortest edge
KINDS = {
    "ViT": {"size": 224, "resample": BILINEAR}, "DeiT": {"size": 256, **CROP}, "Beit": {"size": 224, "crop_size": 224},
    "CLIP": {"size": 224, **EDGE, **CROP, **OPENAI}, "Bit": {"size": 224, **EDGE, **CROP, **OPENAI},
    "Siglip": {"size": (224, 224), **EDGE}, "Blip": {"size": 384, **OPENAI}, "Flava": {"size": 224, **CROP, **OPENAI},
    "ConvNext": {"size": 384, "crop_pct": 224 / 256, **EDGE}, "Vilt": {"size": 384, "size_divisor": 32, "do_pad": True, **EDGE},
    "EfficientNet": {"size": 346, "crop_size": 289, "rescale_offset": False, "include_top": True},
}  # fmt: skip
LEFT_OUT = {
    "Vilt": "do_center_crop",
    "Beit": "do_pad",
    "ConvNext": "do_pad",
    "EfficientNet": "do_pad",
}  # by the class, whatever the file says
# The usual released checkpoint of a model_type, where it differs from the class
MODEL_TYPES = {
    "vit": ("ViT", {}), "clip": ("CLIP", {}), "siglip": ("Siglip", {}), "blip": ("Blip", {}), "flava": ("Flava", {}),
    "vilt": ("Vilt", {}), "deit": ("DeiT", IMAGENET), "beit": ("Beit", {"resample": BILINEAR}),
    "swin": ("ViT", {"resample": BICUBIC, **IMAGENET}), "dinov2": ("Bit", {"size": 256, **IMAGENET}),
    "resnet": ("ConvNext", {"size": 224, **IMAGENET}), "convnext": ("ConvNext", {"size": 224, **IMAGENET}),
    "efficientnet": ("EfficientNet", {
        "image_mean": IMAGENET["image_mean"], "image_std": (0.47853944, 0.4732864, 0.47434163),
    }),
    "align": ("EfficientNet", {  # -1..1
        "do_center_crop": True, "resample": BILINEAR, "do_normalize": False, "include_top": False, "rescale_offset": True,
        "rescale_factor": 2 / 255,
    }),
    "vgg": ("CLIP", {"size": 256, "resample": BILINEAR, **IMAGENET}),  # torchvision's steps, which CLIP's class can do
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ImageProcessor:
    """Resize, centre crop, rescale, normalise, pad: the steps of an image processor of transformers, with Pillow's filters.

    Attributes:
      kind: "ViT" of ViTImageProcessor: one of KINDS. size: {"height", "width"} or {"shortest_edge"[, "longest_edge"]}.
      resample: Pillow's number of a filter. crop_size: (rows, columns). image_mean, image_std: of red, green, blue.
      do_pad: pictures of different sizes are filled up with zeros, right and below, and a mask is returned.
      crop_pct: of ConvNext: below 384 pixels the shortest edge is resized to edge / crop_pct and the centre square is cut.
      size_divisor: of Vilt: both sides are rounded down to multiples of it.
      rescale_offset, include_top: of EfficientNet: 1 is taken off after rescaling; it is divided by image_std once more.
    """

    kind: str
    size: dict
    resample: int
    crop_size: tuple | None
    rescale_factor: float
    image_mean: tuple
    image_std: tuple
    crop_pct: float | None
    size_divisor: int | None
    rescale_offset: bool | None
    include_top: bool | None
    do_resize: bool
    do_center_crop: bool
    do_rescale: bool
    do_normalize: bool
    do_pad: bool

    @classmethod
    def from_folder(cls, folder):
        """Read preprocessor_config.json as any version of transformers wrote it, or the processor_config.json that holds it.

        "Fast" kinds resize with torchvision, whose pixels can be a grey level off Pillow's. A UserError tells a file that is
        missing, broken, of an unknown kind, or with values that make no sense.
        """
        values = read_json(folder, OUTER_FILE).get("image_processor") or read_json(folder, FILE)
        if not values:
            raise UserError(f"{folder} has no {FILE}; `defaults(model_type)` gives the usual processor of a kind of model.")
        name = values.get("image_processor_type") or values.get("feature_extractor_type")
        if name is None:  # files of the first versions: the model's config tells
            name, _ = MODEL_TYPES.get(read_json(folder, "config.json").get("model_type"), (None, None))
        kind = re.sub(r"(ImageProcessor(Fast|Pil)?|FeatureExtractor)$", "", str(name))
        if kind not in KINDS:
            raise UserError(f"{folder}/{FILE}: the image_processor_type {name} is none of the supported: {', '.join(KINDS)}.")
        return parse(kind, values, f"{folder}/{FILE}")

    def __call__(self, images):
        """Prepare pictures.

        Args:
          images: list of pictures in any form that `data.images.rgb_of` takes; or one of them. Transparency is laid on white.
            EXIF orientation of Pillow images is not applied, that of files is.
        Returns:
          {"image": float32 [B, h, w, 3]}, and with do_pad "mask": bool [B, h, w], True where the picture is.
        Raises:
          UserError: no pictures; one of another type or shape, or too elongated; different sizes at the end without do_pad.
        """
        single = isinstance(images, (Image.Image, str, os.PathLike, bytes)) or getattr(images, "ndim", 4) < 4
        given = [images] if single else images
        pictures = [self._fit(rgb_of(image, f"Picture {row}", upright=False)) for row, image in enumerate(given)]
        sizes = sorted({picture.shape[:2] for picture in pictures})
        if not pictures:
            raise UserError("There are no pictures to prepare: the list is empty.")
        if len(sizes) > 1 and not self.do_pad:
            raise UserError(f"With size {self.size} the pictures end in different sizes, {sizes[:4]}: set a crop, or do_pad.")
        mask = np.zeros((len(pictures), *np.max(sizes, axis=0)), bool)
        out = np.zeros((*mask.shape, 3), np.float32)
        levels = self._levels()
        for row, picture in enumerate(pictures):
            height, width, _ = picture.shape
            out[row, :height, :width] = levels[picture, np.arange(3)]
            mask[row, :height, :width] = True
        return {"image": out, "mask": mask} if self.do_pad else {"image": out}

    def _levels(self):
        """What each level 0..255 becomes, float32 [256, 3], rounded where transformers rounds."""
        levels = np.tile(np.arange(256.0)[:, None], 3)
        levels = (levels * self.rescale_factor if self.do_rescale else levels).astype(np.float32)
        levels = levels - np.float32(1) if self.do_rescale and self.rescale_offset else levels
        levels = (levels - np.float32(self.image_mean)) / np.float32(self.image_std) if self.do_normalize else levels
        return levels / np.float32(self.image_std) if self.include_top else levels

    def as_square(self, size=None):
        """What a model sees of a picture, for models that take squares of uint8: {"image_size": pixels, "mode": as of
        `data.images.decode_image`, "mean", "std": of pixels / 255}. size: pixels in place of the processor's own.

        A processor that gives other shapes than squares resizes to a square here.
        """
        edge = self.size.get("shortest_edge") or self.size["height"]
        stretched = "height" in self.size or not (self.do_center_crop or self.crop_pct)
        crop, wide = (self.crop_size or (edge,))[0] if self.do_center_crop else edge, edge
        if self.crop_pct:
            stretched, wide = edge >= 384, edge if edge >= 384 else int(edge / self.crop_pct)
        mode = f"{'resize' if stretched else 'crop'}-{Image.Resampling(self.resample).name.lower()}"
        mean, std = self._shift_and_scale()
        return {
            "image_size": size or crop, "mode": mode if wide == crop else f"{mode}-{wide}/{crop}",
            "mean": tuple((mean / 255).tolist()), "std": tuple((std / 255).tolist()),
        }  # fmt: skip

    def _shift_and_scale(self):
        """(mean, std), float64 [3]: what `__call__` makes of a level x is (x - mean) / std."""
        factor = self.rescale_factor if self.do_rescale else 1.0
        mean, std = (np.array(self.image_mean), np.array(self.image_std)) if self.do_normalize else (np.zeros(3), np.ones(3))
        mean = (mean + bool(self.do_rescale and self.rescale_offset)) / factor
        return mean, std / factor * (np.array(self.image_std) if self.include_top else 1.0)

    def unnormalise(self, pixels):
        """Back to colours: float [..., 3] of `__call__` -> uint8 [..., 3]. Padding becomes the mean colour."""
        mean, std = self._shift_and_scale()
        return np.clip(np.rint(np.asarray(pixels, np.float64) * std + mean), 0, 255).astype(np.uint8)

    def to_folder(self, folder):
        """Write preprocessor_config.json, from which transformers makes a processor that gives the same pixels."""
        values = {key: value for key, value in dataclasses.asdict(self).items() if value is not None and key != "kind"}
        values |= {"image_processor_type": f"{self.kind}ImageProcessor", "do_convert_rgb": True}
        os.makedirs(folder, exist_ok=True)
        outer = read_json(folder, OUTER_FILE)
        files = {OUTER_FILE: outer | {"image_processor": values}} if "image_processor" in outer else {}  # it goes first
        for name, content in (files | {FILE: values}).items():
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                json.dump(content, file, indent=2, sort_keys=True)

    def _fit(self, picture):
        """uint8 [H, W, 3] -> uint8 [h, w, 3], resized and cropped."""
        if self.do_resize:
            height, width = target_size(self, *picture.shape[:2])
            if not 0 < height * width <= MOST:
                raise UserError(f"A picture of shape {picture.shape} would become {height} x {width}: it is too elongated.")
            picture = np.asarray(Image.fromarray(picture).resize((width, height), self.resample))
            if self.crop_pct and self.size["shortest_edge"] < 384:
                picture = centre_crop(picture, (self.size["shortest_edge"],) * 2)
        return centre_crop(picture, self.crop_size) if self.do_center_crop else picture


def defaults(model_type):
    """The processor of the usual released checkpoint of a model_type, for folders that lack preprocessor_config.json.

    Another image size: `dataclasses.replace(defaults("vit"), size={"height": 384, "width": 384})`. Unknown: a UserError.
    """
    kind, values = choose(MODEL_TYPES, model_type, "model_type")
    return parse(kind, values, f"The defaults of {model_type}")


def parse(kind, values, where):
    """An ImageProcessor of JSON values; what is missing, or null and no flag, is what transformers' class takes."""
    flags = {*FLAGS, "default_to_square"}
    values = COMMON | KINDS[kind] | {key: value for key, value in values.items() if value is not None or key in flags}
    values[LEFT_OUT.get(kind)] = False
    try:
        if not all(values[flag] in (True, False, None) for flag in FLAGS) or (values["do_pad"] and "pad_size" in values):
            raise ValueError(f"{', '.join(FLAGS)} must be true or false, and pad_size is not supported")
        crop = read_size(values["crop_size"], True) if values["do_center_crop"] else None
        out = ImageProcessor(
            kind,
            size=read_size(values["size"], values["default_to_square"]),
            resample=int(Image.Resampling(values["resample"])),
            crop_size=crop and (crop["height"], crop["width"]),
            rescale_factor=float(values["rescale_factor"]),
            image_mean=tuple(map(float, np.broadcast_to(values["image_mean"], 3))),
            image_std=tuple(map(float, np.broadcast_to(values["image_std"], 3))),
            crop_pct=float(values["crop_pct"]) if kind == "ConvNext" else None,
            size_divisor=int(values["size_divisor"]) if kind == "Vilt" else None,
            rescale_offset=bool(values["rescale_offset"]) if kind == "EfficientNet" else None,
            include_top=bool(values["include_top"]) if kind == "EfficientNet" else None,
            **{flag: bool(values[flag]) for flag in FLAGS},
        )
        if out.do_resize and kind in ("Vilt", "ConvNext") and "shortest_edge" not in out.size:
            raise ValueError(f"size {out.size} lacks shortest_edge")
        if min(out.rescale_factor, *out.image_std, values.get("crop_pct", 1), values.get("size_divisor", 1)) <= 0:
            raise ValueError("rescale_factor, image_std, crop_pct and size_divisor must be above zero")
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{where}: these settings of an image processor make no sense: {error}.") from error
    return out


def read_size(size, square):
    """An int, a pair (rows, columns) or a dictionary -> {"height", "width"} or {"shortest_edge"[, "longest_edge"]}."""
    if isinstance(size, int):
        size = (size, size) if square else {"shortest_edge": size}
    if isinstance(size, (list, tuple)):
        size = dict(zip(("height", "width"), size, strict=True))
    size = {key: value for key, value in dict(size).items() if value is not None}
    known = ({"height", "width"}, {"shortest_edge"}, {"shortest_edge", "longest_edge"})
    if set(size) not in known or not all(type(value) is int and value > 0 for value in size.values()):
        raise ValueError(f"size {size}; it takes height and width, or shortest_edge with or without longest_edge, in pixels")
    return size


def target_size(processor, height, width):
    """(rows, columns) of a picture after resizing; where these sums round decides on the pixels."""
    size, short, long = processor.size, min(height, width), max(height, width)
    if "height" in size:
        return size["height"], size["width"]
    edge = exact = size["shortest_edge"]
    if divisor := processor.size_divisor:
        longest = int(1333 / 800 * edge)
        sides = (edge, edge / short * width) if height < width else (edge / short * height, edge)
        scale = min(1, longest / max(sides))
        return tuple(int(scale * side + 0.5) // divisor * divisor for side in sides)
    if processor.crop_pct:
        if edge >= 384:
            return edge, edge
        edge = exact = int(edge / processor.crop_pct)
    elif long / short * edge > size.get("longest_edge", np.inf):
        exact = size["longest_edge"] * short / long
        edge = round(exact)
        if short == edge:
            return height, width
    other = int(exact * long / short)
    return (other, edge) if width <= height else (edge, other)


def read_json(folder, name):
    """The JSON object in a file of a folder; {} where there is no such file."""
    path = os.path.join(folder, name)
    return read_object(path) if os.path.lexists(path) else {}


def pinned(folder_or_name):
    """(folder or name on the hub, {"revision": ...} where one is named: NAME@REVISION, a commit, branch or tag)."""
    folder_or_name = at_home(folder_or_name)
    name, at, revision = folder_or_name.rpartition("@")
    if os.path.exists(folder_or_name) or not (at and name and revision):
        return folder_or_name, {}
    return name, {"revision": revision}


def load_tokenizer(folder_or_name, fewest=4):
    """The tokeniser of a folder or of a name on the hub (NAME or NAME@REVISION), by transformers.AutoTokenizer; a UserError
    where there is none, or one of fewer than `fewest` words. No code that comes with it is run."""
    from transformers import AutoTokenizer

    name, revision = pinned(folder_or_name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False, **revision)
        if (
            len(tokenizer) - len(set(tokenizer.all_special_ids)) < fewest
        ):  # what transformers makes of a folder with a config only
            raise ValueError("there is no vocabulary")
        return tokenizer
    except Exception as error:  # of many kinds: no files, no network, broken files, an unknown class
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        needs = "tokenizer.json, or vocab.txt, or vocab.json and merges.txt, beside tokenizer_config.json or config.json"
        raise UserError(f"{folder_or_name}: no tokeniser comes from there ({reason}). A folder needs {needs}.") from error


def encode(tokenizer, texts, length):
    """Token ids of texts, special tokens included, cut or padded on the right to `length` (GPT-2: with its end token).

    Args:
      texts: list of strings. length: T.
    Returns:
      {"ids": int32 [B, T], "mask": bool [B, T]}, True where the text is.
    Raises:
      UserError: neither a padding nor an end token; a length without room for a word.
    """
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    if pad is None:
        raise UserError("The tokeniser has neither a padding token nor an end token; set tokenizer.pad_token.")
    if length <= (special := tokenizer.num_special_tokens_to_add()):
        raise UserError(f"A length of {length} leaves no room beside the tokeniser's {special} special tokens.")
    texts = [spelled(text) for text in ([texts] if isinstance(texts, str) else texts)]
    ids = np.full((len(texts), length), pad, np.int32)
    mask = np.zeros(ids.shape, bool)
    for row, tokens in enumerate(tokenizer(texts, truncation=True, max_length=length)["input_ids"] if texts else []):
        ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, True
    return {"ids": ids, "mask": mask}

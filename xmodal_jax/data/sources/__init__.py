"""Sources of example dictionaries by name. `open_source` takes a config's `data` section."""

import inspect

from ml_collections import config_dict

from xmodal_jax.config import choose
from xmodal_jax.data.sources.captions import Captions
from xmodal_jax.data.sources.coco import CocoCaptions
from xmodal_jax.data.sources.columns import Parquet
from xmodal_jax.data.sources.emoji import Emoji
from xmodal_jax.data.sources.flickr import Flickr
from xmodal_jax.data.sources.hub import Hub
from xmodal_jax.data.sources.questions import EasyVQA, Questions
from xmodal_jax.data.sources.scenes import Scenes
from xmodal_jax.data.sources.tfds import TFDS
from xmodal_jax.data.sources.vqa import GQA, VQA2
from xmodal_jax.data.sources.webdataset import WebDataset

SOURCES = {
    "scenes": Scenes,
    "captions": Captions,
    "coco": CocoCaptions,
    "emoji": Emoji,
    "flickr": Flickr,
    "tfds": TFDS,
    "webdataset": WebDataset,
    "parquet": Parquet,
    "hub": Hub,
    "vqa2": VQA2,
    "gqa": GQA,
    "questions": Questions,
    "easy_vqa": EasyVQA,
}


def _parameters(name):
    """{setting: its parameter}: the keywords of a source's constructor, and of those that take what it passes on."""
    found = {}
    for kind in SOURCES[name].__mro__:
        own = inspect.signature(kind.__init__).parameters.values()
        for parameter in own:
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.name != "split":
                found.setdefault(parameter.name, parameter)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own):
            return found


def source_settings(name):
    """Names of the settings that a source's constructor takes."""
    return list(_parameters(name))


def required_settings(name):
    """Those of them without a default."""
    return [setting for setting, parameter in _parameters(name).items() if parameter.default is parameter.empty]


GIVEN = ("size", "fields", "file_bytes")  # settings that follow from the rest of a config


def source_defaults(name):
    """{setting: default} of the optional settings, as a config lists them, so that each can be overridden."""
    return {
        key: config_dict.placeholder(int if "int" in str(parameter.annotation) else str)
        if parameter.default is None
        else parameter.default
        for key, parameter in _parameters(name).items()
        if parameter.default is not parameter.empty and key not in GIVEN
    }


def data_section(args, **of_scenes):
    """config.data of a config's arguments data, path, images, name, lang. of_scenes: settings of the built-in scenes alone."""
    choose(SOURCES, args.data, "config argument data")
    data = source_defaults(args.data) | {"source": args.data} | (of_scenes if args.data == "scenes" else {})
    if args.path:
        data[{"coco": "annotations", "tfds": "data_dir"}.get(args.data, "path")] = args.path
    data |= {name: args[name] for name in ("images", "name", "lang") if args[name]}
    if "+" in args.lang:  # several languages
        data["lang"] = tuple(args.lang.split("+"))
    return config_dict.ConfigDict(data)

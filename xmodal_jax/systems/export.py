"""One tower of a trained run as a folder that PyTorch loads, with what prepares its inputs."""

import contextlib
import copy
import dataclasses
import os

from absl import logging
from PIL import Image

from xmodal_jax.config import choose
from xmodal_jax.data.captioning import CaptionMaker
from xmodal_jax.data.images import AS_PROCESSORS
from xmodal_jax.errors import UserError
from xmodal_jax.files import making
from xmodal_jax.interop import bert
from xmodal_jax.interop.pretrained import save_pretrained, settings_of
from xmodal_jax.interop.processing import parse
from xmodal_jax.models.stacks import together


def export(predictor, towers, name, folder):
    """Write the tower `name` ("image", "text" or "decoder") of a predictor's model into a new folder -> model_type.

    Raises UserError: no such tower, one that PyTorch has no counterpart to, or a folder that holds something.
    """
    if not towers:
        raise UserError(
            f"A {type(predictor.model).__name__} is made of blocks of its own, without a counterpart in PyTorch. What can be "
            "exported are the image, the text and the decoder of runs of configs/caption.py, search.py and vqa.py."
        )
    tower, params, maker = choose(towers, name, "tower"), together(predictor.params[name]), predictor.maker
    module, settings = tower.module, tower.settings
    if name == "text" and getattr(module, "pad_positions", None) is not None and not counts_by_ids(module, maker):
        logging.info("written as the BERT that it equals: a RoBERTa of transformers would take the first mark for padding")
        (module, params), settings = bert.positions_from_zero(module, params), None
    settings = settings or settings_of(module)
    config = copy.deepcopy(settings.config)
    config.architectures = None  # a checkpoint's heads were left out
    if name == "text":
        config.pad_token_id = maker.tokenizer.pad_token_id
    if name == "decoder":
        first, *_, last = marks_of(maker)
        config.bos_token_id, config.eos_token_id, config.pad_token_id = first, last, last
        config.is_decoder = True  # asked by transformers' EncoderDecoderModels
    with new_folder(folder) as part:
        save_pretrained(part, module, params, dataclasses.replace(settings, config=config))
        if name == "image":
            processor_of(predictor).to_folder(part)
        else:
            tokenizer_of(maker, marked=name == "text").save_pretrained(part)
    return config.model_type


@contextlib.contextmanager
def new_folder(folder):
    """A folder to be filled, which takes its name once it is whole; a UserError where one of that name holds something."""
    if os.path.exists(folder) and not (os.path.isdir(folder) and not os.listdir(folder)):
        raise UserError(f"{folder} holds something already: name a new folder.")
    with making(folder) as part:
        yield part


def counts_by_ids(module, maker):
    """Whether a RoBERTa finds the words that the mask shows by their ids: only padding has the padding's."""
    return module.pad_positions == maker.tokenizer.pad_token_id and module.pad_positions not in marks_of(maker)


def marks_of(maker):
    """Ids that stand around the words of a text: one before them at least."""
    if isinstance(maker, CaptionMaker):
        ids, last = maker.caption("")
        return ids[: last + 1].tolist()
    ids, length = maker.text("")
    return ids[:length].tolist()


def processor_of(built):
    """What makes the pixels that an image encoder was trained on. built: anything with the model and its maker."""
    size, exact = built.maker.config.image_size, AS_PROCESSORS.fullmatch(getattr(built.maker.config, "mode", "resize"))
    shape, resample, *larger = exact.groups() if exact else ("resize", "bicubic", None, None)
    edge = size * int(larger[0] or 1) // int(larger[1] or 1)
    values = {
        "size": {"shortest_edge": edge} if shape == "crop" else {"height": edge, "width": edge},
        "resample": Image.Resampling[resample.upper()], "image_mean": built.model.mean, "image_std": built.model.std,
        "do_center_crop": shape == "crop" or edge != size, "crop_size": size,
    }  # fmt: skip
    kind = "CLIP" if shape == "crop" else "ViT" if edge == size else "DeiT"
    return parse(kind, values, "config.model")


def tokenizer_of(maker, marked):
    """A copy of the run's tokeniser; `marked`: it puts the marks around a text that its maker puts there."""
    tokenizer = copy.deepcopy(maker.tokenizer)
    tokenizer.model_max_length = maker.config.length
    missing = len(marks_of(maker)) - len(tokenizer("")["input_ids"])
    if marked and missing:
        from tokenizers.processors import Sequence, TemplateProcessing

        ids = marks_of(maker)[:missing]  # the first one before the text; what it puts itself stands behind
        first, *rest = tokenizer.convert_ids_to_tokens(ids)
        marking = TemplateProcessing([first, "$A", *rest], special_tokens=list(zip([first, *rest], ids, strict=True)))
        backend = tokenizer.backend_tokenizer
        backend.post_processor = Sequence([backend.post_processor, marking]) if backend.post_processor else marking
    return tokenizer

"""One tower of a trained run as a folder that PyTorch loads, with what prepares its inputs."""

import copy
import dataclasses
import os

from absl import logging
from PIL import Image

from xmodal_jax.config import choose
from xmodal_jax.errors import UserError
from xmodal_jax.interop import bert
from xmodal_jax.interop.pretrained import save_pretrained, settings_of
from xmodal_jax.interop.processing import parse
from xmodal_jax.train.restore import restore, run_config


def export(workdir, name, folder, step=None):
    """Write the tower `name` ("image", "text" or "decoder") of a run, with its averaged parameters where it keeps some.

    Returns:
      (model_type, step of the checkpoint, names of the files in the folder).
    Raises:
      UserError: no run, no such tower, one that PyTorch has no counterpart to, or a folder that holds something.
    """
    if os.path.exists(folder) and not (os.path.isdir(folder) and not os.listdir(folder)):
        raise UserError(f"{folder} holds something already: name a new folder.")
    predictor, parts, step = restore(run_config(workdir), workdir, step)
    return write(predictor, parts.towers, name, folder), step, sorted(os.listdir(folder))


def write(predictor, towers, name, folder):
    """Write one of the towers of a predictor's model -> model_type."""
    if not towers:
        raise UserError(
            f"A {type(predictor.model).__name__} is made of blocks of its own, without a counterpart in PyTorch. What can be "
            "exported: image and decoder of a run of configs/caption.py, image and text of one of configs/vqa.py."
        )
    tower, params, maker = choose(towers, name, "tower"), predictor.params[name], predictor.maker
    module, settings = tower.module, tower.checkpoint and tower.checkpoint.settings
    if name == "text" and getattr(module, "pad_positions", None) is not None and not counts_by_ids(module, maker):
        logging.info("written as the BERT that it equals: a RoBERTa of transformers would take the first mark for padding")
        (module, params), settings = bert.positions_from_zero(module, params), None
    settings = settings or settings_of(module)
    config = copy.deepcopy(settings.config)
    config.architectures = None  # a checkpoint's heads were left out
    if name == "text":
        config.pad_token_id = maker.pad
    if name == "decoder":  # one mark begins, ends and pads
        config.bos_token_id = config.eos_token_id = config.pad_token_id = maker.end
        config.is_decoder = True  # asked by transformers' EncoderDecoderModels
    save_pretrained(folder, module, params, dataclasses.replace(settings, config=config))
    if name == "image":
        processor_of(predictor).to_folder(folder)
    else:
        tokenizer_of(maker).save_pretrained(folder)
    return config.model_type


def counts_by_ids(module, maker):
    """Whether a RoBERTa finds the words that the mask shows by their ids: only padding has the padding's."""
    ids, length = maker.text("")
    return maker.pad == module.pad_positions and maker.pad not in ids[:length]


def processor_of(predictor):
    """What makes the pixels that an image encoder was trained on."""
    values = {
        "size": predictor.maker.config.image_size, "resample": Image.Resampling.BICUBIC,
        "image_mean": predictor.model.mean, "image_std": predictor.model.std,
    }  # fmt: skip
    return parse("ViT", values, "config.model")


def tokenizer_of(maker):
    """A copy of the run's tokeniser that itself puts the mark in front of a text that its maker puts there."""
    tokenizer = copy.deepcopy(maker.tokenizer)
    tokenizer.model_max_length = maker.config.length
    if start := getattr(maker, "start", None):
        from tokenizers.processors import Sequence, TemplateProcessing

        (mark,) = tokenizer.convert_ids_to_tokens(start)
        marking = TemplateProcessing(single=f"{mark} $A", special_tokens=[(mark, *start)])
        backend = tokenizer.backend_tokenizer
        backend.post_processor = Sequence([backend.post_processor, marking]) if backend.post_processor else marking
    return tokenizer

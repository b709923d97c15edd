"""Texts of a system: the tokeniser that its config names, and a text tower that reads its ids."""

import json
import os

from xmodal_jax.data.tokenizers import MASK, learn_tokenizer
from xmodal_jax.errors import UserError
from xmodal_jax.interop.processing import load_tokenizer
from xmodal_jax.models.backbones.clip import LAST
from xmodal_jax.systems.towers import TEXT_ENCODERS, tower


def open_tokenizer(spec, texts, source, kept=None, masked=False):
    """The tokeniser that is kept in a folder, else the one that `spec` names, or learned from the texts(i) of the source.

    masked: it must have a mask token; one that is learned gets it.
    """
    if kept:
        return load_tokenizer(kept, fewest=0)
    if spec.partition(":")[0] in ("words", "bpe"):
        learned = learn_tokenizer(spec, [text for i in range(len(source)) for text in texts(i)])
        if masked:
            learned.add_special_tokens({"mask_token": MASK})
        return learned
    found = load_tokenizer(spec)
    if masked and found.mask_token_id is None:
        raise UserError(
            f"config.examples.tokenizer={spec!r} has no mask token, which masked words need: take BERT's, or 'words'."
        )
    return found


def write_list(folder, name, values):
    """Write a JSON file of a list."""
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        json.dump(values, file, ensure_ascii=False)


def read_list(folder, name):
    """Read it; a UserError for a file that is missing or broken."""
    path = os.path.join(folder, name)
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        if not isinstance(found, list):
            raise ValueError(f"a {type(found).__name__}")
        return found
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as a JSON list ({error}): it belongs to the run; restore it.") from error


def text_tower(settings, maker, dtype, places, kept=None, beside=None):
    """The text encoder of a model whose texts have `places` ids. kept, beside: as `tower`."""

    def positions(pad):  # RoBERTa's begin behind that of its pads
        return places if pad is None else places + pad + 1

    fixed = {"vocabulary": maker.vocabulary}
    if settings["name"] in ("bert", "roberta", "clip"):
        fixed["positions"] = positions(settings.get("pad_positions"))
    if settings["name"] == "clip":
        fixed["end"] = LAST  # a learned tokeniser's end mark begins a text too
    text = tower(settings, TEXT_ENCODERS, "text", dtype, kept, fixed, beside=beside)
    check_words(text, "text encoder", maker, positions(getattr(text.module, "pad_positions", None)))
    return text


def check_words(part, name, maker, places):
    """Raise a UserError where a tower from a checkpoint has fewer words or positions than the examples ask for."""
    words, positions = part.module.vocabulary, getattr(part.module, "positions", 0) or places  # 0: it counts none
    if words < maker.vocabulary or positions < places:
        raise UserError(
            f"The {name} has {words} words and {positions} positions; config.examples asks for {maker.vocabulary} and "
            f"{places}: give the tokenizer of its checkpoint, or a smaller length."
        )

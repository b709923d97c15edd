"""Texts of a system: the tokeniser that its config names, and a text tower that reads its ids."""

from xmodal_jax.data.tokenizers import learn_tokenizer
from xmodal_jax.errors import UserError
from xmodal_jax.interop.processing import load_tokenizer
from xmodal_jax.systems.towers import TEXT_ENCODERS, tower


def open_tokenizer(spec, texts, count):
    """The tokeniser that `spec` names, or one learned from the texts(i) of `count` training examples."""
    if spec.partition(":")[0] in ("words", "bpe"):
        return learn_tokenizer(spec, [text for i in range(count) for text in texts(i)])
    return load_tokenizer(spec)


def text_tower(settings, maker, dtype, places):
    """The text encoder of a model whose texts have `places` ids."""

    def positions(pad):  # RoBERTa's begin behind that of its pads
        return places if pad is None else places + pad + 1

    fixed = {"vocabulary": maker.vocabulary}
    if settings["name"] in ("bert", "roberta"):
        fixed["positions"] = positions(settings.get("pad_positions"))
    text = tower(settings, TEXT_ENCODERS, "config.model.text", dtype, fixed)
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

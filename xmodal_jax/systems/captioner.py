"""System 2: captioners and dual encoders."""

from xmodal_jax.config import build
from xmodal_jax.data.captioning import CaptionExamples, CaptionMaker
from xmodal_jax.decoding.captions import CaptionPredictor
from xmodal_jax.errors import UserError
from xmodal_jax.models.captioner import Captioner
from xmodal_jax.systems.base import System
from xmodal_jax.systems.texts import check_words, open_tokenizer, read_list, text_tower, write_list
from xmodal_jax.systems.towers import DECODERS, IMAGE_ENCODERS, image_tokens, tower

ALWAYS = 100  # a text that is so frequent that the tokeniser learns its words
CONTENT = "content.json"  # ids of the words that name a picture


def make_maker(config, examples, source=None, kept=None, open_scorer=None, kind=CaptionMaker, lines=()):
    """kind: `CaptionMaker`, or one that gives more. lines: further texts that are read in training."""
    del open_scorer  # of senses

    def phrases(i):
        return source.phrases(i) if examples.phrases and hasattr(source, "phrases") else []

    def texts(i):
        asked = source.questions(i) if getattr(examples, "asks", False) and hasattr(source, "questions") else ()
        more = [*getattr(examples, "words", ()) * ALWAYS, *lines] if i == 0 else ()
        return [*source.captions(i)[0], *phrases(i), *(question["question"] for question in asked), *more]

    if examples.phrases and source is not None and not any(phrases(i) for i in range(len(source))):
        raise UserError(
            "config.examples.phrases: this data has no phrases with boxes, of which objects are learned: the built-in scenes "
            "have, and lists whose pictures have objects with boxes (docs/data.md)."
        )

    tokenizer = open_tokenizer(examples.tokenizer, texts, source, kept, getattr(examples, "masks", False))
    if tokenizer.eos_token_id is None and tokenizer.sep_token_id is None:
        raise UserError(f"config.examples.tokenizer={examples.tokenizer!r} has no end token, which closes a caption.")
    content = read_list(kept, CONTENT) if kept else None if source is not None else ()
    return kind(examples, tokenizer, source, config.seed, content)


def keep(maker, folder):
    maker.tokenizer.save_pretrained(folder)
    write_list(folder, CONTENT, sorted(maker.content))


def make_model(config, maker, dtype, kept=None):
    settings = {name: value for name, value in config.model.items() if name != "name"}
    image = tower(settings.pop("image"), IMAGE_ENCODERS, "image", dtype, kept, image_size=maker.config.image_size)
    towers, places = {"image": image}, maker.config.length + 2
    decoder, text = settings.pop("decoder"), settings.pop("text", None)
    if decoder is not None:
        fixed = {"vocabulary": maker.vocabulary, "positions": places, "cross": True}
        towers["decoder"] = tower(decoder, DECODERS, "decoder", dtype, kept, fixed, {"add_cross_attention": True})
        check_words(towers["decoder"], "decoder", maker, places)
    elif config.objectives.get("captioning", {}).get("weight", 0.0):
        raise UserError("config.objectives.captioning needs a decoder, which a dual encoder lacks: set its weight to 0.")
    if text is not None:
        towers["text"] = text_tower(text, maker, dtype, places, kept)
    if config.objectives.get("naming", {}).get("weight", 0.0):
        settings["names"] = maker.vocabulary
    modules = {"decoder": None} | {name: part.module for name, part in towers.items()}
    return build(Captioner, {**settings, **modules, "dtype": dtype}, "model"), towers


def tokens(model, maker):
    """Image tokens that the encoder gives, and words, padding included."""
    return image_tokens(model, maker) + maker.config.length + 2


SYSTEM = System("Image captioning", CaptionExamples, make_maker, keep, make_model, tokens, CaptionPredictor)

"""System 4: visual question answering by pairs of uni-modal encoders."""

from xmodal_jax.config import build, choose
from xmodal_jax.data.answering import QuestionExamples, QuestionMaker
from xmodal_jax.data.examples import NAME_BUCKETS
from xmodal_jax.data.sources import SOURCES
from xmodal_jax.decoding.answers import QuestionPredictor
from xmodal_jax.errors import UserError
from xmodal_jax.models.backbones.spectrogram import Spectrogram
from xmodal_jax.models.fusion import FUSIONS
from xmodal_jax.models.vqa import VQA
from xmodal_jax.systems.base import System
from xmodal_jax.systems.texts import open_tokenizer, read_list, text_tower, write_list
from xmodal_jax.systems.towers import IMAGE_ENCODERS, image_tokens, tower

ANSWERS = "answers.json"  # that can be given, by number


def make_maker(config, examples, source=None, kept=None, open_scorer=None):
    del open_scorer  # of senses
    if source is not None and not hasattr(source, "questions"):
        known = ", ".join(name for name, kind in SOURCES.items() if hasattr(kind, "questions"))
        raise UserError(f"config.data.source={config.data.source!r} has no questions: take one of {known}.")

    def texts(i):
        captions = source.captions(i)[0] if examples.caption else ()
        return [*(question["question"] for question in source.questions(i)), *captions]

    tokenizer = open_tokenizer(examples.tokenizer, texts, source, kept)
    return QuestionMaker(examples, tokenizer, source, config.seed, kept and read_list(kept, ANSWERS))


def keep(maker, folder):
    maker.tokenizer.save_pretrained(folder)
    write_list(folder, ANSWERS, maker.answers)


def make_model(config, maker, dtype, kept=None):
    settings = {name: value for name, value in config.model.items() if name != "name"}
    image = tower(settings.pop("image"), IMAGE_ENCODERS, "image", dtype, kept, image_size=maker.config.image_size)
    text = text_tower(settings.pop("text"), maker, dtype, maker.config.length, kept)
    fusion = dict(settings.pop("fusion"))
    kind = choose(FUSIONS, fusion.pop("name"), "config.model.fusion.name")
    sound = settings.pop("sound", None)
    modules = {
        "image": image.module, "text": text.module, "fusion": build(kind, {**fusion, "dtype": dtype}, "model.fusion"),
        "sound": build(Spectrogram, {**sound, "dtype": dtype}, "model.sound") if maker.config.sound else None,
    }  # fmt: skip
    sizes = {"answers": len(maker.answers), "names": NAME_BUCKETS if maker.config.names else 0}
    module = build(VQA, {**settings, **modules, **sizes, "dtype": dtype}, "model")
    return module, {"image": image, "text": text}


def tokens(model, maker):
    """Tokens of picture, question and caption, padding included."""
    return image_tokens(model, maker) + maker.config.length * (1 + maker.config.caption)


SYSTEM = System("Visual question answering", QuestionExamples, make_maker, keep, make_model, tokens, QuestionPredictor)

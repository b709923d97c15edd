"""What the loop needs to know of each architecture: its examples, how it is built from a config, how a trained one is used."""

import dataclasses
from collections.abc import Callable

import jax
from absl import logging

from xmodal_jax.config import build, choose
from xmodal_jax.data import senses
from xmodal_jax.data.answering import QuestionExamples, QuestionMaker
from xmodal_jax.data.captioning import CaptionExamples, CaptionMaker
from xmodal_jax.data.examples import NAME_BUCKETS, ByteExamples, ExampleMaker
from xmodal_jax.data.sources import SOURCES
from xmodal_jax.data.third import SharedEntityTexts
from xmodal_jax.data.tokenizers import learn_tokenizer
from xmodal_jax.decoding.answers import QuestionPredictor
from xmodal_jax.decoding.captions import CaptionPredictor
from xmodal_jax.decoding.predictor import Predictor
from xmodal_jax.errors import UserError
from xmodal_jax.interop.processing import load_tokenizer
from xmodal_jax.models.backbones.spectrogram import Spectrogram
from xmodal_jax.models.captioner import Captioner
from xmodal_jax.models.crossmodal_bytes import CrossmodalBytes
from xmodal_jax.models.fusion import FUSIONS
from xmodal_jax.models.vqa import VQA
from xmodal_jax.train.towers import DECODERS, IMAGE_ENCODERS, TEXT_ENCODERS, tower


@dataclasses.dataclass(frozen=True)
class System:
    """One architecture.

    Attributes:
      title: of its reports; examples: the dataclass of config.examples.
      maker: (config, examples, training source) -> what makes batches of examples: a callable with `config`, `example_batch`.
      model: (config, maker, dtype) -> (module, {its field: `Tower`} of the towers that it was built from).
      tokens: (module, maker) -> vectors that a row is processed as.
      predictor: (module, params, maker) -> its verbs as plain functions of pictures and strings.
    """

    title: str
    examples: type
    maker: Callable
    model: Callable
    tokens: Callable
    predictor: Callable


def bytes_maker(config, examples, source):
    inventories = open_inventories(config.get("inventory", ""), source)
    others = SharedEntityTexts(source, inventories) if examples.third_from == "all" else None
    scorer = None
    if config.get("scorer"):
        from xmodal_jax.train.restore import frozen_scorer  # here: reading a run back makes a recipe itself

        scorer = frozen_scorer(config.scorer)
    return ExampleMaker(examples, config.seed, inventories, scorer, others)


def bytes_model(config, maker, dtype):
    settings = {name: value for name, value in config.model.items() if name != "name"}
    return build(CrossmodalBytes, {**settings, "dtype": dtype}, "model"), {}


def bytes_tokens(model, maker):
    """Text, target, and groups of second-modality bytes, padding included."""
    spec = maker.config
    return spec.text_length // model.text_window + spec.target_length + model.groups(spec.second_length)


def open_inventories(spec, source):
    """{language: Inventory}. `spec` maps languages to inventories (`en=wordnet;ko=FILE`); else the source's own.

    A source without its own: WordNet for English where it is installed, else the words that its captions repeat.
    """
    if spec:
        pairs = [part.partition("=") for part in str(spec).split(";")]
        if not all(equals for _, equals, _ in pairs):
            raise UserError(f"config.inventory={spec!r}: write LANGUAGE=INVENTORY, several joined by ';' (en=wordnet;ko=FILE).")
        return {lang: senses.open_inventory(place, lang) for lang, _, place in pairs}
    if hasattr(source, "inventory"):
        return {lang: source.inventory(lang) for lang in source.langs}
    try:
        if source.lang == "en":
            inventory = senses.WordNet()
            logging.info("entities and senses: the installed WordNet (config.inventory chooses another)")
            return {"en": inventory}
    except UserError:
        pass
    logging.info("entities: words that the captions repeat; no senses (config.inventory names a dictionary, e.g. en=wordnet)")
    return {source.lang: senses.corpus_inventory(source, source.lang)}


def caption_maker(config, examples, source):
    tokenizer = open_tokenizer(examples.tokenizer, lambda i: source.captions(i)[0], len(source))
    if tokenizer.eos_token_id is None and tokenizer.sep_token_id is None:
        raise UserError(f"config.examples.tokenizer={examples.tokenizer!r} has no end token, which closes a caption.")
    return CaptionMaker(examples, tokenizer, source, config.seed)


def open_tokenizer(spec, texts, count):
    """The tokeniser that `spec` names, or one learned from the texts(i) of `count` training examples."""
    if spec.partition(":")[0] in ("words", "bpe"):
        return learn_tokenizer(spec, [text for i in range(count) for text in texts(i)])
    return load_tokenizer(spec)


def captioner(config, maker, dtype):
    settings = {name: value for name, value in config.model.items() if name != "name"}
    image = tower(settings.pop("image"), IMAGE_ENCODERS, "config.model.image", dtype, image_size=maker.config.image_size)
    towers, places = {"image": image}, maker.config.length + 2
    decoder, text = settings.pop("decoder"), settings.pop("text", None)
    if decoder is not None:
        fixed = {"vocabulary": maker.vocabulary, "positions": places, "cross": True}
        towers["decoder"] = tower(decoder, DECODERS, "config.model.decoder", dtype, fixed, {"add_cross_attention": True})
        check_words(towers["decoder"], "decoder", maker, places)
    elif config.objectives.get("captioning", {}).get("weight", 0.0):
        raise UserError("config.objectives.captioning needs a decoder, which a dual encoder lacks: set its weight to 0.")
    if text is not None:
        towers["text"] = text_tower(text, maker, dtype, places)
    if config.objectives.get("naming", {}).get("weight", 0.0):
        settings["names"] = maker.vocabulary
    modules = {"decoder": None} | {name: part.module for name, part in towers.items()}
    return build(Captioner, {**settings, **modules, "dtype": dtype}, "model"), towers


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


def caption_tokens(model, maker):
    """Image tokens that the encoder gives, and words, padding included."""
    return image_tokens(model, maker) + maker.config.length + 2


def image_tokens(model, maker):
    """Tokens that the image encoder gives; nothing is computed."""
    image = maker.example_batch(1)["image"]

    def encode():
        return model.init_with_output(jax.random.PRNGKey(0), image, method="encode_image")[0].x

    return jax.eval_shape(encode).shape[1]


def question_maker(config, examples, source):
    if not hasattr(source, "questions"):
        known = ", ".join(name for name, kind in SOURCES.items() if hasattr(kind, "questions"))
        raise UserError(f"config.data.source={config.data.source!r} has no questions: take one of {known}.")

    def texts(i):
        captions = source.captions(i)[0] if examples.caption else ()
        return [*(question["question"] for question in source.questions(i)), *captions]

    return QuestionMaker(examples, open_tokenizer(examples.tokenizer, texts, len(source)), source, config.seed)


def vqa(config, maker, dtype):
    settings = {name: value for name, value in config.model.items() if name != "name"}
    image = tower(settings.pop("image"), IMAGE_ENCODERS, "config.model.image", dtype, image_size=maker.config.image_size)
    text = text_tower(settings.pop("text"), maker, dtype, maker.config.length)
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


def question_tokens(model, maker):
    """Tokens of picture, question and caption, padding included."""
    return image_tokens(model, maker) + maker.config.length * (1 + maker.config.caption)


SYSTEMS = {
    "crossmodal_bytes": System(
        "Crossmodal byte language model", ByteExamples, bytes_maker, bytes_model, bytes_tokens, Predictor
    ),
    "captioner": System("Image captioning", CaptionExamples, caption_maker, captioner, caption_tokens, CaptionPredictor),
    "vqa": System("Visual question answering", QuestionExamples, question_maker, vqa, question_tokens, QuestionPredictor),
}  # by config.model.name


def system_of(config) -> System:
    return choose(SYSTEMS, config.model.name, "config.model.name")

"""Objectives by name: pure functions (verbs, batch, key, config) -> (loss Sum, {metric: Sum})."""

import dataclasses
from collections.abc import Callable

import jax

from xmodal_jax.errors import UserError
from xmodal_jax.models.verbs import offered, offers
from xmodal_jax.objectives import (
    answers,
    attended,
    classes,
    codes,
    contrast,
    contrastive,
    match,
    match_hard,
    nearest,
    next_codes,
    next_words,
    ranking,
    regress,
    states,
    visual_tokens,
    words,
    written,
)
from xmodal_jax.objectives.adversarial import adversarial
from xmodal_jax.objectives.alignment import alignment
from xmodal_jax.objectives.answering import answering
from xmodal_jax.objectives.attention_guided import attention_guided
from xmodal_jax.objectives.attention_maps import attention_maps
from xmodal_jax.objectives.captioning import captioning
from xmodal_jax.objectives.chosen import Chosen
from xmodal_jax.objectives.distillation import distillation
from xmodal_jax.objectives.features import features
from xmodal_jax.objectives.grounding import grounding
from xmodal_jax.objectives.kl import kl
from xmodal_jax.objectives.language import answer_bytes, generation, masked_words
from xmodal_jax.objectives.naming import naming
from xmodal_jax.objectives.referring import boxes, referring
from xmodal_jax.objectives.siamese import siamese
from xmodal_jax.objectives.text_words import text_words


@dataclasses.dataclass(frozen=True)
class Objective:
    """A loss, the verbs it asks for, and the arrays of a batch that tell whether it can read the examples.

    One that compares rows with each other consists of two functions instead, so that it stays exact where a batch is
    computed in parts: represent (verbs, rows, config) -> tree of float arrays [rows, ...], and compare (verbs, that tree of
    the whole batch, config) -> (loss Sum, {metric: Sum}).

    heads: of the model, that it asks for. labels: (batch, config) -> the classes that its metric NAME_right counts, -1: none;
    what a guess without a model can be measured by; told_by: the side, "image" or "caption", that these are told
    from, "" where there is but one.
    choose: (what `represent` gives of the whole batch, key, config) -> {name: int32 [B]}, numbers of other rows; `loss` then
    takes a `Chosen` of them besides.
    remember: (config, shapes of what `represent` gives) -> a tree of arrays that `compare` finds as `verbs.recalled(name)` and
    leaves to the next step by `verbs.keep`; momentum: config -> patterns of the parameters that it wants a teacher of; writes:
    what it remembers -> {path: array}, parameters that follow from it and from no gradient. taught: whether it is nothing
    without a teacher of another shape (`systems.teaching`).
    """

    needs: tuple[str, ...]
    reads: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    labels: Callable | None = None
    loss: Callable | None = None
    represent: Callable | None = None
    compare: Callable | None = None
    choose: Callable | None = None
    remember: Callable | None = None
    momentum: Callable = lambda config: ()
    writes: Callable | None = None
    told_by: str = "image"
    taught: bool = False

    def __call__(self, verbs, batch, key, config):
        """(loss Sum, {metric: Sum}) of a whole batch."""
        if self.compare:
            return self.compare(verbs, self.represent(verbs, batch, config), config)
        if self.choose:
            rows = jax.lax.stop_gradient(self.represent(verbs, batch, config))
            return self.loss(verbs, batch, key, config, Chosen(self.choose(rows, key, config)))
        return self.loss(verbs, batch, key, config)


TAUGHT_BY = "teacher=DIR,objectives=words+attention_maps+states, or its row distill_vlm."
FUSED = ("encode_image", "encode_text", "fuse", "decode")
PAIR = ("encode_image", "encode_text", "fuse", "predict")
OBJECTIVES = {
    "masked_words": Objective(FUSED, ("task",), loss=masked_words),
    "generation": Objective(FUSED, ("task",), loss=generation),
    "answer_bytes": Objective(FUSED, ("task",), loss=answer_bytes),
    "words": Objective(PAIR, ("masked_words",), ("words",), words.labels, words.words, momentum=words.momentum),
    "next_words": Objective(PAIR, ("caption_length",), ("words",), next_words.labels, next_words.next_words),
    "text_words": Objective(
        ("encode_text", "predict"), ("masked_words",), ("text_words",), words.labels, text_words, told_by=""
    ),
    "codes": Objective(PAIR, ("codes",), ("codes",), codes.labels, codes.codes),
    "image_codes": Objective(("encode_image", "predict"), ("codes",), ("image_codes",), codes.labels, codes.image_codes),
    "next_codes": Objective(PAIR, ("codes",), ("codes",), next_codes.labels, next_codes.next_codes, told_by="caption"),
    "visual_tokens": Objective(PAIR, ("cell_place",), ("visual_tokens",), loss=visual_tokens.visual_tokens),
    "dictionary": Objective(
        ("encode_image",),
        ("cell_place",),
        represent=visual_tokens.represent,
        compare=visual_tokens.compare,
        remember=visual_tokens.remember,
        writes=visual_tokens.written,
    ),
    "attention_guided": Objective(PAIR, ("image",), ("image_teacher",), loss=attention_guided),
    "attention_maps": Objective(PAIR[:-1], ("image",), loss=attention_maps, taught=True),
    "states": Objective(
        PAIR,
        ("caption",),
        ("states",),
        represent=states.represent,
        compare=states.compare,
        remember=states.remember,
        taught=True,
    ),
    "text_regress": Objective(
        ("encode_text", "predict"),
        ("masked_words",),
        ("text_teacher",),
        loss=regress.text_regress,
        momentum=lambda config: regress.MOMENTUM["text"],
    ),
    "image_regress": Objective(
        ("encode_image", "predict"),
        ("codes",),
        ("image_teacher",),
        loss=regress.image_regress,
        momentum=lambda config: regress.MOMENTUM["image"],
    ),
    "siamese": Objective(("encode_image", "predict"), ("image_second",), ("projector", "predictor"), loss=siamese),
    "nearest": Objective(
        ("encode_image", "encode_text", "scale"),
        ("caption",),
        represent=nearest.represent,
        compare=nearest.compare,
        remember=nearest.remember,
    ),
    "adversarial": Objective(PAIR, ("match",), ("match",), match.labels, adversarial),
    "match": Objective(PAIR, ("match",), ("match",), match.labels, match.match),
    "match_hard": Objective(
        (*PAIR, "scale"),
        ("caption",),
        ("match",),
        match_hard.labels,
        match_hard.match_hard,
        represent=match_hard.represent,
        choose=match_hard.choose,
    ),
    "alignment": Objective(PAIR[:-1], ("match",), loss=alignment),
    "classes": Objective(PAIR, ("regions_target",), ("classes",), classes.labels, classes.classes),
    "attributes": Objective(PAIR, ("regions_target", "region_attribute"), ("attributes",), classes.like, classes.attributes),
    "detector": Objective(("encode_image", "predict"), ("regions_there",), ("detector",), classes.seen, classes.detector),
    "features": Objective(PAIR, ("regions_target",), ("features",), loss=features),
    "answers": Objective(PAIR, ("answer",), ("answers",), answers.labels, answers.answers),
    "written": Objective(FUSED, ("source", "target"), labels=written.labels, loss=written.written),
    "captioning": Objective(("encode_image", "decode"), ("caption_length",), loss=captioning),
    "answering": Objective(("encode_image", "encode_text", "fuse"), ("scores",), loss=answering),
    "distillation": Objective(("encode_image", "encode_text"), ("caption_length",), loss=distillation),
    "kl": Objective(("encode_image",), ("image",), loss=kl),
    "grounding": Objective(("encode_image", "encode_text", "fuse", "name_words"), ("text_names",), loss=grounding),
    "naming": Objective(("encode_image",), ("names",), loss=naming),
    "referring": Objective(("encode_image", "refer"), ("phrase",), loss=referring),
    "boxes": Objective(("encode_image", "refer"), ("phrase",), loss=boxes),
    "contrastive": Objective(
        ("encode_image", "encode_text", "scale"), ("caption",), represent=contrastive.represent, compare=contrastive.compare
    ),
    "contrast": Objective(
        ("encode_image", "encode_text", "scale"),
        ("caption",),
        represent=contrast.represent,
        compare=contrast.compare,
        remember=contrast.remember,
        momentum=lambda config: contrast.MOMENTUM,
    ),
    "attended": Objective(
        ("encode_image", "encode_text", "attend"), ("caption",), represent=attended.represent, compare=attended.compare
    ),
}


def check(model, objectives, batch=None):
    """Raise a UserError before training where an objective is unknown or asks for what the model or a batch does not offer."""
    for name, settings in objectives.items():
        if name not in OBJECTIVES:
            raise UserError(f"objectives.{name} is unknown: there are {', '.join(OBJECTIVES)}.")
        lacking = [verb for verb in OBJECTIVES[name].needs if not offers(model, verb)]
        if lacking:
            raise UserError(
                f"objectives.{name} needs {', '.join(lacking)}, but the model {type(model).__name__} offers only "
                f"{', '.join(offered(model))}."
            )
        if OBJECTIVES[name].taught and settings.get("weight", 1.0) and getattr(model, "teacher", None) is None:
            raise UserError(f"objectives.{name} needs a teacher, a trained run: configs/zoo.py:{TAUGHT_BY}")
        headless = set(OBJECTIVES[name].heads) - set(getattr(model, "predicts", ()))
        if headless and settings.get("weight", 1.0):  # heads that no active objective asks for are not built
            raise UserError(
                f"objectives.{name} needs the head {min(headless)}, but the model {type(model).__name__} has "
                f"{', '.join(getattr(model, 'predicts', ())) or 'none'}."
            )
        if OBJECTIVES[name].compare and not OBJECTIVES[name].remember:
            ranking.chosen(settings, f"objectives.{name}")
        missing = [key for key in OBJECTIVES[name].reads if batch is not None and key not in batch]
        if missing:
            raise UserError(f"objectives.{name} reads {', '.join(missing)}, which the examples of this model do not have.")
    if not any(settings.get("weight", 1.0) for settings in objectives.values()):
        raise UserError("No objective has a weight above 0: there is nothing to train.")

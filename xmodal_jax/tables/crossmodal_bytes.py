"""System 1: what third-modality text and dictionary senses add.

With `--config.data.folds=5 --seeds=5` (emoji) it is cross-validated: each seed holds out another fold.
"""

from xmodal_jax.tables.grid import Grid


def cells(config):
    shares = {"none": (0.0, 0.0), "third": (0.5, 0.0), "dictionary": (0.0, 0.5), "both": (0.5, 0.5)}
    asked = {"evaluators.masked.further": True} if "masked" in config.evaluators else {}
    return {cell: {"examples.third": third, "examples.gloss": gloss, **asked} for cell, (third, gloss) in shares.items()}


def columns(config):
    """Those of unseen drawings, of things in place and of single words where the evaluators have them."""
    evaluators, shown = config.evaluators, dict(COLUMNS)
    if "sense_unseen" in evaluators:
        shown["sense, unseen style"] = "sense_unseen/right_image"
    if "grounding" in evaluators:
        shown["own thing over the other"] = "grounding/own_over_other"
    for word in evaluators.sense.get("words", ()):
        for name in ("right_image", "no_image", "chance"):
            shown[f"{word}, {name.replace('_', ' ')}"] = f"sense_accuracy/{word}/{name}"
    return shown


COLUMNS = {
    "sense, right image": "sense_accuracy/right_image",
    "wrong image": "sense_accuracy/wrong_image",
    "no image": "sense_accuracy/no_image",
    "chance": "sense_accuracy/chance",
    "swapped follows": "sense_accuracy/swapped_follows",
    "masked word": "masked/right_image/word",
    "of a rare word": "masked/right_image/rare_word",
    "another image": "masked/wrong_image/word",
    "masked word, no image": "masked/no_image/word",
    "beside a third text": "masked/right_image/third/word",
    "of a rare word beside it": "masked/right_image/third/rare_word",
    "beside a gloss": "masked/right_image/gloss/word",
    "of a rare word beside that": "masked/right_image/gloss/rare_word",
    "beside a gloss, no image": "masked/no_image/gloss/word",
    "n-gram": "masked/baseline/ngram",
    "i2t R@1": "retrieval/i2t_r1",
    "answers": "generation/answer_accuracy",
}
GRID = Grid(
    title="Crossmodal byte language model: what third-modality text and dictionary senses add",
    config="configs/pretrain.py",
    cells=cells,
    columns=columns,
    note="Claims 5 (third) and 6-7 (dictionary) of US 12,393,789 B2, each switched off in turn.",
)

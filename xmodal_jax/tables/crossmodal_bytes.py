"""System 1: what third-modality text and dictionary senses add."""

from xmodal_jax.tables.grid import Grid


def cells(config):
    del config
    return {
        "none": {"examples.third": 0.0, "examples.gloss": 0.0},
        "third": {"examples.third": 0.5, "examples.gloss": 0.0},
        "dictionary": {"examples.third": 0.0, "examples.gloss": 0.5},
        "both": {"examples.third": 0.5, "examples.gloss": 0.5},
    }


GRID = Grid(
    title="Crossmodal byte language model: what third-modality text and dictionary senses add",
    config="configs/pretrain.py",
    cells=cells,
    columns={
        "sense, right image": "sense_accuracy/right_image",
        "wrong image": "sense_accuracy/wrong_image",
        "no image": "sense_accuracy/no_image",
        "swapped follows": "sense_accuracy/swapped_follows",
        "masked word": "masked/right_image/word",
        "masked word, no image": "masked/no_image/word",
        "i2t R@1": "retrieval/i2t_r1",
        "answers": "generation/answer_accuracy",
    },
    note="Claims 5 (third) and 6-7 (dictionary) of US 12,393,789 B2, each switched off in turn.",
)

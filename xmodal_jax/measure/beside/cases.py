"""What is timed on both sides: the same network, input and task, each as its own library's users run it."""

import dataclasses

import numpy as np

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
NO_DROPOUT_GPT2 = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
VIT_S = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}


@dataclasses.dataclass(frozen=True)
class Case:
    """A task on a network of transformers with random parameters.

    Attributes:
      task: "train" (a step of AdamW: encoders on the mean square of their states, GPT-2 on the next word), "forward", or
        "beam" (the best of 4 beams).
      family: model_type; settings: of its config, where they are not the defaults.
      rows: of a batch; length: words of a text; written: new words of a search.
      mark: largest ratio of our time to PyTorch's that is good.
    """

    task: str
    family: str
    settings: dict = dataclasses.field(default_factory=dict)
    rows: int = 1
    length: int = 0
    written: int = 0
    mark: float = 1.0

    def config(self):
        """The config of transformers."""
        from transformers import AutoConfig

        dropout = NO_DROPOUT_GPT2 if self.family == "gpt2" else NO_DROPOUT
        return AutoConfig.for_model(self.family, **dropout | self.settings)

    def inputs(self):
        """float32 [rows, H, W, 3] of a picture, int32 [rows, length] of a text; the same in every process."""
        config, draw = self.config(), np.random.default_rng(0)
        if self.family == "vit":
            return draw.normal(size=(self.rows, config.image_size, config.image_size, 3)).astype(np.float32)
        return draw.integers(1000, config.vocab_size, (self.rows, self.length), np.int32)


CASES = {
    "train-vit-s": Case("train", "vit", VIT_S, rows=8),
    "train-vit-b": Case("train", "vit", rows=4),
    "train-bert-base": Case("train", "bert", rows=8, length=128),
    "train-gpt2": Case("train", "gpt2", rows=4, length=128),
    "forward-vit-b": Case("forward", "vit"),
    "forward-bert-base": Case("forward", "bert", length=16),
    "beam-gpt2": Case("beam", "gpt2", length=4, written=20, mark=0.6),
}
BEAMS = 4
LEARNING_RATE, DECAY = 1e-3, 1e-4

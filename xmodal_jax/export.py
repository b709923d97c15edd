"""Write one tower of a trained run as a folder that PyTorch loads.

    python -m xmodal_jax.export --workdir=DIR --tower=image|text|decoder --to=FOLDER [--step=N]

Towers are what config.model names so: of a captioner image and decoder, of what searches or answers image and text. The folder
holds config.json and model.safetensors, and preprocessor_config.json or the tokeniser's files, which make its inputs as in the
run:

    encoder = transformers.AutoModel.from_pretrained(FOLDER)        # ViT, BEiT, ResNet, BERT, RoBERTa, DeBERTa
    decoder = transformers.GPT2LMHeadModel.from_pretrained(FOLDER)  # encoder_hidden_states=... is what it describes

VGG, LSTM and GRU, which transformers lacks, have the names of torchvision's VGG, of torch.nn.LSTM and GRU (docs/backbones.md).
Averaged parameters are taken where the run keeps them; low-rank adapters are merged.
"""

import os

from absl import flags

from xmodal_jax import cli
from xmodal_jax.errors import UserError

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
STEP = flags.DEFINE_integer("step", None, "Checkpoint to take; default: the newest.")
TOWER = flags.DEFINE_enum("tower", None, ["image", "text", "decoder"], "Which part of the model.")
TO = flags.DEFINE_string("to", None, "Folder to be written: a new one, or one that is empty.")


def main():
    from xmodal_jax.systems.export import export
    from xmodal_jax.systems.restore import open_run

    if not (WORKDIR.value and TOWER.value and TO.value):
        raise UserError("Give --workdir=DIR (a trained run), --tower=image, text or decoder, and --to=FOLDER (a new one).")
    predictor, built, step = open_run(WORKDIR.value, STEP.value)
    kind = export(predictor, built.towers, TOWER.value, TO.value)
    print(f"{TO.value}: the {TOWER.value} tower of step {step}, a {kind}: {', '.join(sorted(os.listdir(TO.value)))}")


if __name__ == "__main__":
    cli.run(main, __doc__)

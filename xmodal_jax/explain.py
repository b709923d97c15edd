"""Draw what an answer rests on: Grad-CAM and the weights of the pairs of words and places, over the picture.

    python -m xmodal_jax.explain --workdir=DIR --image=photo.jpg --question="what color are the dishes?"
    python -m xmodal_jax.explain --workdir=UME_DIR --beside=BASELINE_DIR --image=photo.jpg --question="..." [--truth=white]

Writes a PNG (--out, default: explanation.png in the workdir) and prints every run's likeliest answers. Runs are those of
configs/vqa.py; --beside takes several, with commas.
"""

import os

from absl import flags, logging

from xmodal_jax import cli
from xmodal_jax.errors import UserError

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run.")
BESIDE = flags.DEFINE_list("beside", [], "Folders of runs to be drawn below it, such as a baseline's.")
IMAGE = flags.DEFINE_string("image", None, "Picture file.")
QUESTION = flags.DEFINE_string("question", None, "A question about it.")
ANSWER = flags.DEFINE_string("answer", None, "Explain this answer. Default: the likeliest of each run.")
TRUTH = flags.DEFINE_string("truth", "", "The right answer, if it is known: it is written beside those given.")
LAYER = flags.DEFINE_integer("layer", None, "Layer of a transformer for Grad-CAM. Default: the last but one.")
OUT = flags.DEFINE_string("out", None, "File of the drawn picture, a PNG.")


def main():
    from xmodal_jax import api
    from xmodal_jax.draw.explanation import Panel, explanation, save
    from xmodal_jax.metrics.vqa import normalise_answer

    if not (WORKDIR.value and IMAGE.value and QUESTION.value):
        raise UserError("Give --workdir=DIR (a run of configs/vqa.py), --image=FILE and --question=TEXT.")
    panels, truth = [], normalise_answer(TRUTH.value)
    for folder in [WORKDIR.value, *BESIDE.value]:
        model = api.load(folder)
        if not hasattr(model, "grad_cam"):
            raise UserError(f"{folder}: its model answers no questions by Grad-CAM; give a run of configs/vqa.py.")
        picture = model.as_example(IMAGE.value)
        found = model.answers([picture], [QUESTION.value])[0]
        print(f"{folder}\t" + ", ".join(f"{answer} {share:.3f}" for answer, share in found), flush=True)
        wanted = normalise_answer(ANSWER.value or "")  # as the answers of the vocabulary are
        answer, share = found[0] if ANSWER.value is None else (wanted, dict(found).get(wanted))
        looked = model.grad_cam(picture, QUESTION.value, answer, LAYER.value)
        title = f"{type(model.model.fusion).__name__}, {os.path.basename(os.path.normpath(folder))}"
        panels.append(Panel(title, answer, share, looked, model.pairs(picture, QUESTION.value, marks=False), truth))
    path = OUT.value or os.path.join(WORKDIR.value, "explanation.png")
    save(path, explanation(picture, QUESTION.value, panels))
    logging.info("explanation: %s", os.path.abspath(path))


if __name__ == "__main__":
    cli.run(main, __doc__)

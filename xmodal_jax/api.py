"""The Python door: training runs, and trained ones.

from xmodal_jax.api import load, train
train(load_config("configs/pretrain.py", "debug"), "runs/my-run")  # load_config of xmodal_jax.config
model = load("runs/my-run")
model.generate("photo.jpg")
model.generate("photo.jpg", "what color is the car?")
model.fill("photo.jpg", "a child is holding a ___")
model.pick_sense("photo.jpg", "a child is holding a bat", "bat")
pieces, weights = model.associate("photo.jpg", "a child is holding a bat")

Captioners write (`model.write`), and answerers of questions explain themselves:

model.answers(["photo.jpg"], ["what color is the car?"])  # [[(answer, probability), ...]]
model.grad_cam("photo.jpg", "what color is the car?")  # [h, w]
words, weights = model.pairs("photo.jpg", "what color is the car?")  # [words, h, w]
"""

from xmodal_jax.systems import recipe
from xmodal_jax.systems.restore import frozen_scorer, restore
from xmodal_jax.train import loop
from xmodal_jax.train.workdir import run_config


def train(config, workdir):
    """Train a config, or go on with the run in `workdir`; returns its last evaluation, a flat dictionary, or None where SIGTERM
    stopped it. Raises UserError for a config that cannot run, and for the folder of another one.
    """
    return loop.train(recipe.make(config, open_scorer=frozen_scorer), workdir)


def load(workdir, step=None):
    """A `Predictor`, `CaptionPredictor` or `QuestionPredictor`, by the run's system, with the parameters of its newest (or the
    given) checkpoint, the averaged ones where there are some.

    Raises UserError where the folder holds no run or no readable checkpoint.
    """
    return restore(run_config(workdir), workdir, step)[0]

"""The Python door: training runs, and trained ones.

from xmodal_jax.api import load, train
train(load_config("configs/pretrain.py", "debug"), "runs/my-run")  # load_config of xmodal_jax.config
model = load("runs/my-run")
print(model)  # what it is, and what it can do
model.caption("photo.jpg")
model.answer("photo.jpg", "what color is the car?")
model.fill("photo.jpg", "a child is holding a ___")
model.similarity(["a.jpg", "b.jpg"], ["a dog", "a red car"])  # [2, 2]
model.classify("photo.jpg", ["beach", "forest"])  # [(label, probability), ...]
model.save_pretrained("my-model")  # load("my-model") opens it anywhere

Beside these, crossmodal byte models associate and tell senses apart (`associate`, `pick_sense`), answerers of questions explain
themselves (`answers`, `grad_cam`, `pairs`), captioners show where they look (`look`). Folders of photos are searched by
`xmodal_jax.finding.Finder`.
"""

from xmodal_jax.files import at_home
from xmodal_jax.systems import restore, training


def train(config, workdir, strict=False):
    """Train a config, or go on with the run in `workdir`; returns its last evaluation, a flat dictionary, or None where SIGTERM
    or Ctrl-C stopped it. Raises UserError for a config that cannot run, for the folder of another one or one in use, and, with
    `strict`, where the training data are not those that the run began with.
    """
    return training.train(config, at_home(workdir), strict=strict)


def load(place, step=None):
    """What a trained model does: a `decoding.predictor.Predictor` with the verbs of its system.

    place: the folder of a run (its newest checkpoint, or that of `step`; averaged parameters where it keeps some;
    "runs/latest": the run in runs/ that was started last), or a whole
    model: a folder that `save_pretrained` wrote, a whole CLIP, or its name on the hub. Neither data nor optimiser are needed.
    Raises UserError where there is no such thing, or no readable checkpoint.
    """
    return restore.load(place, step)

"""The folder of a run: its config.json says what was trained there."""

import contextlib
import errno
import json
import os

from ml_collections import ConfigDict

from xmodal_jax import config as configuration
from xmodal_jax.errors import UserError
from xmodal_jax.files import replace_text, tidy
from xmodal_jax.train import peers
from xmodal_jax.train.lock import locked

ADDED = {  # settings that runs from before they existed do not list, at the value that means what was done then
    "init": "", "residual_init": 1.0,
    "examples.features": "", "examples.mode": "resize", "data.styles": ["flat"], "data.attributes": False,
    "data.allow_outside": False, "data.val_fraction": 0.05, "data.limits": None, "data.folds": 0, "data.fold": 0,
    "examples.beside": [], "examples.answer_gap": False, "examples.caption_gaps": 0, "examples.question_length": 56,
    "examples.answer_length": 16, "examples.attributes": "masked", "examples.mask_end": False, "examples.texts": "",
    "examples.pictures": "", "examples.region_replaced": 0.0, "model.image": None, "model.interaction.blocks": "bert",
    "model.interaction.class_token": False, "model.image.waves": 64, "model.image.normed": False,
    "objectives.dictionary.commitment": 0.25, "objectives.alignment.steps": 50,
    "objectives.match_hard.hardness": 1.0,
    "model.coverage": False, "model.pointer": False, "model.attributes": False, "model.registers": 0,
    "model.text_residual": False, "objectives.text_regress.layers": 1, "objectives.image_regress.layers": 1,
}  # fmt: skip
GONE = {("model", "association_rounds"): 1}  # settings that are no more, with the value that means what is done without them
MAY_CHANGE = ("log_every", "eval_", "checkpoint_every", "keep_checkpoints", "loader.", "mesh.", "evaluators.")
WANTED = "Give a folder that can be written to: a new one is made."


@contextlib.contextmanager
def claimed(config, workdir):
    """Within, the folder is this run's alone: config.json is in it, no other process writes there.

    Raises UserError for the folder of a run of another config, for one in use, and where nothing can be written.
    """
    if "://" in workdir:
        raise UserError(f"--workdir={workdir}: plain files are written there. Mount the bucket (gcsfuse) and give its folder.")
    check_workdir(config, workdir)
    peers.first_says("making the folder", lambda: made(workdir))
    with locked(workdir):
        peers.first_says("tidying the folder", lambda: tidy(workdir))
        peers.first_says("writing config.json", lambda: write_config(config, workdir))
        yield


def made(workdir):
    """Make the folder, and see that files can be written into it."""
    try:
        os.makedirs(workdir, exist_ok=True)
        if not os.access(workdir, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "nothing can be written there")
    except OSError as error:
        raise UserError(f"--workdir={workdir} cannot be used: {error.strerror}. {WANTED}") from None


def write_config(config, workdir):
    """Say in a folder what was trained there."""
    replace_text(os.path.join(workdir, "config.json"), configuration.to_json(config) + "\n")


def check_workdir(config, workdir):
    """Refuse the folder of a run with another config; settings that do not change what is learned may differ."""
    if os.path.exists(workdir) and not os.path.isdir(workdir):
        raise UserError(f"--workdir={workdir} is a file. {WANTED}")
    found = written_config(workdir)
    if found is None:
        return
    differing = differences(configuration.flat(found), settings(config))
    if differing:
        raise UserError(
            f"The folder {workdir} holds a run of another config ({'; '.join(differing)}). Give a new --workdir, or the "
            "same config to go on with that run."
        )


def settings(config):
    """{key: value} of a config's settings that what is learned depends on, as JSON holds them."""
    found = configuration.flat(json.loads(configuration.to_json(config)))
    return {key: value for key, value in found.items() if not key.startswith(MAY_CHANGE)}


def differences(old, new):
    """What differs between two configs, for people: flat, as `settings`; one may be from before some settings existed."""
    old, new = ADDED | old, ADDED | new
    return [
        f"{key}: {old.get(key, 'absent')} there, {new.get(key, 'absent')} now"
        for key in sorted(set(old) | set(new))
        if old.get(key) != new.get(key) and not key.startswith(MAY_CHANGE)
    ]


def written_config(workdir):
    """The config.json of a run's folder, a dictionary; None where there is none. Raises UserError for one that is broken."""
    path = os.path.join(workdir, "config.json")
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        found = error
    if not isinstance(found, dict) or not found:
        what = "it is empty" if not os.path.getsize(path) else str(found)[:200] if found else "it holds no settings"
        raise UserError(
            f"{path} is not what a run writes there ({what}). Put it back from a copy; or, if you know the config of this run, "
            "move the file elsewhere, and the run's own command writes it anew."
        )
    for (section, name), value in GONE.items():
        there = found.get(section)
        if isinstance(there, dict) and there.get(name) == value:
            del there[name]
    return found


def run_config(workdir):
    """The config that a run was started with."""
    found = written_config(workdir)
    if found is None:
        raise UserError(f"{workdir} holds no run: there is no config.json. Train first, or give the run's --workdir.")
    if not {"model", "data"} <= found.keys():
        raise UserError(f"{workdir}/config.json is not that of a run: it has no model or no data.")
    return ConfigDict(found)

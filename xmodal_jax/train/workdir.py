"""The folder of a run: its config.json says what was trained there."""

import json
import os

import jax
from ml_collections import ConfigDict

from xmodal_jax import config as configuration
from xmodal_jax.errors import UserError
from xmodal_jax.files import replace_text

ADDED = {"init": "", "examples.features": ""}  # settings that runs from before they existed do not list
GONE = {"model.association_rounds": 1}  # settings that are no more, with the value that means what is done without them
MAY_CHANGE = ("log_every", "eval_", "checkpoint_every", "keep_checkpoints", "loader.", "mesh.", "evaluators.")


def claim_workdir(config, workdir):
    """Write config.json into a new folder, or check that the folder's run has this config."""
    if "://" in workdir:
        raise UserError(f"--workdir={workdir}: plain files are written there. Mount the bucket (gcsfuse) and give its folder.")
    check_workdir(config, workdir)
    os.makedirs(workdir, exist_ok=True)
    if jax.process_index() == 0:
        replace_text(os.path.join(workdir, "config.json"), configuration.to_json(config) + "\n")


def check_workdir(config, workdir):
    """Refuse the folder of a run with another config; settings that do not change what is learned may differ."""
    path = os.path.join(workdir, "config.json")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            found = configuration.flat(json.load(file))
        old = ADDED | {key: value for key, value in found.items() if GONE.get(key) != value}
        new = ADDED | configuration.flat(json.loads(configuration.to_json(config)))
        differing = [
            f"{key}: {old.get(key, 'absent')} there, {new.get(key, 'absent')} now"
            for key in sorted(set(old) | set(new))
            if old.get(key) != new.get(key) and not key.startswith(MAY_CHANGE)
        ]
        if differing:
            raise UserError(
                f"The folder {workdir} holds a run of another config ({'; '.join(differing)}). Give a new --workdir, or the "
                "same config to go on with that run."
            )


def run_config(workdir):
    """The config that a run was started with."""
    path = os.path.join(workdir, "config.json")
    if not os.path.exists(path):
        raise UserError(f"{workdir} holds no run: there is no config.json. Train first, or give the run's --workdir.")
    with open(path, encoding="utf-8") as file:
        config = ConfigDict(json.load(file))
    for key, value in GONE.items():
        section, name = key.split(".")
        if config.get(section, {}).get(name) == value:
            del config[section][name]
    return config

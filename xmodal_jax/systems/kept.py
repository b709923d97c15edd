"""What a run keeps of its model beside the arrays: tokeniser, answers, inventories, configs of its towers' checkpoints.

Written once, when a run starts, so that its data, its dictionaries and the checkpoints that it started from are not needed to
use it, and what is corrected in them later changes nothing of it.
"""

import os

import jax

from xmodal_jax.compress import materialise
from xmodal_jax.files import making
from xmodal_jax.interop.pretrained import save_settings

FOLDER = "model"


def kept_of(workdir):
    """The folder of what a run has kept, or None."""
    folder = os.path.join(workdir, FOLDER)
    return folder if os.path.isdir(folder) else None


def keep(built, workdir):
    """Write what a run keeps, whole or not at all; a run that has kept it is left as it is."""
    if kept_of(workdir) or jax.process_index():
        return
    with making(os.path.join(workdir, FOLDER)) as part:
        write(built, part)


def write(built, folder):
    """Write the same into any folder."""
    built.system.keep(built.maker, folder)
    if built.materialised is not None:
        materialise.save(os.path.join(folder, materialise.FILE), built.materialised)
    for name, tower in built.towers.items():
        if tower.settings is not None:
            save_settings(os.path.join(folder, name), tower.settings)

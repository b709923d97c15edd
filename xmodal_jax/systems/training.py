"""Training a config from its start to its end, its teacher first where it has one."""

from absl import logging

from xmodal_jax.systems import kept, recipe, teaching
from xmodal_jax.systems.restore import frozen_scorer
from xmodal_jax.train import loop
from xmodal_jax.train.workdir import check_workdir


def train(config, workdir, split="val", is_stopped=None, strict=False):
    """As `loop.train`: the last evaluation, on a split, or None where it was stopped."""
    if teaching.is_taught(config) and not config.teacher.init and kept.kept_of(workdir) is None:
        check_workdir(config, workdir)
        recipe.make(config)  # its mistakes are told before the teacher is trained
        folder = teaching.folder_of(config, workdir)
        logging.info("the teacher is trained first, in %s", folder)
        if train(config.teacher.run, folder, split, is_stopped, strict) is None:
            return None
    return loop.train(recipe.make(config, workdir, split, frozen_scorer), workdir, is_stopped, strict)

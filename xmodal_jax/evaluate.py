"""Evaluate a checkpoint: `python -m xmodal_jax.evaluate --workdir=DIR [--config=FILE] [--split=val|test] [--step=N]`.

Without --config the run's own is used. What it finds is written beside the run's own results, into
DIR/evaluations/SPLIT-stepN/: results.json (with split, step and number of examples), samples.jsonl, report.html.
--submission=FILE, of a run of configs/vqa.py, instead answers every question of the split and writes the JSON that the VQA
evaluation servers take.
"""

import json
import os

from absl import flags
from ml_collections import config_flags

from xmodal_jax import cli
from xmodal_jax.errors import UserError

CONFIG = config_flags.DEFINE_config_file("config", None, "Config file; default: the run's own config.", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
SPLIT = flags.DEFINE_enum("split", "val", ["val", "test"], "Held-out split to evaluate on.")
STEP = flags.DEFINE_integer("step", None, "Checkpoint to take; default: the newest.")
SUBMISSION = flags.DEFINE_string("submission", None, "File for the answers to all questions of the split.")


def main():
    from xmodal_jax import evaluators
    from xmodal_jax.decoding.answers import QuestionPredictor, submission
    from xmodal_jax.files import replace_text
    from xmodal_jax.systems import recipe, restore
    from xmodal_jax.train import loop, report
    from xmodal_jax.train.workdir import run_config

    if WORKDIR.value is None or not os.path.isdir(WORKDIR.value):
        raise UserError(f"--workdir={WORKDIR.value}: give the folder of a run (it holds config.json and checkpoints/).")
    config = CONFIG.value if CONFIG.value is not None else run_config(WORKDIR.value)
    parts = recipe.make(config, WORKDIR.value, SPLIT.value, restore.frozen_scorer)
    parts.keep(WORKDIR.value)  # of a run from before runs kept their model
    params, step = restore.parameters(parts, WORKDIR.value, STEP.value)
    if SUBMISSION.value:
        predictor = parts.predictor(params)
        if not isinstance(predictor, QuestionPredictor):
            raise UserError(f"--submission: {WORKDIR.value} is no run of configs/vqa.py.")
        replace_text(SUBMISSION.value, json.dumps(submission(predictor, parts.held_out)) + "\n")
        return
    results, samples = loop.evaluate(evaluators.make(parts), params, step)
    about = {"split": SPLIT.value, "step": step, "examples": len(parts.held_out)}
    facts = {"evaluated": f"step {step}, {SPLIT.value} split, {len(parts.held_out)} examples"}
    folder = os.path.join(WORKDIR.value, "evaluations", f"{SPLIT.value}-step{step}")
    report.finish(parts, WORKDIR.value, results, samples, facts, folder=folder, about=about)


if __name__ == "__main__":
    cli.run(main, __doc__)

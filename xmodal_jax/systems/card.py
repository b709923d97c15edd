"""The README.md of a whole model: what it is, how it is opened, what it can do, what was measured."""

import jax

from xmodal_jax.decoding.predictor import VERBS

TASKS = {"caption": "image-to-text", "answer": "visual-question-answering", "similarity": "zero-shot-image-classification"}
MOST = 40  # figures shown


def model_card(built, predictor, params, step, results):
    """Markdown with the front matter that the hub reads. results: {metric: value} of its last evaluation, or {}."""
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    task = next((task for verb, task in TASKS.items() if verb in predictor.verbs), None)
    front = ["library_name: xmodal_jax", *[f"pipeline_tag: {task}"] * bool(task), "tags: [jax, flax, vision-language]"]
    verbs = [f"model.{verb}{VERBS[verb]}" for verb in VERBS if verb in predictor.verbs]
    objectives = [name for name, settings in built.config.objectives.items() if settings.get("weight", 1.0)]
    figures = [f"| {name} | {value:.4g} |" for name, value in sorted(results.items())][:MOST]
    table = ["", "## Measured on held-out examples", "", "| metric | value |", "| --- | --- |", *figures] if figures else []
    return "\n".join([
        "---", *front, "---", "", f"# {built.system.title}", "",
        f"{count:,} parameters, step {step}; trained with xmodal_jax for: {', '.join(objectives)}.", "",
        "```python", "from xmodal_jax.api import load", "", 'model = load("THIS_FOLDER_OR_NAME")',
        *(f"# {verb}" for verb in verbs), "```", *table, "",
    ])  # fmt: skip

"""What the models of a table are made of and how large they are, without training one."""

import jax

from xmodal_jax.models.flops import count_flops
from xmodal_jax.objectives import OBJECTIVES
from xmodal_jax.systems import recipe
from xmodal_jax.train.gradient import evaluate_objectives

HEADER = ("", "text", "image", "they meet in", "objectives", "parameters, M", "GFLOP a pair")


def markdown(configs, of_models):
    """The table of {row: config} as Markdown. of_models: {header: {row: text}}, further columns."""
    rows = [(*HEADER, *of_models), ("---",) * (len(HEADER) + len(of_models))]
    rows += [(*row_of(name, config), *(texts[name] for texts in of_models.values())) for name, config in configs.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def row_of(name, config):
    """A row: its parts; the parameters; floating-point operations of the forward pass of all objectives for one example."""
    config.data.count = 16  # the examples' shapes alone matter
    names = active(config)
    if "teacher" in config:  # whose size is its own row's
        del config["teacher"]
        for one in names:
            config.objectives[one].weight *= not OBJECTIVES[one].taught
    parts = recipe.make(config)
    batch, key = parts.example_batch(1), jax.random.PRNGKey(0)
    params = jax.eval_shape(lambda: parts.model.init(key, batch))["params"]

    def forward(params, batch):
        return evaluate_objectives(parts.model, parts.objectives, params, batch, key, train=False)

    count = sum(leaf.size for leaf in jax.tree.leaves(params)) / 1e6
    flops = count_flops(forward, params, batch) / 1e9
    return name, *described(config.model), ", ".join(names), f"{count:.1f}", f"{flops:.3g}"


def active(config):
    return [name for name, own in config.objectives.items() if own.get("weight", 1.0)]


def described(model):
    """(text, image, how they meet) of a section config.model."""
    text = layered(model.text)
    image = f"{model.image.name} on {model.image.grid.name}" if "grid" in model.image else layered(model.image)
    meet = layered(model.interaction) if model.get("interaction") else "their vectors"
    return text, image, meet + (f", then {layered(model.decoder)}" if model.get("decoder") else "")


def layered(section):
    """A part's name and its layers."""
    more = [section[name] for name in ("layers", "after") if section.get(name)]
    return f"{section.name} {' + '.join(map(str, more))}".strip()

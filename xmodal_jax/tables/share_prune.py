"""System 3: a dual encoder of which a part of the weights is kept: by the hypernetwork, by its parts, by baselines."""

import numpy as np

from xmodal_jax.draw.figures import INK, MUTED, new_figure, to_svg
from xmodal_jax.systems.compression import further_steps
from xmodal_jax.tables.grid import Grid, of_known

METRIC = "retrieval/mean_recall"
SHARES = (0.6, 0.8, 0.5)  # the first one with all seeds
METHODS = {  # arguments of configs/compress.py
    "hypernetwork": ("hypernetwork", "method=hypernetwork"),
    "direct": ("m and s learned directly", "method=direct"),
    "pruning": ("hypernetwork, pruning only", "method=hypernetwork,share=false"),
    "sharing": ("hypernetwork, sharing only", "method=hypernetwork,prune=false"),
    "magnitude": ("uniform magnitude pruning", "method=magnitude"),
    "random": ("a random structure", "method=random"),
    "layers": ("whole layers shared by hand", "method=layers"),
}
SMALL = "a small dense model, trained for all steps"
BLOCKS = 2  # of text layers that share with their first, where sharing across modalities alone does not reach p
FLOOR = 0.55  # what all sharing across modalities leaves, nearly


def percent(p):
    return round(100 * p)


def cells_of(config):
    """The full model, the same with as many steps more, every method for every p, a small dense model for every p."""
    cells = {"full": {}, "full-more": {"file": "configs/compress.py", "arguments": "method=full", "start": "full"}}
    for p in SHARES:
        for method, (_, arguments) in METHODS.items():
            blocks = f",blocks={BLOCKS}" if p < FLOOR else ""
            given = f"keep={p},{arguments}{blocks}"
            cells[f"{method}-{percent(p)}"] = {"file": "configs/compress.py", "arguments": given, "start": "full"}
        cells[f"small-{percent(p)}"] = small(config, p)
    return cells


def small(config, p):
    """Changes that make both encoders so small that p of the weights of their blocks are left, trained for all steps."""
    changes = {"total_steps": config.total_steps + further_steps(config.total_steps)}
    for name in ("image", "text"):
        tower = config.model[name]
        weights = (4 + 2 * tower.mlp_ratio) * tower.width**2  # of a block: q, k, v, the output, the MLP
        width = int(np.sqrt(p) * tower.width) // tower.heads * tower.heads
        changes |= {f"model.{name}.width": width, f"model.{name}.mlp_ratio": (p * weights / width**2 - 4) / 2}
    return changes


def tables_of(cells):
    whole = {"the full model": "full", "the full model, as many steps more": "full-more"}
    tables = {}
    for p in sorted(SHARES, reverse=True):
        rows = {label: f"{method}-{percent(p)}" for method, (label, _) in METHODS.items()}
        tables[f"{percent(p)} % of the weights kept"] = whole | rows | {SMALL: f"small-{percent(p)}"}
    return of_known(tables, cells)


def drawings_of(values):
    """Mean recall against the share of the weights, a line a method."""
    figure = new_figure(7, 3.6)
    axes, drawn = figure.subplots(), False
    for method, (label, _) in (METHODS | {"small": (SMALL, "")}).items():
        points = []
        for p in sorted(SHARES):
            found = values.get(f"{method}-{percent(p)}", {})
            if METRIC in found:
                points.append((np.mean(found.get("compress/kept", [p])), np.mean(found[METRIC])))
        if points:
            drawn = True
            line = {"linewidth": 2.2, "color": INK} if method == "hypernetwork" else {"linewidth": 1.0}
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label, **line)
    if not drawn:
        return ()
    if METRIC in values.get("full-more", {}):
        axes.axhline(np.mean(values["full-more"][METRIC]), color=MUTED, linestyle="--", linewidth=1, label="the full model")
    axes.set_xlabel("share of the weights kept", fontsize=8, color=MUTED)
    axes.set_title("mean recall, percent", fontsize=9, color=INK, loc="left")
    axes.tick_params(colors=MUTED, labelsize=7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=7, labelcolor=INK)
    return (to_svg(figure),)


GRID = Grid(
    title="Sharing and pruning the weights of a dual encoder",
    config="configs/search.py",
    cells=cells_of,
    columns={
        "mean recall": METRIC,
        "equal sentences count": f"{METRIC}_equal",
        "kept, %": "compress/kept",
        "file": "compress/file_ratio",
        "picture, time": "compress/latency_ratio/image",
        "text, time": "compress/latency_ratio/text",
    },
    note="Mean of the six recalls (@1, 5, 10, both ways) on the test split, in percent; then with equal sentences of other "
    "pictures as hits. Kept: of the weights of self-attention and MLPs. File and times: of the compressed model, divided by "
    "the full one's, batch 1. In brackets 95 % intervals of differences paired by seed.",
    split="test",
    tables=tables_of,
    plain=("mean recall", "equal sentences count", "file", "picture, time", "text, time"),
    against=("full-more", METRIC),
    once=tuple(f"{method}-{percent(p)}" for p in SHARES[1:] for method in (*METHODS, "small")),
    drawings=drawings_of,
)

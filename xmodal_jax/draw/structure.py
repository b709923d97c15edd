"""Pictures of what became of the weights of two transformers: which vectors of which layer are kept, shared, pruned."""

import numpy as np

from xmodal_jax.draw.curves import series
from xmodal_jax.draw.figures import ACCENT, INK, MUTED, RULE, WARM, new_figure, to_svg

GROUPS = {"qk": "queries and keys", "v": "values", "ff": "hidden units"}
KINDS = {"kept": ACCENT, "shared across modalities": WARM, "shared across layers": MUTED, "pruned": RULE}


def shares(structure, group):
    """{tower: {kind: float [L]}}: of each layer's vectors of a group, by what became of them; they add up to 1.

    structure: {tower: {"m" | "s": {group: [L, n] of 0 and 1}}}, constrained.
    """
    found = {}
    for tower, kinds in structure.items():
        own = np.asarray(kinds["s"][group])
        kept = own * np.asarray(kinds["m"].get(group, np.ones_like(own)))
        other = "shared across modalities" if tower == "vision" else "shared across layers"
        parts = dict.fromkeys(KINDS, np.zeros(len(own))) | {"kept": kept.mean(1), other: 1 - own.mean(1)}
        found[tower] = parts | {"pruned": 1 - parts["kept"] - parts[other]}
    return found


def draw_structure(pair, structure):
    """SVG: a row of bars for each layer, a panel for each kind of matrix."""
    layers = pair.text.layers + pair.vision.layers
    figure = new_figure(9, 0.9 + 0.24 * layers)
    for axes, (group, title) in zip(figure.subplots(1, len(GROUPS), sharey=True), GROUPS.items(), strict=True):
        found = shares(structure, group)
        names = [f"{tower} {layer + 1}" for tower in found for layer in range(len(found[tower]["kept"]))]
        start = np.zeros(layers)
        for kind, colour in KINDS.items():
            values = np.concatenate([found[tower][kind] for tower in found])
            axes.barh(np.arange(layers), values, left=start, color=colour, height=0.8, label=kind)
            start = start + values
        axes.set_title(title, fontsize=9, color=INK, loc="left")
        axes.set_yticks(np.arange(layers), names, fontsize=7)
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.5, 1], ["0", "50", "100 %"], fontsize=7)
        axes.tick_params(length=0, colors=MUTED)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.invert_yaxis() if axes is figure.axes[0] else None
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(KINDS), frameon=False, fontsize=8, labelcolor=INK)
    return to_svg(figure)


def draw_size(metrics, wanted):
    """SVG: the share of the weights that stays over the steps that learn the structure, beside p; None where there are none.

    metrics: lines of metrics.jsonl.
    """
    steps, values = series(metrics).get("train/kept", ((), ()))
    if not len(steps):
        return None
    figure = new_figure(6, 2.2)
    axes = figure.subplots()
    axes.plot(steps, values, color=ACCENT, linewidth=1.5, marker=".", markersize=4)
    axes.axhline(wanted, color=WARM, linewidth=1, linestyle="--")
    place = {"xycoords": ("axes fraction", "data"), "va": "bottom", "ha": "right"}
    axes.annotate(f"p = {wanted:g}", (1, wanted), fontsize=8, color=WARM, **place)
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("step", fontsize=8, color=MUTED)
    axes.set_title("share of the weights that stays, P", fontsize=9, color=INK, loc="left")
    axes.tick_params(colors=MUTED, labelsize=7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return to_svg(figure)

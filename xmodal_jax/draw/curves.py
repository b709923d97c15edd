"""Curves of a run and bars of an ablation, as SVG (or PNG) text."""

import base64
import io
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib import ticker
from PIL import Image

from xmodal_jax.draw import figures
from xmodal_jax.draw.figures import ACCENT, INK, MUTED, RULE, WARM

_NOT_CURVES = {"step", "epoch", "time", "elapsed_s", "wall_s", "timestamp", "seconds"}
_MOST_POINTS = 500  # of a raw curve; more cannot be seen at a panel's size
_LOG_FALL, _SCHEDULE_FALL = 10.0, 1e5


def series(metrics: Iterable[Mapping]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Rows of metrics.jsonl -> {key: (steps [n], values [n])}, both float64, in the order of steps.

    Values that are not finite numbers are left out; where a resumed run repeats a step, its later row holds. A row
    without a step counts as one step after the row before.
    """
    found: dict[str, dict[float, float]] = {}
    step = -1.0
    for row in metrics:
        step = number(row.get("step")) if number(row.get("step")) is not None else step + 1
        for key, value in row.items():
            value = number(value)
            if key not in _NOT_CURVES and value is not None:
                found.setdefault(str(key), {})[step] = value
    out = {}
    for key, points in found.items():
        steps = np.array(sorted(points))
        out[key] = steps, np.array([points[s] for s in steps])
    return out


def number(value) -> float | None:
    """A finite float, or None for all else (None, text, NaN, infinity, truth values, arrays)."""
    if isinstance(value, bool | str | bytes) or value is None:
        return None
    try:
        value = float(value)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Centred mean over `window` values, [n] -> [n]; near the ends over fewer, so that neither end lags or is lost."""
    half, last = max(1, window // 2), len(values) - 1
    total = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    reach = np.minimum(half, np.maximum(np.minimum(at, last - at), half // 4))
    start, end = np.maximum(at - reach, 0), np.minimum(at + reach, last)
    return (total[end + 1] - total[start]) / (end + 1 - start)


def is_noisy(values: np.ndarray, mean: np.ndarray) -> bool:
    """Whether a curve travels much further than its running mean: a schedule needs no second line."""
    return bool(np.abs(np.diff(values)).sum() > 1.5 * np.abs(np.diff(mean)).sum())


def wants_log(values: np.ndarray) -> bool:
    """Whether a logarithmic axis helps: a positive quantity that has fallen by an order of magnitude, but not to all but 0, as
    learning rates do."""
    if len(values) < 3 or values.min() <= 0:
        return False
    tail = np.median(values[-max(1, len(values) // 10) :])
    return bool(values[0] / tail >= _LOG_FALL and values.max() / values.min() < _SCHEDULE_FALL)


def panels(metrics: Iterable[Mapping]) -> list[tuple[str, dict[str, tuple[np.ndarray, np.ndarray]]]]:
    """[(title, {"train" or "eval" or "": (steps, values)})]: what is measured in training and in evaluation shares a
    panel. Losses first, then the rest of training, evaluation, and last the machine's figures. A single point is no curve.
    """
    grouped: dict[str, dict] = {}
    for key, points in series(metrics).items():
        if len(points[0]) < 2:
            continue
        prefix, _, rest = key.partition("/")
        if rest and prefix in ("train", "eval", "val"):
            grouped.setdefault(rest, {})["train" if prefix == "train" else "eval"] = points
        else:
            grouped.setdefault(key, {})[""] = points

    def rank(title):
        kinds = grouped[title]
        return (title != "loss", "train" not in kinds, "eval" not in kinds)

    return [(title, grouped[title]) for title in sorted(grouped, key=rank)]


def panel_svg(title: str, kinds: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """One panel as SVG text that follows the page's colours."""
    figure = figures.new_figure(3.4, 2.1)
    _draw_panel(figure.subplots(), title, kinds)
    return figures.to_svg(figure)


def training_curves(metrics: list[Mapping], format: str = "svg", *, columns: int = 3, limit: int = 30) -> str:
    """One figure of small panels, a panel a quantity: raw values faint, their running mean strong.

    Args:
      metrics: rows of metrics.jsonl: `step` and any numbers; text and values that are not finite are passed over.
      format: "svg" (markup) or "png" (a data URI).
      limit: the number of panels.

    Returns:
      The figure, or "" if there is nothing to draw.
    """
    if format not in ("svg", "png"):
        raise ValueError(f'format must be "svg" or "png", not {format!r}.')
    drawn = panels(metrics)[:limit]
    if not drawn:
        return ""
    columns = min(columns, len(drawn))
    rows = -(-len(drawn) // columns)
    figure = figures.new_figure(3.4 * columns, 2.1 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(drawn) :]:
        axis.set_axis_off()
    for axis, (title, kinds) in zip(axes, drawn, strict=False):
        _draw_panel(axis, title, kinds)
    return figures.to_svg(figure) if format == "svg" else png_uri(figures.to_pixels(figures.plain(figure)))


def bars(rows: Sequence[tuple], *, unit: str = "%") -> str:
    """Horizontal bars as SVG text; "" without rows.

    Args:
      rows: (label, value, chance), the last optional; fractions in 0..1 when the unit is "%". Chance is a mark on the
        bar's own line. None and NaN are written as missing.
    """
    rows = [(*row, None)[:3] if len(row) < 3 else tuple(row[:3]) for row in rows]
    if not rows:
        return ""
    scale = 100.0 if unit == "%" else 1.0
    values = [None if number(v) is None else number(v) * scale for _, v, _ in rows]
    top = 100.0 if unit == "%" else max([v for v in values if v is not None] + [1e-12])
    figure = figures.new_figure(5.6, 0.34 * len(rows) + 0.45)
    axis = figure.subplots()
    for y, ((_, _, chance), value) in enumerate(zip(rows, values, strict=True)):
        axis.barh(y, top, height=0.5, color=RULE, alpha=0.45, linewidth=0)
        if value is None:
            axis.text(top * 0.015, y, "not measured", va="center", fontsize=8.5, color=MUTED)
        else:
            axis.barh(y, value, height=0.5, color=ACCENT, linewidth=0)
            text = f"{value:.1f} {unit}".strip()
            axis.text(top * 1.02, y, text, va="center", ha="left", fontsize=9, color=INK)
        if number(chance) is not None:
            at = number(chance) * scale
            axis.plot([at, at], [y - 0.38, y + 0.38], color=WARM, linewidth=1.6, solid_capstyle="butt")
    axis.set_yticks(range(len(rows)), [visible(label) for label, _, _ in rows], fontsize=9, color=INK)
    for label in axis.get_yticklabels():
        label.set_parse_math(False)
    axis.set_xlim(0, top * 1.16)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xticks([0, top / 2, top])
    _quiet(axis, left=False)
    return figures.to_svg(figure)


def log_lines(panels: Sequence[tuple]) -> str:
    """Panels side by side in logarithmic axes with one legend, as SVG text.

    panels: (title, name of x, {label: [(x, y), ...]}), the same labels in each; the first three stand out.
    """
    figure = figures.new_figure(2.8 * len(panels), 2.8)
    styles = [(ACCENT, "-", "o"), (WARM, "--", "s"), (INK, "-", "D"), *((MUTED, line, "") for line in ("-", "--", "-.", ":"))]
    for axis, (title, name, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for (label, points), (colour, line, marker) in zip(lines.items(), itertools.cycle(styles)):
            shown = {"label": visible(label), "marker": marker, "markersize": 3, "linewidth": 1.3}
            axis.plot(*zip(*points, strict=True), color=colour, linestyle=line, **shown)
        axis.set(xscale="log", yscale="log")
        axis.set_title(visible(title), loc="left", fontsize=9.5, color=INK, parse_math=False)
        axis.set_xlabel(visible(name), fontsize=8.5, color=MUTED)
        axis.set_xticks(sorted({x for points in lines.values() for x, _ in points}))
        axis.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        axis.xaxis.set_minor_locator(ticker.NullLocator())
        axis.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
        axis.yaxis.set_minor_formatter(ticker.NullFormatter())
        _quiet(axis)
    handles, labels = axis.get_legend_handles_labels()
    shown = {"fontsize": 8.5, "labelcolor": INK, "frameon": False, "handlelength": 3}
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), **shown)
    return figures.to_svg(figure)


def png_uri(pixels: np.ndarray) -> str:
    """uint8 [H, W, 3] -> "data:image/png;base64,..."."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def visible(text) -> str:
    """Text with its control characters made visible: a model of bytes may well generate them."""
    return "".join(chr(0x2400 + ord(c)) if ord(c) < 32 and c not in "\n\t" else c for c in str(text))


def _draw_panel(axis, title, kinds):
    every = np.concatenate([values for _, values in kinds.values()])
    if every.min() > 0 and any(wants_log(values) for _, values in kinds.values()):
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5), numticks=7))
        axis.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
        axis.yaxis.set_minor_formatter(ticker.NullFormatter())
        title = f"{title} (log)"
    for kind, (steps, values) in kinds.items():
        if kind == "eval" or len(values) < 20:
            colour = WARM if kind == "eval" and len(kinds) > 1 else ACCENT
            label = {"linewidth": 1.3, "marker": "o", "markersize": 2.6 if len(values) < 40 else 0}
            axis.plot(steps, values, color=colour, **label)
        else:
            mean = smooth(values, max(3, len(values) // 15))
            noisy = is_noisy(values, mean)
            if noisy:
                axis.plot(*_thinned(steps, values), color=ACCENT, alpha=0.28, linewidth=0.7)
            axis.plot(*_thinned(steps, mean if noisy else values), color=ACCENT, linewidth=1.5)
        if len(kinds) > 1:
            y = 0.97 if kind == "train" else 0.86
            colour = WARM if kind == "eval" else ACCENT
            axis.text(0.98, y, kind, transform=axis.transAxes, ha="right", va="top", fontsize=8, color=colour)
    if every.min() == every.max():  # a constant: say its value, not the noise around it
        axis.set_ylim(every[0] - max(abs(every[0]), 1e-3), every[0] + max(abs(every[0]), 1e-3))
    elif set(kinds) == {"eval"} and every.min() >= 0 and 0.2 < every.max() <= 1:
        axis.set_ylim(0, 1.03)  # a share: on its whole scale noise looks like noise
    axis.set_title(visible(title), loc="left", fontsize=9.5, color=INK, parse_math=False)
    axis.locator_params(axis="x", nbins=4)
    axis.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if abs(x) >= 1000 else f"{x:g}")
    _quiet(axis)


def _quiet(axis, left: bool = True):
    for side, spine in axis.spines.items():
        spine.set_visible(side == "bottom" or (side == "left" and left))
        spine.set_color(RULE)
    axis.tick_params(which="both", color=RULE, labelsize=8, length=3 if left else 0)
    axis.tick_params(axis="x", labelcolor=MUTED)
    if left:
        axis.tick_params(axis="y", which="both", labelcolor=MUTED)
        axis.grid(axis="y", color=RULE, linewidth=0.5, alpha=0.6)
    axis.set_axisbelow(True)


def _thinned(steps, values):
    """At most _MOST_POINTS points; of every bin the lowest and the highest, in order, so that spikes survive."""
    if len(steps) <= _MOST_POINTS:
        return steps, values
    keep = set()
    for part in np.array_split(np.arange(len(steps)), _MOST_POINTS // 2):
        keep |= {int(part[values[part].argmin()]), int(part[values[part].argmax()])}
    keep = sorted(keep | {0, len(steps) - 1})
    return steps[keep], values[keep]

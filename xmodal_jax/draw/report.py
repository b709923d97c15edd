"""The report of a run: one HTML file that needs nothing else, to be kept, mailed or printed."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from xmodal_jax.draw import curves
from xmodal_jax.draw.blocks import SAMPLE_KINDS, Bar, Candidate, Condition, Figure, Sample, Table
from xmodal_jax.draw.curves import number, visible
from xmodal_jax.draw.pictures import sample_view, truth
from xmodal_jax.draw.style import CSS
from xmodal_jax.draw.template import HTML
from xmodal_jax.files import replace_text

__all__ = ["Bar", "Candidate", "Condition", "Figure", "Sample", "Table", "render_report", "write_report"]

_TITLES = {
    "sense": "Ambiguous words",
    "masked_word": "Masked words",
    "caption": "Captions",
    "answer": "Questions and answers",
    "retrieval": "Retrieval",
}
_CONDITIONS = ("right image", "wrong image", "no image", "swapped image")  # in the order of the bars
_MEANING = {
    "right image": "right sense, given the picture that belongs to the sentence",
    "wrong image": "right sense, given a picture that shows none of the senses",
    "no image": "right sense, given the sentence alone",
    "swapped image": "the other sense, given a picture of that other sense",
}
_FACT_WORDS = ("param", "compile", "per_s", "examples_s", "device", "mfu", "flops", "seconds", "steps")


def write_report(path: str | os.PathLike, **contents) -> None:
    """Writes `render_report(**contents)` to `path`."""
    replace_text(path, render_report(**contents))


def render_report(
    *,
    title: str,
    summary: Sequence[Figure | tuple] = (),
    results: Mapping[str, float] | None = None,
    metrics: Sequence[Mapping[str, Any]] = (),
    config: Any = None,
    samples: Sequence[Sample] = (),
    tables: Sequence[Table] = (),
    notes: Sequence[str] = (),
    drawings: Sequence[str] = (),
    ablation: Sequence[Bar] | Mapping[str, Sequence[Bar]] | None = None,
    facts: Mapping[str, Any] | None = None,
    most_panels: int = 30,
    most_samples: int = 12,
) -> str:
    """The report as HTML text.

    Args:
      summary: headline figures, `Figure` or (label, value, explanation[, target[, met]]).
      results: every final number; shown in full, collapsed.
      metrics: rows of metrics.jsonl (`step`, `train/...`, `eval/...`, `examples_per_s`).
      config: a dictionary, or anything with `to_dict()`; shown collapsed.
      samples: grouped by kind; what went wrong comes first and gets as much room as what went right.
      notes: paragraphs under the title; drawings: SVG texts under these.
      ablation: bars of right / wrong / no / swapped image, or {title: bars}. None: taken from `results`, whose keys
        end in `right_image`, `wrong_image`, `no_image`, `swapped_image` and `chance` under a common prefix.
      facts: parameters, compile time, examples/s, device, ... None: the numbers of `results` that look like these.
      most_panels, most_samples: how much is shown: panels; samples of each kind and outcome.

    Raises:
      ValueError: a sample of an unknown kind.
    """
    results = dict(results or {})
    ablations = _ablations(ablation, results)
    groups = _groups(samples, most_samples)
    drawn = curves.panels(metrics)
    facts = facts if facts is not None else {k: v for k, v in results.items() if any(w in k for w in _FACT_WORDS)}
    sections = [("figures", "Figures")] if summary else []
    sections += [("ablation", "Image ablation")] if ablations else []
    sections += [("tables", "Comparisons")] if tables else []
    sections += [("curves", "Training"), *((g["id"], g["title"]) for g in groups), ("run", "The run")]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters.update(value=_value, fraction=_fraction, visible=visible)
    return environment.from_string(HTML).render(
        title=visible(title),
        css=Markup(CSS),
        notes=[visible(n) for n in notes],
        drawings=[Markup(drawing) for drawing in drawings],
        sections=sections,
        cards=[_card(f) for f in summary],
        ablations=ablations,
        tables=[{"title": visible(t.title), "note": visible(t.note), **_table(t.headers, t.rows, t.best)} for t in tables],
        panels=[Markup(curves.panel_svg(name, kinds)) for name, kinds in drawn[:most_panels]],
        more_panels=max(0, len(drawn) - most_panels),
        groups=groups,
        facts=list(facts.items()),
        results=_table(("metric", "value"), sorted(results.items())) if results else None,
        config=_config(config),
    )


def _card(figure) -> dict:
    figure = figure if isinstance(figure, Figure) else Figure(*figure)
    card = {k: visible(getattr(figure, k)) for k in ("label", "explanation", "target")}
    return {**card, "value": figure.value, "met": truth(figure.met)}


def _ablations(ablation, results) -> list[dict]:
    if ablation is None:
        ablation = _ablation_of(results)
    named = ablation if isinstance(ablation, Mapping) else {"": ablation}
    out = []
    for title, bars in named.items():
        if not bars:
            continue
        svg = curves.bars([(b.label, b.value, b.chance) for b in bars])
        columns = {
            "given": [b.label for b in bars],
            "correct": [_fraction(b.value) for b in bars],
            "chance": [_fraction(b.chance) for b in bars],
            "target": [b.target for b in bars],
            "what is counted": [b.meaning for b in bars],
        }
        columns = {header: cells for header, cells in columns.items() if any(cells)}
        table = _table(list(columns), zip(*columns.values(), strict=True))
        out.append({"title": title, "svg": Markup(svg), "table": table})
    return out


def _ablation_of(results) -> dict[str, list[Bar]]:
    found: dict[str, dict[str, float]] = {}
    for key, value in results.items():
        match = re.fullmatch(r"(.*?)[/_.]?(right_image|wrong_image|no_image|swapped_image|chance)", key)
        if match:
            found.setdefault(match[1], {})[match[2].replace("_", " ")] = value
    return {
        prefix: [Bar(c, of[c], of.get("chance"), _MEANING[c]) for c in _CONDITIONS if c in of]
        for prefix, of in found.items()
        if "right image" in of
    }


def _groups(samples, most) -> list[dict]:
    for sample in samples:
        if sample.kind not in SAMPLE_KINDS:
            raise ValueError(f"a sample's kind must be one of {', '.join(SAMPLE_KINDS)}, not {sample.kind!r}.")
    groups = []
    for kind in SAMPLE_KINDS:
        of = [s for s in samples if s.kind == kind]
        if not of:
            continue
        sides = {"wrong": False, "right": True, "other": None}
        sides = {name: [s for s in of if truth(s.correct) is outcome] for name, outcome in sides.items()}
        counts = []
        for name, side in sides.items():
            if side:
                word = f" {name}" if name != "other" else ""
                counts.append(f"{min(len(side), most)} of {len(side)}{word}")
        views = {name: [sample_view(s) for s in side[:most]] for name, side in sides.items()}
        groups.append({"id": kind, "title": _TITLES[kind], "counts": f"Shown: {', '.join(counts)}.", **views})
    return groups


def _table(headers, rows, best=None) -> dict:
    """{"headers", "numeric", "rows"} for the template; `numeric` says which columns stand flush right."""
    rows = [list(row) for row in rows]
    wide = max([len(headers), *(len(row) for row in rows)])
    rows = [row + [None] * (wide - len(row)) for row in rows]
    numeric, marks = [], []
    for at in range(wide):
        column = [row[at] for row in rows]
        text = [c for c in column if isinstance(c, str) and not re.fullmatch(r"[-+.\d\s%,±eE()\u2013]+", c)]
        numeric.append(bool(column) and not text and any(c is not None for c in column))
        known = [number(c) for c in column if number(c) is not None]
        how = (best or {}).get(at)
        marks.append({"max": max, "min": min}[how](known) if how and known else None)
    cells = [
        [{"text": _value(c), "best": m is not None and number(c) == m} for c, m in zip(row, marks, strict=True)] for row in rows
    ]
    headers = [visible(h) for h in headers] + [""] * (wide - len(headers))
    return {"headers": headers, "numeric": numeric, "rows": cells}


def _value(value) -> str:
    """Any value as the page shows it: four digits, thousands apart, a dash for what is missing."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return visible(value)
    if value is None:
        return "\N{EN DASH}"
    if (known := number(value)) is None:
        return "\N{EN DASH}" if isinstance(value, float) else visible(value)
    if known == int(known) and abs(known) < 1e15:
        return f"{int(known):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return f"{known:.4g}"


def _fraction(value) -> str:
    value = number(value)
    return "\N{EN DASH}" if value is None else f"{100 * value:.1f} %"


def _config(config) -> str:
    if hasattr(config, "to_dict"):
        config = config.to_dict()
    return visible(json.dumps(config or {}, indent=2, ensure_ascii=False, default=str, skipkeys=True))

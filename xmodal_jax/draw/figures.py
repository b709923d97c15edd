"""matplotlib without global state: figures are objects, drawn to pixels or to SVG that follows the page's colours."""

import functools
import io
import re
import warnings

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Drawn with these, then replaced in the SVG's text by CSS variables, so that a figure in a page turns dark with it.
INK, MUTED, RULE, ACCENT, WARM = "#010203", "#010204", "#010205", "#010206", "#010207"
_CSS = {
    INK: "var(--ink, #1c1e21)",
    MUTED: "var(--muted, #6b7076)",
    RULE: "var(--rule, #d9d6cf)",
    ACCENT: "var(--accent, #1f5f8b)",
    WARM: "var(--warm, #b4532a)",
}
_PLAIN = {key: re.search(r"#\w+", value)[0] for key, value in _CSS.items()}
_WANTED = (
    "Noto Sans CJK KR", "Noto Sans CJK JP", "Noto Sans CJK SC", "NanumGothic", "Malgun Gothic", "Apple SD Gothic Neo",
    "PingFang SC", "Microsoft YaHei", "Noto Sans Arabic", "Noto Sans",
)  # fmt: skip


@functools.cache
def fonts() -> list[str]:
    """Installed families that between them cover most scripts, in the order of fallback."""
    installed = set(font_manager.fontManager.get_font_names())
    return ["DejaVu Sans", *(name for name in _WANTED if name in installed)]


def new_figure(width: float, height: float) -> Figure:
    """A figure of width x height inches that belongs to no window and no global list."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plain(figure: Figure) -> Figure:
    """Replaces the placeholder colours by the light theme's, for output other than SVG in a page."""
    for artist in figure.findobj():
        for name in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
            getter, setter = getattr(artist, f"get_{name}", None), getattr(artist, f"set_{name}", None)
            if getter is None or setter is None:
                continue
            try:
                value = matplotlib.colors.to_hex(getter())
            except (ValueError, TypeError):
                continue
            if value in _PLAIN:
                setter(_PLAIN[value])
    return figure


def to_pixels(figure: Figure, dpi: int = 110) -> np.ndarray:
    """uint8 [H, W, 3] on white."""
    figure.set_dpi(dpi)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a hollow box says it well enough
        figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def to_svg(figure: Figure) -> str:
    """`<svg ...>...</svg>` that scales with its container, with real text and the page's colours and fonts."""
    out = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "figure"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    for placeholder, css in _CSS.items():
        svg = svg.replace(placeholder, css)
    svg = re.sub(r"(font: [^;\"]*?[\d.]+px) [^;\"]*", r"\1 var(--sans, sans-serif)", svg)
    return re.sub(r'<svg ([^>]*?)height="[^"]*"([^>]*?) width="[^"]*"', r'<svg role="img" \1\2', svg, count=1)

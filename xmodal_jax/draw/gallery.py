"""A page of photos found, best first, each with its score: one HTML file that needs nothing else."""

import os

import jinja2

from xmodal_jax.draw.curves import visible
from xmodal_jax.draw.pictures import picture
from xmodal_jax.draw.style import CSS
from xmodal_jax.files import replace_text

HTML = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title><style>{{ css }}
.found { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(15rem, 100%), 1fr)); gap: 1.4rem; }
.found figure { margin: 0; } .found img { width: 100%; height: auto; display: block; }
.found figcaption { overflow-wrap: anywhere; padding-top: .3rem; } .found strong { color: var(--ink); }
</style></head><body>
<header class="top"><h1 dir="auto">{{ title }}</h1><p class="lead">{{ about }}</p></header>
<main><div class="found">
{% for photo in photos %}<figure>{% if photo.uri %}<img src="{{ photo.uri }}" alt="{{ photo.label }}">\
{% else %}<div class="none">not drawn: {{ photo.error }}</div>{% endif %}
<figcaption><strong>{{ loop.index }}. {{ "%.3f"|format(photo.score) }}</strong> <bdi>{{ photo.label }}</bdi></figcaption>
</figure>
{% endfor %}</div></main></body></html>
"""


def write_gallery(path, title, found):
    """Write the page; found: [(name, score, function -> uint8 [H, W, 3])]. A photo that cannot be drawn is said so."""
    photos = [{**picture(name, draw), "score": score} for name, score, draw in found]
    about = f"{len(photos)} photos, best first, with the cosine of photo and query." if photos else "No photo is close enough."
    page = jinja2.Environment(autoescape=True).from_string(HTML)
    replace_text(os.fspath(path), page.render(title=visible(title), about=about, css=jinja2.filters.Markup(CSS), photos=photos))

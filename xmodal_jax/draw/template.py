"""The report's markup (jinja2, autoescaped). It lives in a module so that an installed package cannot be without it."""

HTML = """\
{%- macro image(p) -%}
{% if p.uri %}<img src="{{ p.uri }}" alt="{{ p.label }}">{% else %}<div class="none">not drawn: {{ p.error }}</div>
{% endif %}
{%- endmacro -%}

{%- macro bar(row) %}
<div class="bar"><bdi class="name{% if row.expected %} expected{% endif %}" dir="auto">{{ row.sense }}</bdi>
<div class="track">{% if row.width is not none %}<div class="fill{% if row.chosen %} chosen{% endif %}" \
style="width:{{ row.width }}%"></div>{% endif %}</div><span class="amount">{{ row.value|fraction }}</span></div>
{%- endmacro -%}

{%- macro verdict(correct) -%}
{% if correct is true %}<p class="verdict met">Right</p>{% elif correct is false %}\
<p class="verdict missed">Wrong</p>{% endif %}
{%- endmacro -%}

{%- macro table(t) %}
<div class="scroll"><table><thead><tr>{% for h in t.headers %}<th{% if t.numeric[loop.index0] %} class="number"\
{% endif %} dir="auto">{{ h }}</th>{% endfor %}</tr></thead><tbody>
{% for row in t.rows %}<tr>{% for c in row %}<td class="{% if t.numeric[loop.index0] %}number{% endif %}\
{% if c.best %} best{% endif %}" dir="auto">{{ c.text }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{%- endmacro -%}

{%- macro article(v) %}{% set s = v.sample %}
<article>
{% if v.image %}<figure class="picture">{{ image(v.image) }}{% if s.id %}<figcaption>{{ s.id|visible }}</figcaption>
{% endif %}</figure>{% endif %}
<div class="words{% if not v.image %} wide{% endif %}"{% if s.lang %} lang="{{ s.lang }}"{% endif %}>
{{ verdict(v.correct) }}
{% if v.pieces %}<p class="sentence" dir="auto">{% for piece, blank in v.pieces %}{% if blank %}\
<span class="blank" role="img" aria-label="blank"></span>{% else %}{{ piece }}{% endif %}{% endfor %}</p>{% endif %}
<dl>
{% if s.question %}<dt>Question</dt><dd dir="auto">{{ s.question|visible }}</dd>{% endif %}
{% if s.answer or s.kind != "retrieval" %}<dt>{{ "Generated" if s.kind == "caption" else "Model" }}</dt>\
<dd dir="auto"><strong>{{ (s.answer|visible) or "(empty)" }}</strong></dd>{% endif %}
{% if s.truth %}<dt>Truth</dt><dd dir="auto">{{ s.truth|visible }}</dd>{% endif %}
{% if s.references %}<dt>{{ "Accepted" if s.kind == "answer" else "References" }}</dt><dd><ul>\
{% for r in s.references %}<li dir="auto">{{ r|visible }}</li>{% endfor %}</ul></dd>{% endif %}
{% for sense, gloss in s.glosses.items() %}<dt dir="auto">{{ sense }}</dt><dd dir="auto">{{ gloss|visible }}</dd>\
{% endfor %}
</dl>
{% if v.candidates %}<ol class="candidates">{% for c in v.candidates %}<li>
<div class="bar"><div class="name{% if c.right %} expected{% endif %}" dir="auto">{% if c.image %}{{ image(c.image) }}\
{% endif %}{{ c.text }}{% if c.right %} <span class="met">right</span>{% endif %}</div>\
<div{% if c.width is not none %} class="track"{% endif %}>\
{% if c.width is not none %}<div class="fill{% if loop.first %} chosen{% endif %}" style="width:{{ c.width }}%"></div>\
{% endif %}</div><span class="amount">{{ c.score|fraction if c.width is not none else c.score|value }}</span></div></li>
{% endfor %}</ol>{% endif %}
{% if s.note %}<p class="quiet">{{ s.note|visible }}</p>{% endif %}
</div>
{% if v.conditions %}<div class="wide conditions">{% for c in v.conditions %}<div class="condition">
<h4>{{ c.name }}{% if c.hit is true %} <span class="met">follows the image</span>{% elif c.hit is false %} \
<span class="missed">does not follow</span>{% endif %}</h4>
<div class="pair">{% if c.image %}{{ image(c.image) }}{% if c.heat %}{{ image(c.heat) }}{% endif %}\
{% else %}<div class="none">no image given</div>{% endif %}</div>
{% for row in c.rows %}{{ bar(row) }}{% endfor %}</div>{% endfor %}</div>{% endif %}
{% for group, title in ((v.heat, "Where each word looked"), (v.maps, "How the image's tokens were grouped")) %}
{% if group %}<div class="wide"><p class="quiet">{{ title }}</p><div class="maps">{% for p in group %}\
<figure>{{ image(p) }}<figcaption dir="auto">{{ p.label }}</figcaption></figure>{% endfor %}</div></div>{% endif %}
{% endfor %}
</article>
{%- endmacro -%}

<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>{{ css }}</style>
</head>
<body>
<header class="top">
<h1 dir="auto">{{ title }}</h1>
{% for note in notes %}<p class="lead" dir="auto">{{ note }}</p>{% endfor %}
{% for drawing in drawings %}<figure>{{ drawing }}</figure>{% endfor %}
<nav>{% for id, name in sections %}<a href="#{{ id }}">{{ name }}</a>{% endfor %}</nav>
</header>
<main>
{% if cards %}<section id="figures"><h2>Headline figures</h2>
<div class="cards">{% for c in cards %}<div class="card"><div class="value">{{ c.value|value }}</div>
<div class="label" dir="auto">{{ c.label }}</div>{% if c.explanation %}<p dir="auto">{{ c.explanation }}</p>{% endif %}
{% if c.target %}<div class="target">Target {{ c.target }}{% if c.met is true %} <span class="met">met</span>\
{% elif c.met is false %} <span class="missed">missed</span>{% endif %}</div>{% endif %}</div>
{% endfor %}</div></section>{% endif %}

{% if ablations %}<section id="ablation"><h2>Does the image settle the word?</h2>
<p>The same sentences with the ambiguous word blanked out, and only the picture exchanged. With the right picture the
model should be right; with none, or with one that shows none of the senses, it can only guess; with the picture of
another sense it should follow that picture. A vertical mark is the chance level.</p>
{% for a in ablations %}{% if a.title %}<h3>{{ a.title }}</h3>{% endif %}<div class="bars">{{ a.svg }}</div>
{{ table(a.table) }}{% endfor %}</section>{% endif %}

{% if tables %}<section id="tables"><h2>Comparisons</h2>
{% for t in tables %}<h3 dir="auto">{{ t.title }}</h3>{{ table(t) }}{% if t.note %}<p class="quiet" dir="auto">\
{{ t.note }}</p>{% endif %}{% endfor %}</section>{% endif %}

<section id="curves"><h2>Training</h2>
{% if panels %}<p class="quiet">Against the step: raw values faint, their running mean strong.\
{% if more_panels %} {{ more_panels }} more quantities are in the metrics file.{% endif %}</p>
<div class="panels">{% for svg in panels %}<div>{{ svg }}</div>{% endfor %}</div>
{% else %}<p class="quiet">No metrics were recorded.</p>{% endif %}</section>

{% for g in groups %}<section id="{{ g.id }}"><h2>{{ g.title }}</h2>
<p class="quiet">{{ g.counts }}{% if g.right and g.wrong %} What went wrong comes first; the shares here are not a \
measured rate.{% endif %}</p>
{% for name, views in (("Wrong", g.wrong), ("Right", g.right), ("", g.other)) %}{% if views %}
{% if name %}<h3>{{ name }}</h3>{% endif %}{% for v in views %}{{ article(v) }}{% endfor %}{% endif %}{% endfor %}
</section>{% else %}<section id="samples"><h2>Samples</h2><p class="quiet">No samples were drawn.</p></section>
{% endfor %}

<section id="run"><h2>The run</h2>
{% if facts %}<dl class="facts">{% for label, fact in facts %}<dt>{{ label }}</dt><dd dir="auto">{{ fact|value }}</dd>\
{% endfor %}</dl>{% endif %}
{% if results %}<details><summary>All results ({{ results.rows|length }})</summary>{{ table(results) }}</details>
{% endif %}
<details><summary>Configuration</summary><pre>{{ config }}</pre></details>
</section>
</main>
</body>
</html>
"""

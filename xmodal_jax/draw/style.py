"""The report's style sheet: one column of text, hairlines, two colours; light or dark with the reader's system."""

CSS = """
:root { color-scheme: light dark;
  --paper: #fcfbf8; --raised: #ffffff; --ink: #1c1e21; --muted: #64696f; --rule: #dedad2; --track: #eceae4;
  --accent: #1f5f8b; --warm: #b4532a; --good: #2f6b47;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Noto Sans CJK KR", "Noto Sans Arabic",
    "Apple SD Gothic Neo", "Malgun Gothic", "PingFang SC", "Microsoft YaHei", sans-serif;
  --serif: Charter, "Bitstream Charter", "Iowan Old Style", "Source Serif 4", Cambria, Georgia, "Noto Serif",
    "Noto Serif CJK KR", serif; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #15171a; --raised: #1c1f23; --ink: #e6e3dc; --muted: #9aa0a6; --rule: #34383d; --track: #2a2e33;
  --accent: #6fb1de; --warm: #e08a5f; --good: #7cc296; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 var(--sans);
  font-variant-numeric: tabular-nums; }
main, header.top { max-width: 68rem; margin: 0 auto; padding: 0 clamp(1rem, 5vw, 4rem); }
header.top { padding-top: clamp(2rem, 6vw, 4.5rem); }
main { padding-bottom: 6rem; }
h1, h2 { font-family: var(--serif); font-weight: 600; line-height: 1.2; letter-spacing: -0.005em; }
h1 { font-size: clamp(1.7rem, 4.5vw, 2.5rem); margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.45rem; margin: 4rem 0 .4rem; padding-top: 1rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; font-weight: 600; margin: 2rem 0 .6rem; }
p { margin: .3rem 0 .8rem; max-width: 44rem; text-wrap: pretty; }
.lead, .quiet, figcaption, dt { color: var(--muted); }
.quiet, figcaption, dt { font-size: .85rem; }
nav { margin-top: 1.2rem; font-size: .9rem; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; }
a { color: var(--accent); text-decoration-thickness: 1px; text-underline-offset: .2em; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(13.5rem, 1fr)); gap: 0 2rem; margin: 1.5rem 0; }
.card { border-top: 2px solid var(--ink); padding: .6rem 0 1.6rem; }
.card .value { font: 600 2.1rem/1.25 var(--serif); overflow-wrap: anywhere; }
.card .label { font-weight: 600; font-size: .92rem; }
.card p { font-size: .88rem; margin: .35rem 0; }
.card .target { font-size: .85rem; color: var(--muted); }
.met { color: var(--good); font-weight: 600; } .missed { color: var(--warm); font-weight: 600; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); gap: 1.4rem 2rem; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
.bars { max-width: 42rem; margin: 1rem 0; }
.scroll { overflow-x: auto; margin: .6rem 0 1rem; }
table { border-collapse: collapse; font-size: .9rem; min-width: min(26rem, 100%); }
th, td { text-align: start; padding: .4rem 1.4rem .4rem 0; border-bottom: 1px solid var(--rule);
  vertical-align: baseline; }
thead th { border-bottom: 1px solid var(--ink); font-weight: 600; }
td.number, th.number { text-align: right; white-space: nowrap; }
td.best { font-weight: 700; }
article { border-top: 1px solid var(--rule); padding: 1.4rem 0 1.6rem; display: grid; gap: 1.2rem 2rem;
  grid-template-columns: minmax(0, 14rem) minmax(0, 1fr); }
article > .wide { grid-column: 1 / -1; }
article .words { max-width: 46rem; }
article img { display: block; width: 100%; height: auto; border-radius: 2px; }
figure { margin: 0; } figcaption { margin-top: .3rem; overflow-wrap: anywhere; }
.sentence { font: 1.2rem/1.6 var(--serif); margin: 0 0 .8rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.blank { display: inline-block; min-width: 4.2em; height: 1.05em; border-bottom: 2px solid var(--accent);
  background: color-mix(in srgb, var(--accent) 9%, transparent); vertical-align: text-bottom; margin: 0 .1em; }
.verdict { font-size: .85rem; font-weight: 600; margin: 0 0 .35rem; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .25rem 1.2rem; margin: 0 0 .8rem; }
dt { padding-top: .1rem; } dd { margin: 0; overflow-wrap: anywhere; } dd ul { margin: 0; padding-inline-start: 1.1em; }
.conditions { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(15rem, 100%), 1fr));
  gap: 1.2rem 2rem; margin-top: .4rem; }
.condition h4 { margin: 0 0 .4rem; font-size: .9rem; font-weight: 600; }
.condition .pair { display: grid; grid-template-columns: 1fr 1fr; gap: .5rem; margin-bottom: .6rem; }
.none { aspect-ratio: 1; border: 1px dashed var(--rule); display: grid; place-items: center; color: var(--muted);
  font-size: .8rem; text-align: center; padding: .5rem; border-radius: 2px; }
.bar { display: grid; grid-template-columns: minmax(4.5rem, 34%) 1fr 3.4rem; gap: .6rem; align-items: center;
  font-size: .85rem; padding: .1rem 0; }
.bar .name { overflow-wrap: anywhere; line-height: 1.3; } .bar .amount { text-align: right; white-space: nowrap; }
.track { height: .6rem; background: var(--track); border-radius: 1px; }
.fill { height: 100%; background: var(--muted); border-radius: 1px; } .fill.chosen { background: var(--accent); }
.expected { font-weight: 600; text-decoration: underline; text-decoration-thickness: 1px; text-underline-offset: .2em; }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); gap: .8rem; }
.candidates { list-style: none; margin: 0; padding: 0; }
.candidates .bar { grid-template-columns: minmax(8rem, 55%) 1fr 3.4rem; }
.candidates li { padding: .15rem 0; }
.candidates img { max-width: 7rem; margin-bottom: .2rem; }
details { margin: 1rem 0; } summary { cursor: pointer; color: var(--accent); }
pre { background: var(--raised); border: 1px solid var(--rule); padding: 1rem; overflow-x: auto; font-size: .8rem;
  line-height: 1.5; border-radius: 2px; }
.facts { max-width: 46rem; }
@media (max-width: 40rem) { article { grid-template-columns: 1fr; } article > .picture { max-width: 16rem; }
  h2 { margin-top: 2.8rem; } dl { grid-template-columns: 1fr; gap: 0 0; } dd { margin-bottom: .4rem; } }
@media print { details { display: block; } article { break-inside: avoid; } nav { display: none; } }
"""

"""The page itself: markup, style and script, which need nothing from elsewhere."""

from xmodal_jax.draw.style import CSS as REPORT

HTML = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Search in photos</title><link rel="icon" href="data:,"><link rel="stylesheet" href="/page.css">
<script src="/page.js" defer></script></head><body>
<header class="top"><h1>Search in photos</h1><p class="lead" id="about">Loading ...</p></header>
<main>
<form id="ask"><input id="text" name="text" dir="auto" autocomplete="off" maxlength="2000" autofocus
  placeholder="What does the photo show?" aria-label="What does the photo show?">
<button>Search</button><label class="file">or drop a picture, or <u>choose one</u><input id="file" type="file" accept="image/*">
</label><select id="model" aria-label="Model" hidden></select></form>
<p id="said" class="quiet" role="status"></p>
<div id="found"></div>
<p id="marks" hidden><button id="learn">Learn from my marks</button> <button id="undo" hidden>Undo the last correction</button>
 <button id="keep" hidden>Keep the corrected model</button></p>
</main>
<dialog id="open"><button id="close" aria-label="Close">Close</button>
<div class="stage"><img id="photo" alt=""><img id="map" alt=""><div id="box" hidden></div></div><p id="title" dir="auto"></p>
<form id="look"><input id="phrase" dir="auto" maxlength="2000" placeholder="Find an object: the largest cat"
  aria-label="Find an object"><button>Find</button><button type="button" id="like">More like this</button>
<button type="button" id="caption" hidden>Caption</button></form>
<form id="question" hidden><input id="asked" dir="auto" maxlength="2000" placeholder="Ask about this photo"
  aria-label="Ask about this photo"><button>Ask</button></form>
<p id="words"></p><p id="told" role="status"></p></dialog>
</body></html>
"""

CSS = (
    REPORT
    + """
[hidden] { display: none !important; }
form { display: flex; flex-wrap: wrap; gap: .6rem; align-items: center; margin: 1rem 0; }
input:not([type=file]) { flex: 1 1 18rem; font: inherit; padding: .5rem .7rem; color: inherit; background: var(--raised);
  border: 1px solid var(--rule); border-radius: 3px; }
button, select { font: inherit; padding: .5rem .9rem; border: 1px solid var(--rule); border-radius: 3px; cursor: pointer;
  background: var(--raised); color: inherit; }
button[aria-pressed=true] { background: var(--accent); color: var(--paper); }
.file { color: var(--muted); font-size: .9rem; cursor: pointer; } .file input { display: none; }
#found { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(13rem, 100%), 1fr)); gap: 1.4rem; }
#found figure, .stage { margin: 0; position: relative; } #found img { width: 100%; display: block; cursor: zoom-in; }
#found figcaption { overflow-wrap: anywhere; } #found figcaption strong { color: var(--ink); }
#found .marks button { padding: 0 .5rem; } .frame { position: relative; }
.box, #box { position: absolute; border: 3px solid #ff8c00; outline: 1px solid #fff; pointer-events: none; }
dialog { max-width: min(60rem, 96vw); border: 1px solid var(--rule); background: var(--paper); color: var(--ink); }
#close { float: right; } .stage { clear: both; width: fit-content; margin: .6rem auto; }
.stage img { display: block; max-width: 100%; max-height: 60vh; }
#map { position: absolute; inset: 0; width: 100%; height: 100%; }
#map:not([src]) { display: none; } #words button { margin: 0 .3rem .3rem 0; padding: .1rem .5rem; }
body.over { outline: 4px dashed var(--accent); outline-offset: -8px; }
"""
)

JS = """\
"use strict";
const at = (id) => document.getElementById(id);
const state = { token: "", text: "", right: new Set(), wrong: new Set(), open: null };

async function post(path, content) {
  const raw = content instanceof Blob;
  const answer = await fetch(path, { method: "POST", headers: { "x-token": state.token },
    body: raw ? content : JSON.stringify({ model: at("model").value, ...content }) });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  return found;
}

async function say(where, work) {
  where.textContent = "Working ...";
  try { where.textContent = (await work()) || ""; } catch (error) { where.textContent = error.message; }
}

function place(box, shares) {
  box.hidden = !shares;
  if (!shares) return;
  const [x0, y0, x1, y1] = shares.map((x) => 100 * x);
  Object.assign(box.style, { left: x0 + "%", top: y0 + "%", width: x1 - x0 + "%", height: y1 - y0 + "%" });
}

function button(label, title, press) {
  const made = document.createElement("button");
  made.type = "button"; made.textContent = label; made.title = title; made.setAttribute("aria-pressed", "false");
  made.addEventListener("click", () => press(made));
  return made;
}

function mark(kind, other, name, pair) {
  return (pressed) => {
    const on = !state[kind].delete(name);
    if (on) { state[kind].add(name); state[other].delete(name); }
    for (const one of pair) one.setAttribute("aria-pressed", String(one === pressed && on));
    at("marks").hidden = !(state.right.size + state.wrong.size) && at("undo").hidden;
  };
}

function show(answer, text) {
  state.text = text; state.right.clear(); state.wrong.clear();
  at("found").replaceChildren(...answer.found.map((one, i) => {
    const figure = document.createElement("figure"), frame = document.createElement("div");
    const image = document.createElement("img"), box = document.createElement("div");
    const line = document.createElement("figcaption"), score = document.createElement("strong");
    const title = document.createElement("bdi"), marks = document.createElement("span"), pair = [];
    image.src = "/thumbnail/" + one.name; image.alt = one.title; image.loading = "lazy";
    image.addEventListener("click", () => enlarge(one));
    frame.className = "frame"; box.className = "box"; place(box, one.box); frame.append(image, box);
    score.textContent = (i + 1) + ". " + one.score.toFixed(3) + " "; title.textContent = one.title; marks.className = "marks";
    if (text) {
      pair.push(button("\\u2713", "right", (it) => mark("right", "wrong", one.name, pair)(it)),
        button("\\u2717", "wrong", (it) => mark("wrong", "right", one.name, pair)(it)));
      marks.append(" ", ...pair);
    }
    line.append(score, title, marks); figure.append(frame, line);
    return figure;
  }));
  const many = answer.found.length ? answer.found.length + " of " + answer.photos + " photos" : "No photo is close enough";
  return many + ", " + answer.took_ms.toFixed(0) + " ms, " + answer.model;
}

async function search(text) { return show(await post("/search", { text }), text); }
async function upload(file) {
  return show(await post("/upload?model=" + encodeURIComponent(at("model").value), file), "");
}

function enlarge(one) {
  state.open = one;
  at("photo").src = "/photo/" + one.name; at("photo").alt = one.title; at("title").textContent = one.title;
  at("map").removeAttribute("src"); at("words").replaceChildren(); at("told").textContent = "";
  place(at("box"), one.box);
  at("phrase").value = state.text;
  if (!at("open").open) at("open").showModal();
}

async function look() {
  const answer = await post("/do/look", { name: state.open.name, text: at("phrase").value });
  place(at("box"), answer.box);
  at("words").replaceChildren(...answer.words.map((one) => button(one.word, "where this word looks", (it) => {
    const on = it.getAttribute("aria-pressed") === "false";
    for (const other of at("words").children) other.setAttribute("aria-pressed", "false");
    it.setAttribute("aria-pressed", String(on));
    if (on) at("map").src = one.map; else at("map").removeAttribute("src");
  })));
  if (answer.score === null) return "";
  return (answer.box ? "Found" : "Not in this photo") + " (" + answer.score.toFixed(2) + ")";
}

function corrected(count) {
  at("undo").hidden = at("keep").hidden = !count;
  at("marks").hidden = !count;
}

async function start() {
  const about = await (await fetch("/about")).json();
  state.token = about.token;
  at("model").replaceChildren(...about.models.map((one) => {
    const option = document.createElement("option");
    option.value = one.name;
    option.textContent = one.name + " (" + (one.bytes / 1e6).toFixed(1) + " MB)";
    return option;
  }));
  at("model").hidden = about.models.length < 2;
  at("caption").hidden = !about.captions; at("question").hidden = !about.answers;
  at("about").textContent = about.photos + " photos. Type what you look for; open a photo to find an object in it.";
}

at("ask").addEventListener("submit", (event) => { event.preventDefault(); say(at("said"), () => search(at("text").value)); });
at("model").addEventListener("change", () => { if (at("text").value) say(at("said"), () => search(at("text").value)); });
at("file").addEventListener("change", () => { if (at("file").files[0]) say(at("said"), () => upload(at("file").files[0])); });
at("look").addEventListener("submit", (event) => { event.preventDefault(); say(at("told"), look); });
at("question").addEventListener("submit", (event) => { event.preventDefault();
  say(at("told"), async () => (await post("/do/tell", { name: state.open.name, question: at("asked").value })).text); });
at("caption").addEventListener("click", () => say(at("told"), async () =>
  (await post("/do/tell", { name: state.open.name })).text));
at("like").addEventListener("click", () => { at("open").close();
  say(at("said"), async () => show(await post("/search", { like: state.open.name }), "")); });
at("close").addEventListener("click", () => at("open").close());
at("learn").addEventListener("click", () => say(at("said"), async () => {
  const text = state.text;
  corrected((await post("/do/learn", { text, right: [...state.right], wrong: [...state.wrong] })).corrections);
  return "Learned. " + await search(text);
}));
at("undo").addEventListener("click", () => say(at("said"), async () => {
  corrected((await post("/do/undo", {})).corrections);
  return "As before. " + await search(state.text);
}));
at("keep").addEventListener("click", () => say(at("said"), async () => "Kept in " + (await post("/do/keep", {})).folder));
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    document.body.classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files[0]) say(at("said"), () => upload(event.dataTransfer.files[0]));
  });
}
say(at("said"), start);
"""

"""Questions, referring phrases and statements over pairs, each with an answer computed from the objects."""

import random

from xmodal_jax.data.sources.scenes import english, korean
from xmodal_jax.data.sources.scenes.language import write
from xmodal_jax.data.sources.scenes.layout import PLACES, Placed, Scene, beside, pick, relation
from xmodal_jax.data.sources.scenes.things import DENOTES, THINGS

_LANGUAGE = {"en": english, "ko": korean}
_EXPRESSIONS = {lang: tuple(words) for lang, words in DENOTES.items()}
ANYTHING = {"en": "thing", "ko": "것"}  # a noun of phrases that is true of every object


def denoted(scene: Scene, noun: str, lang: str) -> list[Placed]:
    """The objects of a scene that a noun is true of."""
    if noun == ANYTHING[lang]:
        return list(scene.objects)
    keys = DENOTES[lang][noun]
    return [thing for thing in scene.objects if thing.key in keys]


def _expressions(thing: Placed, lang: str) -> tuple[str, ...]:
    words = THINGS[thing.key].words[lang]
    return (*words.ambiguous, *words.names, *words.kinds)


def _unique(scene: Scene, thing: Placed, lang: str) -> list[str]:
    """The nouns that are true of this object of the scene alone."""
    return [noun for noun in _expressions(thing, lang) if denoted(scene, noun, lang) == [thing]]


def _absent(rng: random.Random, scene: Scene, lang: str) -> str:
    while True:
        noun = pick(rng, _EXPRESSIONS[lang])
        if not denoted(scene, noun, lang):
            return noun


def _ten(rng: random.Random, forms: tuple[str, ...]) -> list[str]:
    """Ten annotators' answers: the first form from at least seven of them, other forms of it from the rest."""
    agreeing = 7 + int(rng.random() * 4) if len(forms) > 1 else 10
    answers = [forms[0]] * agreeing + [pick(rng, forms[1:]) for _ in range(10 - agreeing)]
    turn = int(rng.random() * 10)
    return answers[turn:] + answers[:turn]


def questions(rng: random.Random, scene: Scene, lang: str) -> list[dict]:
    """Existence (twice), colour, place, counting and, where the scene allows them, relation and identity by colour.

    "type" is the form: "exists", "color", "where", "count", "relation" or "which".
    """
    tables = _LANGUAGE[lang]
    asked = []

    def ask(form: str, forms: tuple[str, ...], noun: str = "", counted: str = "", **words) -> None:
        frame, nouns = pick(rng, tables.QUESTIONS[form]), {"a": ((), noun, ""), "counted": ((), counted, "")}
        text = write(tables.GRAMMAR, frame, nouns, words)[0]
        asked.append({"question": text, "answers": _ten(rng, forms), "type": form})

    for _ in range(2):
        there = rng.random() < 0.5
        noun = pick(rng, _expressions(pick(rng, scene.objects), lang)) if there else _absent(rng, scene, lang)
        ask("exists", tables.YES_NO[there], noun)
    thing = pick(rng, scene.objects)
    if nouns := _unique(scene, thing, lang):
        ask("color", tables.COLOR_ANSWERS[thing.color], pick(rng, nouns))
    thing = pick(rng, scene.objects)
    nouns = _unique(scene, thing, lang)
    if nouns and sum(thing.leans(place) for place in PLACES) == 1:  # in a corner two answers would be right
        ask("where", tables.PLACE_ANSWERS[thing.place], pick(rng, nouns))
    everything, *kinds = tables.PLURALS
    counted = pick(rng, (everything, *(word for word in kinds if denoted(scene, word, lang)), pick(rng, kinds)))
    number = len(scene.objects) if counted == everything else len(denoted(scene, counted, lang))
    ask("count", tables.NUMBERS[number], counted=tables.PLURALS[counted])
    for anchor in scene.objects:
        for direction, words in tables.GRAMMAR.relations.items():
            found = [thing for thing in scene.objects if thing != anchor and beside(thing, anchor, direction)]
            nouns = _unique(scene, anchor, lang)
            if len(found) == 1 and relation(found[0], anchor) == direction and nouns and rng.random() < 0.5:
                ask("relation", _names(found[0], lang), pick(rng, nouns), rel=words)
    thing = pick(rng, scene.objects)
    if sum(other.color == thing.color for other in scene.objects) == 1:
        ask("which", _names(thing, lang), color=tables.GRAMMAR.color_nouns[thing.color])
    return asked


def _names(thing: Placed, lang: str) -> tuple[str, ...]:
    words = THINGS[thing.key].words[lang]
    return tuple(dict.fromkeys((words.usual, *words.names, words.kinds[0])))


def phrases(rng: random.Random, scene: Scene, boxes: list[list[float]], lang: str) -> list[dict]:
    """One or two phrases an object, each true of that object alone.

    "settled": what tells it from the other objects: "name", or where the noun fits another one too "color", "size", "place",
    "relation".
    """
    tables, found = _LANGUAGE[lang], {}
    for thing, box in zip(scene.objects, boxes, strict=True):
        for _ in range(2):
            if described := _describe(rng, scene, thing, tables):
                text, settled = described
                found.setdefault(text, {"phrase": text, "box": box, "settled": settled})
    return list(found.values())


def absent(rng: random.Random, scene: Scene, lang: str, count: int = 4) -> list[str]:
    """Phrases of the same forms that are true of no object; most often the noun alone is true of one, where the form allows."""
    tables, found = _LANGUAGE[lang], []
    while len(found) < count:
        text = _misdescribe(rng, scene, tables)
        if text and text not in found:
            found.append(text)
    return found


def _misdescribe(rng: random.Random, scene: Scene, tables) -> str | None:
    lang = tables.GRAMMAR.lang
    there = rng.random() < 0.7
    noun = pick(rng, (*_expressions(pick(rng, scene.objects), lang), ANYTHING[lang]) if there else _EXPRESSIONS[lang])
    colors, sizes = tuple(tables.GRAMMAR.colors), tuple(tables.GRAMMAR.sizes)
    anchor, direction = pick(rng, scene.objects), pick(rng, tuple(tables.GRAMMAR.relations))
    told = {"color": pick(rng, colors), "size": pick(rng, sizes), "place": pick(rng, PLACES), "relation": (anchor, direction)}
    form = pick(rng, _PHRASE_FORMS)
    if form == "relation" and not _unique(scene, anchor, lang):
        return None
    if [thing for thing in denoted(scene, noun, lang) if form == "" or _fits(thing, form, told[form])]:
        return None
    return _phrase(rng, scene, tables, noun, form, told.get(form))


def _describe(rng: random.Random, scene: Scene, thing: Placed, tables) -> tuple[str, str] | None:
    """(text, what settles it) of a phrase that is true of this thing alone, or None where the draw gave no such phrase."""
    lang = tables.GRAMMAR.lang
    general = len(scene.objects) > 1 and rng.random() < 0.3
    noun, form = ANYTHING[lang] if general else pick(rng, _expressions(thing, lang)), pick(rng, _PHRASE_FORMS)
    rivals = [other for other in denoted(scene, noun, lang) if other != thing]
    told = None
    if form == "size" and thing.size not in tables.GRAMMAR.sizes:
        form = ""
    elif form == "relation":
        anchors = [other for other in scene.objects if other != thing and _unique(scene, other, lang)]
        if not anchors:
            return None
        anchor = pick(rng, anchors)
        told = anchor, relation(thing, anchor)
    elif form:
        told = getattr(thing, form)
    settled = form if rivals else "name"
    if [other for other in rivals if form == "" or _fits(other, form, told)]:
        return None  # true of another one too, if only by a hair
    return _phrase(rng, scene, tables, noun, form, told), settled


_PHRASE_FORMS = ("", "color", "size", "place", "relation")


def _fits(thing: Placed, form: str, told) -> bool:
    """Whether what a phrase of this form tells beside its noun is true of a thing, if only by a hair."""
    if form == "relation":
        anchor, direction = told
        return thing != anchor and beside(thing, anchor, direction, 0.0)
    return thing.leans(told, 0.0) if form == "place" else getattr(thing, form) == told


def _phrase(rng: random.Random, scene: Scene, tables, noun: str, form: str, told) -> str:
    grammar, adjectives, words, nouns = tables.GRAMMAR, (), {}, {}
    if form in ("color", "size"):
        adjectives = ((grammar.colors if form == "color" else grammar.sizes)[told],)
    elif form == "place":
        words["at"] = grammar.at[told]
    elif form == "relation":
        anchor, direction = told
        words["rel"] = grammar.relations[direction]
        nouns["b"] = ((), pick(rng, _unique(scene, anchor, grammar.lang)), anchor.key)
    nouns["a"] = (adjectives, noun, "")
    return write(grammar, tables.PHRASES[form if form in tables.PHRASES else ""], nouns, words)[0]


def statements(rng: random.Random, scene: Scene, other: Scene, partner: int, lang: str, count: int = 3) -> list[dict]:
    """Sentences about a pair: `scene` is the left picture, `other` (example `partner` of the source) the right one.

    A template is used only where it can be made true and made false, and then either is as likely: the form of the
    sentence says nothing about its truth.
    """
    tables, found = _LANGUAGE[lang], []
    pool = [noun for thing in (*scene.objects, *other.objects) for noun in _expressions(thing, lang)]
    pool += [pick(rng, _EXPRESSIONS[lang]) for _ in range(6)]
    forms = list(_FORMS)
    while forms and len(found) < count:
        form = forms.pop(int(rng.random() * len(forms)))
        made = {True: [], False: []}
        for template, nouns, words, truth in _FORMS[form](scene, other, pool, tables):
            made[truth].append((template, nouns, words))
        label = rng.random() < 0.5
        if made[True] and made[False]:
            template, nouns, words = pick(rng, made[label])
            text, _ = write(tables.GRAMMAR, tables.STATEMENTS[template], nouns, words)
            found.append({"statement": text, "label": label, "partner": partner})
    return found


def _by_noun(template: str, truth):
    def options(left, right, pool, tables):
        lang = tables.GRAMMAR.lang
        for noun in pool:
            sides = bool(denoted(left, noun, lang)), bool(denoted(right, noun, lang))
            yield template, {"a": ((), noun, "")}, {}, truth(*sides)

    return options


def _by_color(template: str, truth):
    def options(left, right, pool, tables):
        for color, word in tables.GRAMMAR.color_nouns.items():
            sides = (any(thing.color == color for thing in scene.objects) for scene in (left, right))
            yield template, {}, {"color": word}, truth(*sides)

    return options


def _by_sum(left, right, pool, tables):
    total = len(left.objects) + len(right.objects)
    for number in range(2, 7):
        if abs(number - total) <= 1:
            yield "sum", {}, {"number": str(number)}, number == total


def _by_comparison(left, right, pool, tables):
    difference = len(left.objects) - len(right.objects)
    for template, truth in (("more", difference > 0), ("fewer", difference < 0), ("equal", difference == 0)):
        yield template, {}, {}, truth


_FORMS = {
    "left": _by_noun("left", lambda left, right: left),
    "right": _by_noun("right", lambda left, right: right),
    "both": _by_noun("both", lambda left, right: left and right),
    "one": _by_noun("one", lambda left, right: left != right),
    "both colors": _by_color("both colors", lambda left, right: left and right),
    "one color": _by_color("one color", lambda left, right: left != right),
    "sum": _by_sum,
    "comparison": _by_comparison,
}

"""Items of the sense evaluation: one text, one picture for every sense of its ambiguous word.

All items of one scene share text, layout, colours and the other objects, so that an answer that does not look at the
picture is right exactly once in as many times as the word has senses.
"""

from xmodal_jax.data.sources.scenes.layout import generator, pick
from xmodal_jax.data.sources.scenes.things import AMBIGUOUS
from xmodal_jax.errors import UserError


def sense_items(source, count: int, seed: int) -> list[dict]:
    """At most `count` items (dictionaries, see the keys below), whole scenes only, of a Scenes source.

    Languages alternate where the source has several. Scenes whose word has no other example with another sense are
    left out; UserError where that leaves nothing.
    """
    rng, by_word = generator("sense items", source.seed, source.split, seed), source.by_word()
    queues = []
    for lang in dict.fromkeys(source.langs):
        bases = [i for (of, _), indices in by_word.items() if of == lang for i in indices]
        queues.append(sorted(bases, key=lambda _: rng.random()))
    items: list[dict] = []
    turn = 0
    while any(queues):
        queue = queues[turn % len(queues)]
        turn += 1
        made = _items_of(source, rng, queue.pop()) if queue else []
        if len(items) + len(made) > count:
            break
        items += made
    if not items:
        raise UserError(
            f"scenes: {count} sense items asked of {source.count} scenes ({source.split}); it takes at least as many "
            "items as a word has senses (2 or 3), and scenes enough that every sense occurs (some 200)."
        )
    return items


def _items_of(source, rng, i: int) -> list[dict]:
    """One item for every sense of the word of scene i, or none where the source lacks a picture to swap in."""
    scene = source.scene(i)
    senses = AMBIGUOUS[scene.lang][scene.word]
    same_word = [(j, key) for j, key in source.by_word()[scene.lang, scene.word].items() if j != i]
    wrong = _without(source, rng, senses, i)
    items = []
    for sense in senses:
        others = [(j, key) for j, key in same_word if key != sense]
        if not others or wrong is None:
            return []
        swapped, swapped_sense = pick(rng, others)
        shown = scene.with_main(sense)
        texts, mentions, _ = source._captions(i, shown, scene.lang)
        start, end, _ = next(mention for mention in mentions[0] if mention[2] == sense)
        items.append({
            "index": i, "image": source.draw(shown), "text": texts[0], "span": (start, end), "word": scene.word,
            "sense": sense, "senses": senses, "swapped_image": source.image(swapped), "swapped_sense": swapped_sense,
            "wrong_image": source.image(wrong), "lang": scene.lang, "swapped_index": swapped, "wrong_index": wrong,
        })  # fmt: skip
    return items


def _without(source, rng, senses: tuple[str, ...], i: int) -> int | None:
    """Another example that shows none of these things."""
    for _ in range(64):
        j = int(rng.random() * source.count)
        if j != i and not any(thing.key in senses for thing in source.scene(j).objects):
            return j
    return None

"""Entities without a dictionary and without a tagger: the words of a caption collection that name what its pictures show."""

import collections
import re

from xmodal_jax.data.senses.inventory import TableInventory
from xmodal_jax.data.senses.scorers import tokenise
from xmodal_jax.data.senses.words import UNSPACED, english_base, stop_words
from xmodal_jax.spelling import runs

_WORD = re.compile(runs(r"[^\W\d_]"))
_BE = frozenset("is are was were be been being to not very".split())  # behind these no noun stands
_NOUNS = 0.5  # least share of a word's places where a noun may stand
_TELLING = 2.0  # least factor by which one caption with the word makes another one of that picture have it
_SEEN = 5  # pictures with the word and another caption, before that is judged


def corpus_inventory(source, lang, least=2):
    """An inventory of words without senses: those that captions of at least `least` images have and at most a tenth of them.

    Reads captions only, never pictures. Function words are left out; a word in more captions than a tenth of the images
    tells little about any one of them (unless the collection is tiny), its other forms ("trees") counted with it. Left out too
    are words that stand where nouns do not (English: before another content word, "dense forest", or behind a form of "be",
    "are parked"), and those that another caption of the same picture is no likelier to have: no picture settles them
    (pointwise mutual information, Church and Hanks, 1990).
    """
    split = (lambda text: tokenise(text, lang)) if lang in UNSPACED else _WORD.findall
    stop = stop_words(lang)
    texts = []
    for i in range(len(source)):
        captions, _, own = source.captions(i)
        if own == lang:
            texts.append([split(caption) for caption in dict.fromkeys(caption.lower() for caption in captions)])
    forms = {word for captions in texts for caption in captions for word in caption}
    base = {word: other_form(word, forms) if lang == "en" else word for word in forms}
    images, again, chances, nouns = (collections.Counter() for _ in range(4))
    for captions in texts:
        said = [{base[word] for word in caption} for caption in captions]
        every = set().union(*said) if said else set()
        images.update(every)
        for word in every if len(said) > 1 else ():
            having = sum(word in words for words in said)
            chances[word] += 1
            again[word] += (having - 1) / (len(said) - 1)  # of another caption, given one that has it
        if lang == "en":
            for caption in captions:
                nouns.update(word for place, word in enumerate(caption) if noun_like(caption, place, stop))
    spoken = collections.Counter(word for captions in texts for caption in captions for word in caption)
    most = max(20, len(source) // 10)
    pictures = max(1, sum(len(captions) > 1 for captions in texts))

    def telling(word):
        return chances[word] < _SEEN or again[word] / chances[word] >= _TELLING * chances[word] / pictures

    def fits(word):
        common = base[word]
        named = lang != "en" or nouns[word] >= _NOUNS * spoken[word]
        return len(word) > 1 and word not in stop and least <= images[common] <= most and named and telling(common)

    words = {word for word in forms if fits(word)}
    # What was left out must not come back as a form of what was not.
    return TableInventory(dict.fromkeys(sorted(words), ()), lang, stop=stop | (forms - words))


def other_form(word, forms):
    """The singular of an English word where the captions have that too, else the word."""
    return english_base(word, lambda form: form != word and form in forms, {}) or word


def noun_like(caption, place, stop):
    """Whether a noun may stand at a place of a caption, a list of words: before a function word or its end, and not behind a
    form of "be"."""
    behind = caption[place + 1] if place + 1 < len(caption) else None
    before = caption[place - 1] if place else None
    return (behind is None or behind in stop) and before not in _BE

"""Entities without a dictionary: the content words that a caption collection itself repeats."""

import collections
import re

from xmodal_jax.data.senses.inventory import TableInventory
from xmodal_jax.data.senses.scorers import tokenise
from xmodal_jax.data.senses.words import UNSPACED, stop_words

_WORD = re.compile(r"[^\W\d_]+")


def corpus_inventory(source, lang, least=2):
    """An inventory of words without senses: those in captions of at least `least` images and at most a tenth of them.

    Reads captions only, never pictures. Function words are left out; a word in more captions than a tenth of the images
    tells little about any one of them (unless the collection is tiny).
    """
    split = (lambda text: tokenise(text, lang)) if lang in UNSPACED else _WORD.findall
    counts = collections.Counter()
    for i in range(len(source)):
        captions, _, own = source.captions(i)
        if own == lang:
            counts.update({word for caption in captions for word in split(caption.lower())})
    most, stop = max(20, len(source) // 10), stop_words(lang)
    words = (word for word, n in counts.items() if least <= n <= most and len(word) > 1 and word not in stop)
    return TableInventory(dict.fromkeys(sorted(words), ()), lang)

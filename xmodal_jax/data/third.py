"""Third-modality text from other images (claim 5): captions of images whose captions share an entity."""

import collections

from xmodal_jax.data import masking


class SharedEntityTexts:
    """`self(example, names)` -> [(caption, mentions)] of other examples that name one of `names`, in the same language.

    The index is made at first use from the source's texts alone. At most `most` texts an entity, spread over the source, so
    that a frequent word costs no more than a rare one.
    """

    def __init__(self, source, inventories, most=32):
        self.source, self.inventories, self.most = source, inventories, most
        self._index = None

    def __call__(self, example, names):
        if self._index is None:
            self._index = self._read()
        found = [place for name in names for place in self._index.get((example["lang"], name), ())]
        own, texts = set(example["captions"]), []
        for i, number in found:
            captions, mentions, _ = self.source.captions(i)
            if captions[number] not in own:
                texts.append((captions[number], mentions[number] if mentions is not None else None))
        return texts

    def _read(self):
        places = collections.defaultdict(list)
        for i in range(len(self.source)):
            captions, mentions, lang = self.source.captions(i)
            for number, caption in enumerate(captions):
                given = mentions[number] if mentions is not None else None
                for name in {e.name for e in masking.entities(caption, given, self.inventories.get(lang))}:
                    places[lang, name].append((i, number))
        return {key: found[:: -(-len(found) // self.most)] for key, found in places.items()}

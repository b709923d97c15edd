"""From an example dictionary to the fixed-shape arrays of the crossmodal byte language model.

Letters: T text length, S target length, C caption length, L bytes of the second modality.
"""

import copy
import dataclasses
import functools
import zlib

import numpy as np

from xmodal_jax.data import bytes as byte_ids
from xmodal_jax.data import masking, senses
from xmodal_jax.data.augment import augment
from xmodal_jax.data.bytes import cut, shift_right, with_end, with_gaps

FILL, CAPTION, ANSWER = 0, 1, 2  # what a row asks of the decoder
PROMPT = 8  # bytes kept of the prompt of a caption that stands beside
NAMES, NAME_BUCKETS = 16, 1024  # entity names kept of an example, and the hash buckets that they fall into
NEAR = 3  # characters between an attribute and its thing, at most: "붉은색 새"


class ExampleMaker:
    """`ByteExamples` with a source's senses: maps (example, position) to arrays. Deterministic in (seed, position)."""

    def __init__(self, config, seed=0, inventories=None, scorer=None, third_texts=None, langs=()):
        """inventories: {language: Inventory}; scorer: of senses, for all languages (default: each language's Lesk scorer).

        third_texts: `(example, names) -> [(text, mentions)]` of other images that share these entities. langs: of its captions,
        () where that is not known.
        """
        self.config, self.seed, self.langs = config, seed, tuple(langs)
        self.inventories = inventories or {}
        self.scorers = {lang: scorer or senses.LeskScorer(lang) for lang in self.inventories}
        self.third_texts = third_texts
        self._keep_caches()

    def _keep_caches(self):
        self._sense = functools.lru_cache(maxsize=1 << 16)(self._choose_sense)
        self._names = functools.lru_cache(maxsize=1 << 16)(self._find_names)
        self._found = functools.lru_cache(maxsize=1 << 16)(self._find_entities)

    def __getstate__(self):  # the caches do not travel to worker processes
        return {k: v for k, v in self.__dict__.items() if k not in ("_sense", "_names", "_found")}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._keep_caches()

    def __call__(self, example, position):
        """-> {"text", "segments", "text_names" [T], "inputs", "target" [S], "caption", "caption_names" [C], "names", "task",
        "second" [L], "second_length"}, and where they stand beside "prompt" of the caption, "question" and "answer".

        `inputs` is what the decoder reads (the target, one place later, a PAD first), `target` what it should answer.
        """
        config = self.config
        rng = np.random.default_rng((self.seed, position))
        if config.changes:
            own = np.random.default_rng((self.seed, position, 1))
            image = augment(example["image"], own, config.flips, config.zoom, config.brightness)
            example = example | {"image": image}
        second, used = config.second_modality(example)
        captions = example["captions"]
        mentions = example.get("mentions") or [None] * len(captions)
        first = int(rng.integers(len(captions)))
        task, masked = self._task(example, rng), None
        if task == FILL:
            masked = self._fill(example, captions, mentions, first, rng)
            if masked is None:  # nothing to mask in this caption: it still teaches to write one
                task = CAPTION
            elif rng.random() < config.drop_second:
                used = 0
        if task == FILL:
            text, segments, target = masking.finish(masked)
        else:
            if task == CAPTION:
                text = with_gaps(caption_prompt(example["lang"]), config.text_length, config.caption_gaps)
                target, _ = self._told(example, captions[first], mentions[first], config.target_length)
            else:
                text, target = self._asked(example, rng, config.text_length, config.target_length)
            segments = np.zeros_like(text)
        target = byte_ids.fit(target, config.target_length)[0]
        row = {
            "text": byte_ids.fit(text, config.text_length)[0],
            "segments": byte_ids.fit(segments, config.text_length)[0],
            "inputs": shift_right(target),
            "target": target,
            "task": np.int32(task),
            "caption": byte_ids.fit(with_end(captions[first], config.caption_length), config.caption_length)[0],
            "caption_names": self._spoken(example, captions[first], mentions[first]),
            "text_names": gap_names(byte_ids.fit(text, config.text_length)[0], masked.names if task == FILL else ()),
            "names": self._names(example["lang"], tuple(captions), tuple(map(as_tuple, mentions))),
            "second": second,
            "second_length": np.int32(used),
        }
        beside = self._beside(example, captions[first], mentions[first], position)
        return row | beside | self._liken(example, captions[first], mentions[first])

    def plain(self):
        """The same with pictures as they are, for held-out examples."""
        other = copy.copy(self)
        other.config = dataclasses.replace(self.config, flips="none", zoom=1.0, brightness=0.0)
        return other

    def example_batch(self, rows):
        """A batch of zeros with the shapes and types of `rows` examples."""
        spec = self.config
        text, target = (rows, spec.text_length), (rows, spec.target_length)
        shapes = {"text": text, "segments": text, "inputs": target, "target": target, "task": (rows,)}
        shapes |= {"caption": (rows, spec.caption_length), "caption_names": (rows, spec.caption_length), "text_names": text}
        shapes |= {"names": (rows, NAMES), "second_length": (rows,)}
        shapes |= {"caption_attributes": (rows, spec.caption_length)} if spec.attributes == "told" else {}
        shapes |= {"prompt": (rows, PROMPT), "told": (rows, self.told_length)} if "caption" in spec.beside else {}
        shapes |= {"told_names": (rows, 2)} if "caption" in spec.beside and spec.caption_gaps else {}
        if "answer" in spec.beside:
            shapes |= {"question": (rows, spec.question_length), "answer": (rows, spec.answer_length)}
        batch = {name: np.zeros(shape, np.int32) for name, shape in shapes.items()}
        return batch | {"second": np.zeros((rows, spec.second_length), np.uint8)}

    def _task(self, example, rng):
        draw = rng.random()
        if draw < self.config.caption_share:
            return CAPTION
        wants_answer = draw < self.config.caption_share + self.config.answer_share
        return ANSWER if wants_answer and example.get("questions") else FILL

    def _asked(self, example, rng, room, answer_room):
        """One of its questions, and one of the annotators' answers, as ids of at most so many bytes."""
        question = example["questions"][int(rng.integers(len(example["questions"])))]
        answer = question["answers"][int(rng.integers(len(question["answers"])))]
        if self.config.answer_gap:
            return with_gaps(question["question"], room), with_end(answer, answer_room - 1, first=(byte_ids.sentinel(0),))
        return with_end(question["question"], room), with_end(answer, answer_room)

    @property
    def told_length(self):
        """Ids of a caption that stands beside: its bytes, and marks of the gaps."""
        return self.config.caption_length + 2 * self.config.caption_gaps

    def _told(self, example, caption, mentions, room):
        """(ids of a caption with an end mark, at most `room`, what it says of a thing behind the mark of its gap; buckets of
        the things of both gaps, -1 where there is none)"""
        gaps, marked, at = {}, [], 0
        for one in self._entities(example, caption, mentions) if self.config.caption_gaps else ():
            if not one.is_thing or one.start < at:
                continue
            gap = gaps.setdefault(one.name, min(len(gaps), self.config.caption_gaps - 1))
            marked += [[byte_ids.sentinel(gap)], byte_ids.encode_text(caption[at : one.end])]
            at = one.end
        ids = np.concatenate([*marked, byte_ids.encode_text(caption[at:]), [byte_ids.END]]).astype(np.int32)
        if len(ids) > room:
            return with_end(caption, room), name_ids(())[:2]
        return ids, name_ids(gaps)[:2]

    def _beside(self, example, caption, mentions, position):
        """What a row asks for beside its own task."""
        config, found = self.config, {}
        if "caption" in config.beside:
            prompt = with_gaps(caption_prompt(example["lang"]), PROMPT, config.caption_gaps)
            found["prompt"] = byte_ids.fit(prompt, PROMPT)[0]
            told, names = self._told(example, caption, mentions, self.told_length)
            found["told"] = byte_ids.fit(told, self.told_length)[0]
            found |= {"told_names": names} if config.caption_gaps else {}
        if "answer" in config.beside:
            rooms, pair = (config.question_length, config.answer_length), (with_end("", 1), np.zeros(0, np.int32))
            if example.get("questions"):
                pair = self._asked(example, np.random.default_rng((self.seed, position, 2)), *rooms)
            for name, ids, room in zip(("question", "answer"), pair, rooms, strict=True):
                found[name] = byte_ids.fit(ids, room)[0]
        return found

    def _find_names(self, lang, captions, mentions):
        """The entities that an example's captions name, as often as they do: the main one stands in most captions."""
        found = (self._found(lang, *pair) for pair in zip(captions, mentions, strict=True))
        return name_ids(entity.name for entities in found for entity in entities)

    def _find_entities(self, lang, caption, mentions):
        return tuple(masking.entities(caption, mentions, self.inventories.get(lang)))

    def _entities(self, example, caption, mentions):
        found = list(self._found(example["lang"], caption, as_tuple(mentions)))
        if self.config.second == "audio" and "audio_object" in example:  # only the sounding thing matches this modality
            name = example["objects"][example["audio_object"]]["name"]
            found = [entity for entity in found if entity.name == name]
        return found

    def _spoken(self, example, caption, mentions):
        """For each byte of a caption the hash bucket of the thing that its word names, int32 [C], -1 for the others."""
        things = [one for one in self._entities(example, caption, mentions) if one.is_thing]
        return self._by_byte(caption, [(one, one.name) for one in things])

    def _liken(self, example, caption, mentions):
        """{"caption_attributes": for each byte of a word for a thing the bucket of the attribute that stands before it, int32
        [C], -1 for the others}, where attributes are told. A word for an attribute has no map of its own to learn: the two
        would part, and the maps of things with them."""
        if self.config.attributes != "told":
            return {}
        found = sorted(self._entities(example, caption, mentions), key=lambda one: one.start)
        pairs = [(thing, before.name) for before, thing in zip(found, found[1:], strict=False)
                 if thing.is_thing and not before.is_thing and thing.start - before.end <= NEAR]  # fmt: skip
        return {"caption_attributes": self._by_byte(caption, pairs)}

    def _by_byte(self, caption, named):
        """Buckets int32 [C] of pairs (entity, name) at the bytes of each entity, -1 elsewhere."""
        names = np.full(self.config.caption_length, -1, np.int32)
        for entity, name in named:
            start, end = (len(caption[:at].encode("utf-8", errors="replace")) for at in (entity.start, entity.end))
            names[start:end] = bucket(name)
        return names

    def _fill(self, example, captions, mentions, first, rng):
        """First text, then third text and gloss where they are drawn and fit. None if nothing can be masked."""
        config = self.config
        room = config.text_length - 1
        text, found = cut(captions[first], room), self._entities(example, captions[first], mentions[first])
        text = text[: min([len(text), *(e.start for e in found if e.end > len(text))])]  # no word is cut in two
        found = [e for e in found if e.end <= len(text) and (e.is_thing or config.attributes == "masked")]
        found = found[: byte_ids.SENTINELS // 2]
        chosen = masking.choose_entities(found, rng, config.mask_most)
        if not chosen:
            return None
        spans, names = [(e.start, e.end) for e in chosen], [e.name for e in chosen]
        things = [e.thing for e in chosen]
        masked = masking.append_text(masking.Masked(), text, spans, 0, mask_span=config.mask_span, names=things)
        if target_bytes(masked) > config.target_length or len(masked) > config.text_length:
            return None
        want_third, want_gloss = rng.random() < config.third, rng.random() < config.gloss
        if want_third:
            self._append_third(masked, example, captions, mentions, first, names, rng)
        if want_gloss and chosen[0].is_thing:
            self._append_gloss(masked, example, captions, text[chosen[0].start : chosen[0].end])
        return masked

    def beside_further(self, example, caption, span, third, gloss, rng):
        """Text number `caption` of an example with a word masked, behind it a third text or the gloss of its sense, as far as
        there is one and it fits -> (ids, segments), as `masking.finish` gives them."""
        captions = example["captions"]
        mentions, text = example.get("mentions") or [None] * len(captions), captions[caption]
        names = [one.name for one in self._entities(example, text, mentions[caption]) if (one.start, one.end) == tuple(span)]
        masked = masking.append_text(masking.Masked(), text, [span], 0, mask_span=self.config.mask_span)
        if third:
            self._append_third(masked, example, captions, mentions, caption, names, rng)
        if gloss:
            self._append_gloss(masked, example, captions, text[slice(*span)])
        return masking.finish(masked)[:2]

    def _append_third(self, masked, example, captions, mentions, first, names, rng):
        """Claim 5: one more text tied to the image, its words related to the masked one masked as targets too."""
        own = captions[first].strip().lower()  # which another annotator may have written too
        pool = [(c, m) for c, m in zip(captions, mentions, strict=True) if c.strip().lower() != own]
        if self.third_texts is not None:
            pool += self.third_texts(example, names)
        if not pool:
            return
        text, mention = pool[int(rng.integers(len(pool)))]
        inventory = self.inventories.get(example["lang"])

        def related(name):
            """Of the sense that the captions tell, where there are several; of none of them where they do not."""
            if inventory is None:
                return frozenset((name,))
            if len(inventory.senses(name)) < 2:
                return inventory.related(name)
            sense = self._sense(example["lang"], name, tuple(captions))
            return inventory.related(name, () if sense is None else (sense,))

        hits = masking.related_entities(self._entities(example, text, mention), names, related)
        if hits and len(masked.words) + len(hits) <= byte_ids.SENTINELS:
            spans = [(e.start, e.end) for e in hits]
            self._append_if_fits(masked, text, spans, 1, names=[e.thing for e in hits])

    def _append_gloss(self, masked, example, captions, word):
        """Claims 6, 7: the best sense's gloss as its own segment; whatever is masked elsewhere is masked inside it too."""
        sense = self._sense(example["lang"], word, tuple(captions))
        if sense is None:
            return
        line, spans = senses.gloss_line(word, sense, self.inventories[example["lang"]])
        more, numbers = masking.occurrences(line, masked.words)
        self._append_if_fits(masked, line, [*spans, *more], 2, numbers=[0] * len(spans) + numbers)

    def _choose_sense(self, lang, word, captions):
        inventory = self.inventories.get(lang)
        lemma = inventory.lemma(word) if inventory is not None else None
        if lemma is None:
            return None
        scorer, threshold = self.scorers[lang], self.config.gloss_threshold
        threshold = scorer.threshold if threshold < 0 else threshold
        return senses.choose_sense(inventory.senses(lemma), captions, word, scorer, threshold)

    def _append_if_fits(self, masked, text, spans, segment, numbers=None, names=None):
        """Append a whole further segment, or nothing: half a text would be noise."""
        trial = masking.Masked(words=list(masked.words), names=list(masked.names))
        masking.append_text(trial, text, spans, segment, mask_span=self.config.mask_span, numbers=numbers, names=names)
        owed = sum(len(piece) for piece in trial.target)
        if len(masked) + len(trial) <= self.config.text_length and target_bytes(masked) + owed <= self.config.target_length:
            masked.ids += trial.ids
            masked.segments += trial.segments
            masked.target += trial.target
            masked.words, masked.names = trial.words, trial.names


def bucket(name):
    """The hash bucket of an entity's name."""
    return zlib.crc32(name.encode()) % NAME_BUCKETS


def gap_names(ids, names):
    """For each gap of a masked text, ids int32 [T], the bucket of what its word names: int32 [T], -1 for all else."""
    told = np.array([bucket(name) if name else -1 for name in names] + [-1], np.int32)
    numbers = np.where(ids >= byte_ids.FIRST_SENTINEL, ids - byte_ids.FIRST_SENTINEL, len(names))
    return told[np.minimum(numbers, len(names))]


def name_ids(names):
    """Hash buckets of entity names, int32 [NAMES], -1 where there are fewer. A name counts as often as it is given."""
    ids = [bucket(name) for name in names][:NAMES]
    return np.array(ids + [-1] * (NAMES - len(ids)), np.int32)


def as_tuple(mentions):
    """Mentions as something to look up by; None stays None."""
    return None if mentions is None else tuple(mentions)


def caption_prompt(lang):
    """What the encoder reads when a caption in `lang` is asked for."""
    return f"{lang}:"


def target_bytes(masked):
    """Length of the target with its end mark."""
    return sum(len(piece) for piece in masked.target) + 1

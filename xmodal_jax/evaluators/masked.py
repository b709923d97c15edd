"""Masked words of held-out examples with the right, a wrong and no image, beside what needs no image at all."""

import collections
import json
import os
import re

import jax
import numpy as np

from xmodal_jax.data import masking
from xmodal_jax.data.examples import FILL
from xmodal_jax.errors import UserError
from xmodal_jax.evaluators.held_out import drawn, lower_end, parts
from xmodal_jax.files import replace_text
from xmodal_jax.models.verbs import Verbs
from xmodal_jax.objectives.language import masked_words
from xmodal_jax.spelling import runs

TOKEN = re.compile(runs(r"\w"))
FURTHER = {"third": (True, False), "gloss": (False, True)}
PORTIONS = 16  # of the words, over which the interval of a difference is taken


class MaskedEvaluator:
    """Metrics of `count` held-out examples:

    masked/{right,wrong,no}_image/word, words that are written as they stood there, the one masked word of a caption, without a
    third text or a gloss; the wrong image is that of another example without the word's thing. masked/gain and gain_low, right
    - wrong and the lower end of its 95 % interval; masked/gain_none, right - none, and gain_none_low. masked/words: how many.
    masked/baseline/frequency, the commonest masked word of the training captions in that language; masked/baseline/ngram, the
    commonest between the same two neighbours, else behind the same one, else before it.
    masked/{right,no}_image/{rare,common}_word: of the words that stand in those captions less often than the median of those
    asked, and of the others; with `further` the same, and all words, beside a third text and beside a gloss: {right,no}_image/
    third/word, .../gloss/rare_word, ... (a further text says what it can, with the asked word and its kin masked there too).
    masked/{right,wrong,no}_image/{byte,loss}, teacher-forced, of rows as they are trained on; the wrong image there is that of
    another row.

    Args:
      count: held-out examples, 0: all; train: training examples that the baselines know.
      words: a file of which words are asked, one JSON a line: {"id" of the example, "caption" its number, "start", "end" in
        characters}. It is written, before the training begins, where there is none.
      further: ask beside further texts too.
    """

    def __init__(self, recipe, count=256, rows=64, train=2000, words="", further=False):
        make, source = recipe.maker.plain(), recipe.held_out
        numbers = drawn(source, count)
        held_out = [make(source[numbers[i % len(numbers)]], i) for i in range(min(count or len(source), 4 * len(source)))]
        held_out = [row for row in held_out if row["task"] == FILL and row["second_length"] > 0]
        self.batches = []
        for start in range(0, len(held_out), rows):
            part = held_out[start : start + rows]
            weight = len(part)
            part = part + [dict(part[-1], task=np.int32(-1))] * (rows - weight)  # padding rows belong to no task
            batch = {key: np.stack([row[key] for row in part]) for key in part[0]}
            turn = np.roll(np.arange(weight), 1) if weight > 1 else np.arange(1)
            self.batches.append((batch, np.concatenate([turn, np.arange(weight, rows)])))
        self.run_batch = jax.jit(lambda params, batch: masked_words(Verbs(recipe.model, params), batch, None, {}))
        examples = [source[i] for i in numbers]
        self.rows, self.items = rows, asked(examples, make, read_words(words) if os.path.exists(words) else None)
        for i, item in enumerate(self.items if further else ()):
            given = item["example"], item["caption"], item["span"]
            item["further"] = {kind: make.beside_further(*given, *FURTHER[kind], np.random.default_rng(i)) for kind in FURTHER}
        if words and not os.path.exists(words):
            write_words(words, self.items)
        self.baselines = self.blind(recipe.train, make, train) if self.items else {}

    def blind(self, train, maker, count):
        """Shares of the words that need no picture, from the words of things, and those that are asked, in the captions of
        `count` training examples."""
        neighbours, words = Neighbours(), {item["word"].lower() for item in self.items}
        for i in range(0, len(train), -(-len(train) // count)):
            captions, mentions, lang = train.captions(i)
            for caption, given in zip(captions, mentions or [None] * len(captions), strict=True):
                spans = {(e.start, e.end) for e in masking.things(caption, given, maker.inventories.get(lang))}
                spans |= {token.span() for token in TOKEN.finditer(caption) if token.group().lower() in words}
                for span in spans:
                    neighbours.add(lang, caption, *span)
        right = {"frequency": 0, "ngram": 0}
        for item in self.items:
            item["seen"] = neighbours.seen(item["lang"], item["word"])
            told = neighbours.told(item["lang"], item["text"], *item["span"])
            right = {name: right[name] + (told[name] == item["word"].lower()) for name in right}
        return {f"baseline/{name}": found / len(self.items) for name, found in right.items()}

    def run(self, predictor):
        sums = {}
        for batch, turn in self.batches:
            versions = {
                "right_image": batch,
                "wrong_image": batch | {key: batch[key][turn] for key in ("second", "second_length")},
                "no_image": batch | {"second_length": np.zeros_like(batch["second_length"])},
            }
            for name, version in versions.items():
                loss, metrics = self.run_batch(predictor.params, version)
                for key, value in jax.device_get({"loss": loss, "byte": metrics["masked_byte"]}).items():
                    total = sums.setdefault(f"masked/{name}/{key}", [0.0, 0.0])
                    total[0] += float(value.total)
                    total[1] += float(value.weight)
        results = {name: total / max(weight, 1e-8) for name, (total, weight) in sums.items()}
        if self.items:
            results |= {f"masked/{name}": float(value) for name, value in (self.words(predictor) | self.baselines).items()}
        return results, []

    def words(self, predictor):
        """Metrics of the words that are written into the gaps."""
        right = {}
        for name, shown in (("right_image", "example"), ("wrong_image", "wrong"), ("no_image", None)):
            written = []
            for part in parts(self.items, self.rows):
                pictures = [item[shown] if shown else None for item in part]
                written += predictor.fill_batch(pictures, [i["text"] for i in part], [i["span"] for i in part])[0]
            right[name] = self.told(written)
        results = {f"{name}/word": values.mean() for name, values in right.items()} | {"words": len(self.items)}
        shares = {name: values for name, values in right.items() if name != "wrong_image"} | self.further(predictor)
        seen = np.array([item["seen"] for item in self.items])
        for kind, chosen in (("", seen >= 0), ("rare_", seen < np.median(seen)), ("common_", seen >= np.median(seen))):
            results |= {f"{name}/{kind}word": values[chosen].mean() for name, values in shares.items() if chosen.any()}
        for name, other in (("gain", "wrong_image"), ("gain_none", "no_image")):
            gains = right["right_image"] - right[other]
            portions = [gains[start::PORTIONS].mean() for start in range(min(PORTIONS, len(gains)))]
            results |= {name: gains.mean(), f"{name}_low": lower_end(portions)}
        return results

    def further(self, predictor):
        """{"right_image/third", ...: which words are right beside further texts, float [items]}, where these are asked for."""
        out = {}
        for kind in self.items[0].get("further", ()):
            for name, shown in (("right_image", "example"), ("no_image", None)):
                written = []
                for part in parts(self.items, self.rows):
                    ids, segments = zip(*(item["further"][kind] for item in part), strict=True)
                    written += predictor.fill_masked([item[shown] if shown else None for item in part], ids, segments)[0]
                out[f"{name}/{kind}"] = self.told(written)
        return out

    def told(self, written):
        """Which words are those that stood there, float [items]."""
        return np.array([word.lower() == i["word"].lower() for word, i in zip(written, self.items, strict=True)], float)


def asked(examples, maker, given=None):
    """Of each example one caption with one word masked, that names a thing once: {"example", "wrong" another example without
    that thing and word, "text", "caption" its number, "span", "word", "lang"}. given {id: (caption, start, end)}: these."""
    named = [names_of(example, maker) for example in examples]
    items = []
    for i, example in enumerate(examples):
        choice = drawn_word(example, maker, np.random.default_rng(i)) if given is None else given.get(example["id"])
        if choice is None:
            continue
        caption, start, end = choice
        text = example["captions"][caption]
        word = text[start:end]
        mentions = (example.get("mentions") or [None] * (caption + 1))[caption]
        found = masking.things(text, mentions, maker.inventories.get(example["lang"]))
        names = {entity.name for entity in found if (entity.start, entity.end) == (start, end)}

        def free(j, names=names, word=word):
            return not (names & named[j] or any(masking.occurrences(other, [word])[0] for other in examples[j]["captions"]))

        others = ((i + step) % len(examples) for step in range(1, len(examples)))
        wrong = next((j for j in others if free(j)), None)
        if wrong is not None:
            items.append({"example": example, "wrong": examples[wrong], "text": text, "caption": caption,
                          "span": (start, end), "word": word, "lang": example["lang"]})  # fmt: skip
    return items


def drawn_word(example, maker, rng):
    """(number of a caption, start, end) of a word in it that names a thing and stands there once, or None."""
    captions, mentions = example["captions"], example.get("mentions") or [None] * len(example["captions"])
    first = int(rng.integers(len(captions)))
    found = masking.things(captions[first], mentions[first], maker.inventories.get(example["lang"]))
    count = collections.Counter(entity.name for entity in found)
    single = [entity for entity in found if count[entity.name] == 1]
    if not single:
        return None
    entity = single[int(rng.integers(len(single)))]
    again = masking.occurrences(captions[first], [captions[first][entity.start : entity.end]])[0][1:]
    return None if again else (first, entity.start, entity.end)


def read_words(path):
    """{id: (caption, start, end)} of a file of words. Raises UserError where a line is none."""
    found = {}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                found[row["id"]] = int(row["caption"]), int(row["start"]), int(row["end"])
            except (ValueError, KeyError, TypeError) as error:
                wanted = '{"id": "1.jpg", "caption": 0, "start": 10, "end": 15}'
                raise UserError(f"{path}:{number}: no line of words ({error}); each is like {wanted}.") from None
    return found


def write_words(path, items):
    rows = ({"id": i["example"]["id"], "caption": i["caption"], "start": i["span"][0], "end": i["span"][1]} for i in items)
    replace_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def names_of(example, maker):
    """The things that an example's captions name."""
    mentions = example.get("mentions") or [None] * len(example["captions"])
    inventory = maker.inventories.get(example["lang"])
    pairs = zip(example["captions"], mentions, strict=True)
    return {entity.name for pair in pairs for entity in masking.things(*pair, inventory)}


class Neighbours:
    """Which words stand between which: counts of training captions, by language."""

    def __init__(self):
        self.counts = collections.defaultdict(collections.Counter)

    def add(self, lang, text, start, end):
        word, (left, right) = text[start:end].lower(), around(text, start, end)
        for key in ((left, right), (left, None), (None, right), (None, None)):
            self.counts[(lang, *key)][word] += 1

    def seen(self, lang, word):
        """How often a word was added."""
        return self.counts[lang, None, None][word.lower()]

    def told(self, lang, text, start, end):
        """{"frequency", "ngram"}: the likeliest word for a gap, "" where nothing is known."""
        left, right = around(text, start, end)
        keys = ((left, right), (left, None), (None, right), (None, None))
        known = [self.counts.get((lang, *key)) for key in keys]
        found = [count.most_common(1)[0][0] for count in known if count]
        every = known[-1].most_common(1)[0][0] if known[-1] else ""
        return {"frequency": every, "ngram": found[0] if found else ""}


def around(text, start, end):
    """The words before and behind a place of a text, in lower case; "" at its ends."""
    before, behind = TOKEN.findall(text[:start].lower()), TOKEN.findall(text[end:].lower())
    return before[-1] if before else "", behind[0] if behind else ""

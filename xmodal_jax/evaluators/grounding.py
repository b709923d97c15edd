"""Does each word look at its own thing? Association maps against boxes, and what becomes of the words when they are changed."""

import functools
import re

import numpy as np

from xmodal_jax.data import bytes as byte_ids
from xmodal_jax.data.bytes import cut, with_end
from xmodal_jax.data.masking import ATTRIBUTE
from xmodal_jax.errors import UserError
from xmodal_jax.evaluators.held_out import drawn
from xmodal_jax.evaluators.sense import even
from xmodal_jax.models.crossmodal_bytes import over_groups


class GroundingEvaluator:
    """On held-out captions that name two things, of each of which the picture shows one, with a box: as the source mentions
    them, or, of photos, where a caption has the name of a box in it. A word's map is the mean association of its bytes over the
    patches.

    Metrics, shares in 0..1: grounding/own_over_other, words whose own box gets more of their map than the other thing's box, by
    area; pointing, whose map's peak lies in their own box, beside area, the boxes' share of the picture; mass_over_area, of the
    map in the own box, divided by the box's share; word_correlation, mean over captions, of both words' maps.
    With each word masked in turn, and as candidates what both things are called, by words that do not fit the other:
    grounding/right, whether the masked one's words are the likelier ones;
    association_uniform, the same with an association that is even, chance 1/2; moved_follows, of words that were right, whether
    the other one is, when the association of the whole text is moved to the other word's; gap_moved_follows, when that of the
    gap alone is (the words beside it, which take up what it stands for too, keep theirs). captions: how many there were.
    Bytes of files and sounds have no patches: nothing is told of maps. Of a sound the word of the thing that sounds is masked,
    and there is no other to move to.

    Args:
      count: held-out examples to look for such captions in, 0: all; one caption an example.
    """

    def __init__(self, recipe, count=256, rows=32):
        if not hasattr(recipe.maker, "inventories") or recipe.maker.config.second not in ("image", "audio"):
            raise UserError("config.evaluators.grounding looks at models of crossmodal bytes beside pictures or sounds.")
        config, source, self.rows = recipe.maker.config, recipe.held_out, rows
        self.patches = (config.second, config.image_bytes) == ("image", "raw")
        found = (two_things(source[i], config.text_length, config.second == "audio") for i in drawn(source, count))
        self.items = [item | {"called": called(item, recipe.maker.inventories)} for item in found if item]

    def run(self, predictor):
        if not self.items:
            return {}, []
        parts = [self.items[i : i + self.rows] for i in range(0, len(self.items), self.rows)]
        results = {}
        if self.patches:
            results = looked(np.concatenate([self.maps(predictor, part) for part in parts]), self.items)
        right, even, *moved = (np.concatenate(kind) for kind in zip(*(self.answers(predictor, p) for p in parts), strict=True))
        results |= {"right": right.mean(), "association_uniform": even.mean()}
        for name, follows in zip(("moved_follows", "gap_moved_follows"), moved, strict=False):
            results[name] = follows[right].mean() if right.any() else np.nan
        results["captions"] = len(self.items)
        return {f"grounding/{name}": float(value) for name, value in results.items()}, []

    def maps(self, predictor, items):
        """Maps of both words of captions as they are, [captions, 2, N]."""
        texts = [with_end(item["text"], predictor.examples.text_length) for item in items]
        fused, second = predictor.encode([item["example"] for item in items], texts)
        weights = np.asarray(over_groups(fused.association, second.reduced.assignment))
        return np.stack([[weights[i, token].mean(0) for token in self.tokens(predictor, item)] for i, item in enumerate(items)])

    def tokens(self, predictor, item):
        """Slices of text tokens of both words."""
        window = predictor.model.text_window
        return [slice(start // window, max(start // window + 1, -(-end // window))) for start, end in item["bytes"]]

    def answers(self, predictor, items):
        """With each word masked in turn: (right, right with an even association, the other one with the other's in the whole
        text, in the gap alone) bool [2 n]; of sounds the first two [n]."""
        masked = [(item, own) for item in items for own in item["asked"]]
        asked = [
            {"text": item["text"], "span": item["spans"][own], "expressions": [item["called"][own], item["called"][1 - own]]}
            for item, own in masked
        ]
        seconds = [item["example"] for item, _ in masked]

        def moved(texts, association, whole=True):
            out, window = association.copy(), predictor.model.text_window
            for row, ids in enumerate(texts):
                item, own = masked[row]
                gap = np.flatnonzero(ids >= byte_ids.FIRST_SENTINEL)
                (start, end), shift = item["bytes"][1 - own], 0
                if start > item["bytes"][own][0]:  # behind the gap, which is shorter or longer than the word
                    shift = len(gap) - (item["bytes"][own][1] - item["bytes"][own][0])
                other = slice((start + shift) // window, max((start + shift) // window + 1, -(-(end + shift) // window)))
                there = association[row].any(-1) if whole else gap // window
                out[row, there] = association[row, other].mean(0)
            return out

        found = []
        moves = [moved, functools.partial(moved, whole=False)] if len(masked) == 2 * len(items) else []
        for change in (None, even, *moves):
            shares = predictor.sense_probabilities(seconds, asked, change)
            found.append(np.array([share.argmax() for share in shares]))
        return found[0] == 0, found[1] == 0, *(other == 1 for other in found[2:])


def two_things(example, length, heard=False):
    """The first caption of an example that names two things of which it has one each, whole within `length` bytes: {"example",
    "text", "words", "spans", "bytes", "boxes", "asked" numbers of the words to mask}; None where there is none. The same word
    for both would tell nothing. heard: the thing that sounds is asked for, and has to be one of both."""
    boxes = {}
    for thing in example.get("objects") or ():
        boxes.setdefault(thing["name"], []).append(thing["box"])
    single = {name: found[0] for name, found in boxes.items() if len(found) == 1}
    mentioned = example.get("mentions") or [named_in(text, boxes) for text in example["captions"]]
    sounding = example["objects"][example["audio_object"]]["name"] if heard else ""
    for text, mentions in zip(example["captions"], mentioned, strict=True):
        if len(text.encode("utf-8", errors="replace")) >= length or cut(text, length - 1) != text:
            continue
        named = {}
        for start, end, name in (mention for mention in mentions if not mention[2].startswith(ATTRIBUTE)):
            named.setdefault(name, []).append((start, end))
        pairs = [(name, spans[0]) for name, spans in named.items() if len(spans) == 1 and name in single]
        if len(named) != 2 or len(pairs) != 2:
            continue
        words = [text[slice(*span)] for _, span in pairs]
        names = [name for name, _ in pairs]
        if words[0].lower() == words[1].lower() or (heard and sounding not in names):
            continue
        return {
            "example": example, "text": text, "lang": example.get("lang", ""), "words": words,
            "names": names, "spans": [span for _, span in pairs], "asked": (names.index(sounding),) if heard else (0, 1),
            "bytes": [tuple(len(text[:at].encode("utf-8", errors="replace")) for at in span) for _, span in pairs],
            "boxes": np.array([single[name] for name, _ in pairs], np.float64),
        }  # fmt: skip
    return None


def named_in(text, names):
    """[(start, end, name)] of names that stand in a text as whole words, in singular or plural."""
    found = []
    for name in names:
        whole = rf"(?<!\w){re.escape(name)}(?:e?s)?(?!\w)"
        found += [(*match.span(), name) for match in re.finditer(whole, text, re.IGNORECASE)]
    return sorted(found)


def called(item, inventories):
    """What each of an item's two things is called, [words, words]: words that do not fit the other, its own among them."""
    found = [expressions(inventories.get(item["lang"]), *pair) for pair in zip(item["words"], item["names"], strict=True)]
    return [[w for w in found[i] if w == item["words"][i] or w not in found[1 - i]] for i in (0, 1)]


def expressions(inventory, word, name):
    """The word for the thing `name`, and the synonyms and hypernyms of its sense, where the inventory has it under the word or
    below it."""
    lemma = inventory.lemma(word) if inventory is not None else None
    if lemma is None:
        return [word]
    for near in (lemma, *(below for sense in inventory.senses(lemma) for below in sense.hyponyms)):
        for sense in inventory.senses(near):
            if sense.id == name:
                return list(dict.fromkeys((word, near, *sense.synonyms, *sense.hypernyms)))
    return [word]


def looked(maps, items):
    """Metrics of maps [captions, 2, N] of the words of items."""
    side = int(np.sqrt(maps.shape[-1]))
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)  # x, y of each patch
    own_over_other, pointing, areas, gains, correlations = [], [], [], [], []
    for both, item in zip(maps, items, strict=True):
        boxes = item["boxes"] * side
        covered = np.stack(
            [np.prod(np.clip(np.minimum(grid + 1, box[2:]) - np.maximum(grid, box[:2]), 0, None), -1) for box in boxes]
        )  # [2, N], of each patch the part within each box
        area = np.maximum(covered.sum(-1), 1e-9)
        for own in (0, 1):
            density = covered @ both[own] / area  # of the map, in both boxes
            own_over_other.append(density[own] > density[1 - own])
            peak = grid[both[own].argmax()] + 0.5
            pointing.append(bool((peak >= boxes[own][:2]).all() and (peak <= boxes[own][2:]).all()))
            areas.append(area[own] / side**2)
            gains.append((covered[own] @ both[own]) / max(both[own].sum(), 1e-9) / (area[own] / side**2))
        spread = both.std(-1)
        correlations.append(np.corrcoef(both)[0, 1] if (spread > 1e-9).all() else 1.0)
    values = {"own_over_other": own_over_other, "pointing": pointing, "area": areas, "mass_over_area": gains}
    return {name: np.mean(found) for name, found in (values | {"word_correlation": correlations}).items()}

"""From an example to the views of a pair that objectives of fused models learn from: words or regions masked, a text that is
another's.

Letters: T text length with all end marks, K masked words at most, R regions.
"""

import copy
import dataclasses
import os
import zlib

import numpy as np

from xmodal_jax.data.answering import usual
from xmodal_jax.data.augment import augment
from xmodal_jax.data.pair_examples import IMAGE, PAIR, TEXT
from xmodal_jax.data.pair_regions import RegionMaker
from xmodal_jax.data.patch_codes import nearest, patches
from xmodal_jax.data.word_masks import chosen_words, continues, shaken
from xmodal_jax.data.writing import MASKING, PROMPTS, SAID, missing, numbered, split

TRIES = 20  # draws, before what may be impossible is given up


class PairMaker(RegionMaker):
    """Also gives, as far as its config asks for them:
    "caption_types" int32 [T], 1 for the second text;
    "other" int32 [T] with "other_length", "other_types" and "match" (1: it is the picture's own, 0: it is not, -1: not asked);
    "masked" int32 [T], "masked_places" int32 [K] and "masked_words" int32 [K] (-1: none);
    "source" and "target" int32 [T] with "source_length" and "target_length";
    "answer" int32 [] (-1: none); "group" int32 []; "causal" bool []; "alone" int32 [] (`PAIR`, `TEXT` or `IMAGE`);
    "image_second" and "caption_second" with "caption_second_length"; "codes" int32 [N] of the patches and "codes_hidden" bool
    [N]; "cell_place" float32 [], within 0..1, or -1;
    of regions "boxes" [R, 4], "regions_there", "regions_hidden" and "regions_target" (masked, though perhaps shown) bool [R],
    "regions_replaced" (which show another picture's), "region_class" int32 [R] (-1: unknown), "region_attribute" likewise, and
    where they are read from a file "region_features" float32 [R, F].

    Args: those of `RegionMaker`; answers: that can be given, in the order of their numbers; centroids: of patches. lines,
    pictures: `alone.Texts` and `alone.Pictures`, of which those are that stand alone; without any, halves of pairs. The
    tokeniser needs a mask token where words are masked.
    """

    def __init__(self, *args, answers=(), centroids=None, lines=(), pictures=(), **kwargs):
        super().__init__(*args, **kwargs)
        self.lines, self.pictures, self.answers = lines, pictures, tuple(answers)
        self.centroids, self.augment = centroids, {name: getattr(self.config, name) for name in ("flips", "zoom", "brightness")}
        self._answer = {answer: number for number, answer in enumerate(self.answers)}

    def over(self, source):
        """The same for held-out examples: over their source, whose texts are those of wrong pairs, and no picture changed."""
        other = copy.copy(self)
        other.source, other.config = source, dataclasses.replace(self.config, flips="none", zoom=1.0, brightness=0.0)
        other.lines = other.pictures = ()
        return other

    @property
    def files(self):
        """That texts and pictures by themselves are read from."""
        return [file for alone in (self.lines, self.pictures) if alone for file in alone.files]

    @property
    def places(self):
        """K: of the longest text, and a few more, so that its last word is masked whole."""
        words = self.config.length + self.config.second_length * (self.config.second != "none")
        return int(np.ceil(words * self.config.mask_share)) + 3 * (self.config.masked != "random")

    def __call__(self, example, position):
        config = self.config
        if config.features:
            example = example | {"found": self.of_file_or_none(example)}  # once
        made = super().__call__(example, position)
        rng = np.random.default_rng((self.seed, position, 1))  # the caption stays that of a model without these views
        if config.causal:
            made["causal"] = np.bool_(rng.random() < config.causal)
        question = {}
        if config.asked:
            question = self.asked(example, rng)
            made |= question
        if config.text_alone or config.image_alone:
            drawn = rng.random()
            made["alone"] = np.int32(TEXT if drawn < config.text_alone else IMAGE if drawn > 1 - config.image_alone else PAIR)
            if made["alone"] == IMAGE and len(self.pictures):
                number = int(np.random.default_rng((self.seed, position, 2)).integers(len(self.pictures)))
                image = self.pictures.take(number, config.image_size, config.mode)
                example = {"id": f"pictures/{number}", "image": image, "captions": [""]}
                made |= super().__call__(example, position)
            if made["alone"] == TEXT and self.lines:
                number = int(np.random.default_rng((self.seed, position, 2)).integers(len(self.lines)))
                example = example | {"id": f"texts/{number}", "captions": [self.lines[number]]}
                made |= named("caption", self.caption(self.lines[number]))
            if made["alone"] == IMAGE:
                made |= named("caption", self.caption(""))
        first = made["caption"][1 : int(made["caption_length"])].tolist()
        if config.second != "none":
            made |= named("caption", self.laid(first, self.second(example, first, rng)))
        if config.other != "none":
            made |= self.matched(example, first, made, rng, "caption" in question)
        if config.masked != "none":
            text = "other" if config.joint else "caption"
            made |= self.masked(made[text], int(made[f"{text}_length"]), rng)
        if config.written != "none":
            source, target = self.to_write(example, first, rng)
            made |= named("source", self.framed(source)) | named("target", self.framed(target))
        if config.groups:
            made["group"] = np.int32(zlib.crc32(example["id"].encode("utf-8", "surrogatepass")) >> 8)  # exact as a float32
        if config.views > 1:
            made["image_second"] = augment(self.picture(example), rng, **self.augment)
            made |= named("caption_second", self.framed(shaken(first, rng)))
        if config.cell_share:
            made["cell_place"] = np.float32(rng.random() if rng.random() < config.cell_share else -1)
        if config.codes:
            made |= self.coded(made["image"], rng)
            if config.regions:
                made["boxes"] = self.regions(example)  # of the changed picture too the regions are its patches
        if config.features:
            made["region_features"] = self.features(example)
        if config.regions:
            made |= self.hidden(example, made["boxes"], rng)
            if made.get("alone") == TEXT:
                made |= {name: np.zeros_like(value) for name, value in made.items() if name.startswith("regions_")}
        return self.drawn(made, rng) if config.draw else made

    def drawn(self, made, rng):
        """A joint row with but one of its tasks."""
        shares = np.array(self.config.draw, np.float64)
        task = rng.choice(3, p=shares / shares.sum())
        if task != 0:
            own = {name.replace("caption", "other"): made[name] for name in made if name.startswith("caption")}
            made = made | own | {"match": np.int32(-1)}
        if task == 1:
            made = made | self.masked(made["other"], int(made["other_length"]), rng)
        else:
            made = made | {"masked": made["other"], "masked_words": np.full_like(made["masked_words"], -1)}
        if task != 2 and self.config.regions:
            unseen = {name for name in made if name.startswith("regions_")} - {"regions_there"}
            made = made | {name: np.zeros_like(made[name]) for name in unseen}
        return made

    def laid(self, first, second):
        """Ids of two texts -> (int32 [T] with end marks around both, place of the closing one, types int32 [T])."""
        config = self.config
        ids = np.full(config.length + config.second_length + 3, self.end, np.int32)
        second = second[: config.second_length]
        begins, ends = len(first) + 2, len(first) + len(second) + 2
        ids[: begins - 1], ids[begins:ends] = [self.begin, *first], second
        types = np.zeros(len(ids), np.int32)
        types[begins : ends + 1] = 1
        return ids, np.int32(ends), types

    def asked(self, example, rng):
        """A question in place of the caption, as often as the config says, and the number of its answer."""
        questions = example.get("questions") or ()
        if not questions or rng.random() >= self.config.asked:
            return {"answer": np.int32(-1)}
        one = questions[int(rng.integers(len(questions)))]
        number = self._answer.get(usual(one["answers"]), -1) if one["answers"] else -1
        return named("caption", self.caption(one["question"])) | {"answer": np.int32(number)}

    def to_write(self, example, ids, rng):
        """Ids of a caption without marks -> (those it is written from, those that are written), see `writing`."""
        things = [thing["name"] for thing in (example.get("objects") or ())[: self.config.regions]]
        lacking = {"answer": not example.get("questions"), "region": not things, "ground": not things}
        kinds = [kind for kind in self.config.kinds if not lacking.get(kind)] or ["caption"]
        kind = kinds[int(rng.integers(len(kinds)))] if len(kinds) > 1 else kinds[0]
        if kind == "caption":
            return [], ids
        if kind == "prefix":
            return split(ids, rng)
        if kind in MASKING:
            source, target = missing(ids, kind, self.tokenizer.mask_token_id, rng)
        elif kind == "answer":
            one = example["questions"][int(rng.integers(len(example["questions"])))]
            source, target = self.ids(one["question"]), self.ids(usual(one["answers"]) if one["answers"] else "")
        elif kind == "match":
            wrong = self.wrong(example, rng) if rng.random() < 0.5 else None
            source, target = ids if wrong is None else self.ids(wrong), self.ids(SAID[wrong is None])
        else:
            number = int(rng.integers(len(things)))
            source, target = self.ids(numbered(number)), self.ids(things[number])
            if kind == "ground":
                source, target = target, source
        prompt = self.ids(PROMPTS[kind]) if kind in PROMPTS else []
        return (prompt + source)[: self.config.length], target

    def coded(self, image, rng):
        """Numbers of the patches of a picture, and which of them are hidden."""
        codes = nearest(patches(image, self.config.code_patch), self.centroids)
        if self.config.code_share < 0:
            return {"codes": codes}
        share = self.config.code_share or rng.random()
        hidden = rng.random(len(codes)) < share
        hidden[rng.integers(len(codes))] = True
        return {"codes": codes, "codes_hidden": hidden}

    def framed(self, ids):
        """Ids between end marks -> (int32 [T], place of the closing one)."""
        laid = np.full(self.config.length + 2, self.end, np.int32)
        laid[: len(ids) + 1] = [self.begin, *ids]
        return laid, np.int32(len(ids) + 1)

    def second(self, example, first, rng):
        """Ids of the text behind the caption `first`: tags, or another caption, since the same one would tell its words."""
        if self.config.second == "tags":
            return self.ids(" ".join(thing["label"] for thing in example.get("objects", ())))
        found = [ids for ids in map(self.ids, example["captions"]) if ids != first]
        return found[int(rng.integers(len(found)))] if found else []

    def matched(self, example, first, made, rng, question=False):
        """The own text, or another picture's: a question in place of a question, so that no text tells by itself."""
        alone = made.get("alone", PAIR) != PAIR
        text = self.wrong(example, rng, question) if rng.random() < 0.5 and not alone else None
        if text is None:
            own = {name.replace("caption", "other"): made[name] for name in made if name.startswith("caption")}
            return own | {"match": np.int32(-1 if alone else 1)}
        told = self.laid(first, self.ids(text)) if self.config.second != "none" else self.caption(text)
        return named("other", told) | {"match": np.int32(0)}

    def wrong(self, example, rng, question=False):
        """A text of another picture that is none of this one's, or None where none was found."""
        if self.config.second == "tags":
            own = sorted(thing["label"] for thing in example.get("objects", ()))
            for _ in range(TRIES):
                labels = self.source.labels(int(rng.integers(len(self.source))))
                if labels and sorted(labels) != own:
                    return " ".join(labels)
            return None
        own = [one["question"] for one in example["questions"]] if question else example["captions"]
        for _ in range(TRIES):
            other = int(rng.integers(len(self.source)))
            texts = [one["question"] for one in self.source.questions(other)] if question else self.source.captions(other)[0]
            text = texts[int(rng.integers(len(texts)))] if texts else None
            if text and text not in own:
                return text
        return None

    def masked(self, ids, length, rng):
        """Ids with end marks, the closing one at `length` -> the text masked, where, and what stood there."""
        config, hidden = self.config, ids.copy()
        words = self.words_of(ids, length)
        if not words:
            return {"masked": hidden} | self.unmasked()
        count = min(self.places, max(1, round(sum(map(len, words)) * config.mask_share)))
        chosen = chosen_words(words, config.masked, count, self.places, rng)
        places, wanted = self.unmasked().values()
        for number, place in enumerate(sorted(chosen)):
            places[number], wanted[number] = place, ids[place]
            drawn = rng.random()
            if drawn < config.replaced:
                hidden[place] = rng.integers(self.vocabulary)
            elif drawn >= config.replaced + config.retained:
                hidden[place] = self.tokenizer.mask_token_id
        return {"masked": hidden, "masked_places": places, "masked_words": wanted}

    def unmasked(self):
        """No place is masked."""
        return {"masked_places": np.zeros(self.places, np.int32), "masked_words": np.full(self.places, -1, np.int32)}

    def words_of(self, ids, length):
        """Places of the tokens of each word between the end marks, and of the closing one where that is masked too: [[place,
        ...], ...]."""
        places = [place for place in range(1, length) if ids[place] != self.end]
        closing = [[length]] * bool(self.config.mask_end and places)
        if self.config.masked == "random":
            return [[place] for place in places] + closing
        pieces = self.tokenizer.convert_ids_to_tokens(ids[places])
        words = []
        for place, piece in zip(places, pieces, strict=True):
            if words and words[-1][-1] == place - 1 and continues(piece, pieces):
                words[-1].append(place)
            else:
                words.append([place])
        return words + closing

    def beside(self, picture, image):
        if self.config.regions:
            if not isinstance(picture, dict):
                picture = {"id": os.fspath(picture)} if isinstance(picture, str | os.PathLike) else {}
            boxes = self.regions(picture)
            given = {"features": self.features(picture)} if self.config.features else {}
            return {"boxes": boxes, "there": (boxes[:, 2:] - boxes[:, :2]).min(-1) > 0} | given
        drawn = self.config.codes and self.config.code_share < 0
        return {"codes": nearest(patches(image, self.config.code_patch), self.centroids)} if drawn else {}

    def example_batch(self, rows):
        batch, config = super().example_batch(rows), self.config
        text = ["length"]
        if config.second != "none":
            batch["caption"], text = np.zeros((rows, config.length + config.second_length + 3), np.int32), ["length", "types"]
            batch["caption_types"] = np.zeros_like(batch["caption"])
        T = batch["caption"].shape[1]
        if config.masked != "none":
            batch |= {"masked": np.zeros((rows, T), np.int32)}
            batch |= {name: np.zeros((rows, self.places), np.int32) for name in ("masked_places", "masked_words")}
        if config.other != "none":
            batch |= {"other": np.zeros((rows, T), np.int32), "match": np.zeros(rows, np.int32)}
            batch |= {f"other_{name}": np.zeros_like(batch[f"caption_{name}"]) for name in text}
        if config.written != "none":
            for name in ("source", "target"):
                batch |= {name: np.zeros((rows, config.length + 2), np.int32), f"{name}_length": np.zeros(rows, np.int32)}
        for name, kind, share in (
            ("answer", np.int32, config.asked), ("causal", bool, config.causal),
            ("alone", np.int32, config.text_alone + config.image_alone),
        ):  # fmt: skip
            if share:
                batch[name] = np.zeros(rows, kind)
        if config.views > 1:
            batch["image_second"] = np.zeros_like(batch["image"])
            batch |= {"caption_second": np.zeros((rows, config.length + 2), np.int32)}
            batch["caption_second_length"] = np.zeros(rows, np.int32)
        if config.codes:
            patches = (config.image_size // config.code_patch) ** 2
            batch |= {"codes": np.zeros((rows, patches), np.int32), "codes_hidden": np.zeros((rows, patches), bool)}
            if config.code_share < 0:
                del batch["codes_hidden"]
        if config.cell_share:
            batch["cell_place"] = np.zeros(rows, np.float32)
        if config.groups:
            batch["group"] = np.zeros(rows, np.int32)
        return batch | self.region_batch(rows)


def named(name, text):
    """(ids, length[, types]) as arrays of a batch."""
    return dict(zip((name, f"{name}_length", f"{name}_types"), text, strict=False))

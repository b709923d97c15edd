"""From an example dictionary to the fixed-shape arrays of a captioner: a picture and one of its captions.

Letters: H, W pixels, T text length with both end marks, K names.
"""

import dataclasses

import numpy as np

from xmodal_jax.data.augment import FLIPS, augment_with_boxes
from xmodal_jax.data.images import picture_of
from xmodal_jax.data.tokenizers import content_words
from xmodal_jax.errors import UserError
from xmodal_jax.spelling import spelled

NAMES = 24  # ids of content words kept of a picture
THERE, ABSENT, UNSAID = 1, 0, -1  # a phrase means one object of the picture, or none, or there is no phrase


@dataclasses.dataclass(frozen=True)
class CaptionExamples:
    """How a captioner's training examples are made.

    Attributes:
      image_size: pixels of the square picture; mode: how it is made square, see `data.images.decode_image`.
      length: words of a caption at most, the closing end mark not counted.
      tokenizer: "words", "words:N" or "bpe:V" learned from the training captions, else a folder or a name on the hub.
      flips, zoom, brightness: of training pictures, see `augment`.
      shuffled: give every picture the captions of another one, as a control: a captioner can then learn the language alone.
      phrases: so many phrases a picture that mean one object of it, or none.
    """

    image_size: int = 128
    mode: str = "resize"
    length: int = 32
    tokenizer: str = "words"
    flips: str = "horizontal"
    zoom: float = 1.0
    brightness: float = 0.0
    shuffled: bool = False
    phrases: int = 0

    def __post_init__(self):
        if self.flips not in FLIPS:
            raise UserError(f"examples.flips={self.flips!r}: must be one of {', '.join(FLIPS)}.")
        if self.zoom < 1 or not 0 <= self.brightness <= 1:
            raise UserError(f"examples.zoom={self.zoom} must be at least 1, examples.brightness={self.brightness} within 0..1.")
        if self.length < 1:
            raise UserError(f"examples.length={self.length}: must be at least 1.")

    def wanted(self):
        """What a source has to give."""
        return {"size": self.image_size, "mode": self.mode, "fields": ("captions", "image") + ("phrases",) * bool(self.phrases)}


class CaptionMaker:
    """Maps (example, position) to arrays, deterministic in (seed, position).

    Args:
      tokenizer: of transformers, with a token that ends a text (eos, else sep). source: gives `captions(i)`, or None: then no
        training examples are made. content: ids of the content words, which name a picture; None: those of the source.
    """

    def __init__(self, config, tokenizer, source, seed=0, content=None):
        self.config, self.tokenizer, self.seed, self.source = config, tokenizer, seed, source
        self.end = next(i for i in (tokenizer.eos_token_id, tokenizer.sep_token_id) if i is not None)
        # BERT begins with [CLS], CLIP with a mark of its own, GPT-2 and what is learned here with the end mark.
        self.begin = next(i for i in (tokenizer.cls_token_id, tokenizer.bos_token_id, self.end) if i is not None)
        self.vocabulary = len(tokenizer)
        self._ids = {}
        if content is None:
            content = content_words([[self.ids(text) for text in source.captions(i)[0]] for i in range(len(source))])
        self.content = frozenset(content)

    def ids(self, text):
        """Ids of a caption, cut to `length`, without end marks."""
        if text not in self._ids:
            self._ids[text] = self.tokenizer(spelled(text), add_special_tokens=False)["input_ids"][: self.config.length]
        return self._ids[text]

    def caption(self, text):
        """-> (int32 [T] from the first mark to the end mark and padded with end marks, place of the closing one)."""
        ids = np.full(self.config.length + 2, self.end, np.int32)
        found = self.ids(text)
        ids[: len(found) + 1] = [self.begin, *found]
        return ids, np.int32(len(found) + 1)

    def text(self, ids):
        """The caption of ids that a decoder wrote, up to the end mark."""
        ids = np.asarray(ids)
        ends = np.flatnonzero(ids == self.end)
        return self.tokenizer.decode(ids[: ends[0]] if len(ends) else ids).strip()

    def picture(self, example):
        """uint8 [H, W, 3] of an example, a path, the bytes of a file, or an array."""
        return picture_of(example, self.config.image_size, self.config.mode)

    def __call__(self, example, position):
        """-> {"image" uint8 [H, W, 3], "caption" int32 [T], "caption_length" [], "names" int32 [K]}, and phrases."""
        config, rng = self.config, np.random.default_rng((self.seed, position))
        captions = example["captions"]
        if config.shuffled:
            captions = self.another(example["id"], captions)
        ids, length = self.caption(captions[int(rng.integers(len(captions)))])
        texts, boxes, said = self.phrases(example, rng)
        boxes = np.concatenate([boxes, self.regions(example)])
        image, boxes = augment_with_boxes(self.picture(example), boxes, rng, config.flips, config.zoom, config.brightness)
        boxes, regions = np.split(boxes, [config.phrases])
        made = {"image": image, "caption": ids, "caption_length": length, "names": self.names(tuple(captions))}
        if len(regions):
            made["boxes"] = regions
        if config.phrases:
            ids, lengths = zip(*map(self.caption, texts), strict=True)
            said = np.where((said == THERE) & ((boxes[:, 2:] - boxes[:, :2]).min(-1) <= 0), UNSAID, said)  # cut off
            made |= {
                "phrase": np.stack(ids),
                "phrase_length": np.array(lengths, np.int32),
                "phrase_box": boxes,
                "phrase_said": said,
            }
        return made

    def regions(self, example):
        """Boxes [R, 4] in 0..1 that belong to the picture whatever its caption, and change with it. Here none."""
        return np.zeros((0, 4), np.float32)

    def beside(self, picture, image):
        """What an image encoder reads beside the pixels `image` of a picture that a finished model is shown: {name: array}."""
        return {}

    def phrases(self, example, rng):
        """As many phrases as the config asks for: (texts, boxes [K, 4], what they are int32 [K]): of an object or of none, in
        equal shares as far as the example has both."""
        true, false = example.get("phrases") or (), example.get("absent") or ()
        texts, boxes, said = [], np.zeros((self.config.phrases, 4), np.float32), []
        for number in range(self.config.phrases):
            if true and (not false or rng.random() < 0.5):
                one = true[int(rng.integers(len(true)))]
                texts.append(one["phrase"])
                boxes[number] = one["box"]
                said.append(THERE)
            else:
                texts.append(false[int(rng.integers(len(false)))] if false else "")
                said.append(ABSENT if false else UNSAID)
        return texts, boxes, np.array(said, np.int32)

    def another(self, name, own):
        """Captions of some other picture, always the same for one name."""
        order = np.random.default_rng(list(name.encode())).permutation(len(self.source))
        return next((other for i in order if (other := self.source.captions(int(i))[0]) != own), own)

    def names(self, captions):
        """Content words of all captions, each as often as it is said, int32 [K], -1 where there are fewer."""
        found = [i for text in captions for i in self.ids(text) if i in self.content][:NAMES]
        return np.array(found + [-1] * (NAMES - len(found)), np.int32)

    def example_batch(self, rows):
        """A batch of zeros with the shapes and types of `rows` examples."""
        size, ids, phrases = self.config.image_size, self.config.length + 2, self.config.phrases
        made = {
            "image": np.zeros((rows, size, size, 3), np.uint8),
            "caption": np.zeros((rows, ids), np.int32),
            "caption_length": np.zeros(rows, np.int32),
            "names": np.zeros((rows, NAMES), np.int32),
        }
        if phrases:
            made |= {
                "phrase": np.zeros((rows, phrases, ids), np.int32),
                "phrase_length": np.zeros((rows, phrases), np.int32),
                "phrase_box": np.zeros((rows, phrases, 4), np.float32),
                "phrase_said": np.zeros((rows, phrases), np.int32),
            }
        return made

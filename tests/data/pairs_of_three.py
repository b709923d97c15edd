"""Three pictures with captions and labels of their things, and a `PairMaker` over them."""

import numpy as np

from xmodal_jax.data.pair_examples import PairExamples
from xmodal_jax.data.pairs import PairMaker
from xmodal_jax.data.tokenizers import MASK, learn_tokenizer

CAPTIONS = [["a red car stops near the old house today"], ["two dogs run and one cat sleeps on a mat"], ["a bird"]]
LABELS = [["car", "house"], ["dog", "cat", "mat", "dog"], []]
FIRST = CAPTIONS[0][0].split()


class Source:
    def __len__(self):
        return 3

    def captions(self, i):
        return CAPTIONS[i], None, "en"

    def labels(self, i):
        return LABELS[i]

    def __getitem__(self, i):
        boxes = [[0.1 * n, 0.1, 0.1 * n + 0.4, 0.6] for n in range(len(LABELS[i]))]
        objects = [{"name": name, "label": name, "box": box} for name, box in zip(LABELS[i], boxes, strict=True)]
        image = np.zeros((8, 8, 3), np.uint8)
        return {"id": str(i), "image": image, "captions": CAPTIONS[i], "lang": "en"} | ({"objects": objects} if objects else {})


def maker(tokenizer=None, seed=0, length=12, **settings):
    if tokenizer is None:
        tokenizer = learn_tokenizer("words:1", [text for texts in CAPTIONS for text in texts])
        tokenizer.add_special_tokens({"mask_token": MASK})
    config = PairExamples(image_size=8, length=length, flips="none", **settings)
    return PairMaker(config, tokenizer, Source(), seed, classes=("car", "cat", "dog"))

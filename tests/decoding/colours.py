"""A question answerer whose every answer and picture can be worked out by hand: it names the colour that most light has."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from tests.conftest import random_params
from xmodal_jax.data.answering import QuestionExamples, QuestionMaker
from xmodal_jax.data.tokenizers import learn_tokenizer
from xmodal_jax.decoding.answers import QuestionPredictor
from xmodal_jax.models.backbones.encoded import Encoded, mask_of
from xmodal_jax.models.perturb import perturbed
from xmodal_jax.models.vqa import VQA

SIDE = 4
COLOURS = ("green", "blue", "red")  # of picture i the first is the brightest, then those that follow in a circle
CHANNEL = {"red": 0, "green": 1, "blue": 2}
RARE = {"grey": -1.0, "pink": -2.0, "brown": -3.0}  # answers that no picture gives: their logits
QUESTION = "what colour is most of it?"


def cell_of(i, colour):
    """(row, column) of picture i that alone has the colour, no two of them alike nor on the diagonal."""
    return (i + CHANNEL[colour]) % SIDE, (i + 2 * CHANNEL[colour] + 1) % SIDE


def picture_of(i):
    """uint8 [SIDE, SIDE, 3]: one pixel of each colour, the likeliest answer's the brightest."""
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    for place, light in enumerate((250, 150, 80)):
        colour = COLOURS[(i + place) % 3]
        image[(*cell_of(i, colour), CHANNEL[colour])] = light
    return image


class Colours:
    """Pictures of which people say what colour most of it is; of the last three nobody knows better than a rare answer."""

    def __len__(self):
        return 6

    def questions(self, i):
        answer = COLOURS[i] if i < 3 else list(RARE)[i - 3]
        return [{"question": QUESTION, "answers": [answer] * 10, "id": 100 + i, "type": "colour"}]

    def __getitem__(self, i):
        captions = ["one red thing"]
        return {"id": f"{i}", "image": picture_of(i), "lang": "en", "captions": captions, "questions": self.questions(i)}


class Eye(nn.Module):
    """The pixels are the features and, row by row, the tokens."""

    @nn.compact
    def __call__(self, pixels, train=False):
        x = perturbed(self, "features", pixels)
        x = x.reshape(x.shape[0], -1, 3)
        return Encoded(x, mask_of(x))


class Ear(nn.Module):
    """The numbers of the words are their vectors."""

    def __call__(self, ids, mask, train=False):
        return Encoded(ids[..., None].astype(jnp.float32), mask)


class Light(nn.Module):
    """The mean colour of the picture. The pair of word t and place n, row by row, weighs 100 t + n, all of it for (t, n) or,
    `everything`, a quarter for (t, n) and the rest for (n, t); those of class tokens and of other tokens weigh -1000."""

    everything: bool = False

    @nn.compact
    def __call__(self, sources, train=False):
        question, image = sources[:2]
        T, N, first = question.x.shape[1], image.x.shape[1], image.class_tokens
        known = np.full((T, N), -1000.0, np.float32)
        known[:, first:] = 100 * np.arange(T)[:, None] + np.arange(N - first)
        weights = known
        if self.everything:
            weights = np.full((sum(source.x.shape[1] for source in sources),) * 2, -1000.0, np.float32)
            weights[:T, T : T + N], weights[T : T + N, :T] = known / 4, 3 * known.T / 4
        self.sow("attention", "pairs", (jnp.broadcast_to(weights, (len(image.x), *weights.shape)),))
        return image.x[:, first:, :3].mean(1)


def make(image=None, everything=False, seen_as=None, **settings):
    """A predictor. seen_as: {colour: colour it takes it for}."""
    source = Colours()
    config = QuestionExamples(image_size=SIDE, length=12, answers=6, **settings)
    maker = QuestionMaker(config, learn_tokenizer("words:1", [QUESTION, "one red thing"]), source)
    model = VQA(image or Eye(), Ear(), Light(everything), answers=len(maker.answers), hidden=3, mean=0.0, std=1.0)
    params = random_params(model, maker.example_batch(1))
    kernel, bias = np.zeros((3, len(maker.answers)), np.float32), np.zeros(len(maker.answers), np.float32)
    for colour, channel in CHANNEL.items():
        kernel[channel, maker.numbers[(seen_as or {}).get(colour, colour)]] = 200.0
    for answer, logit in RARE.items():
        bias[maker.numbers[answer]] = logit
    params["up"] = {"kernel": np.eye(3, dtype=np.float32), "bias": np.zeros(3, np.float32)}
    params["classifier"] = {"kernel": kernel, "bias": bias}
    return QuestionPredictor(model, params, maker)

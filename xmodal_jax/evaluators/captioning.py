"""Captions of held-out pictures by the public caption metrics, beside what needs no picture at all."""

import numpy as np
from absl import logging

from xmodal_jax.config import choose
from xmodal_jax.data.senses.wordnet import wordnet_folder
from xmodal_jax.draw.blocks import Sample
from xmodal_jax.errors import UserError
from xmodal_jax.evaluators import blind
from xmodal_jax.evaluators.held_out import drawn, parts
from xmodal_jax.metrics.captioning import caption_scores
from xmodal_jax.metrics.cider import CiderD
from xmodal_jax.metrics.synonyms import wordnet_senses
from xmodal_jax.metrics.tokens import caption_tokens

CHOICES = ("score", "consensus", "retrieve")


class CaptioningEvaluator:
    """Metrics: captioning/{bleu1..4, rougeL, meteor, ciderD, ...}, and of the most frequent training caption and of the caption
    of a random training picture captioning/{frequent,random}/NAME; words (mean length). METEOR's synonyms: WordNet, where it is
    installed.

    Args:
      count: held-out pictures, 0: all; beams, length_penalty: of the search.
      choose_by: "score": the best hypothesis; "consensus": of `candidates` hypotheses and samples, and the captions of the
        `neighbours` training pictures that look most alike (Devlin et al., 2015, "Exploring nearest neighbor approaches for
        image captioning"), the one that is nearest to all others by CIDEr-D (minimum Bayes risk); "retrieve": the training
        caption whose vector is nearest to the picture's: what a model that cannot write, a dual encoder, has for a caption.
    """

    def __init__(
        self, recipe, count=256, rows=64, samples=6, beams=4, length_penalty=1.0, choose_by="score", candidates=20,
        temperature=0.7, neighbours=0,
    ):  # fmt: skip
        choose(dict.fromkeys(CHOICES), choose_by, "config.evaluators.captioning.choose_by")
        source, train = recipe.held_out, recipe.train
        self.examples = [source[i] for i in drawn(source, count)]
        self.references = [example["captions"] for example in self.examples]
        self.rows, self.shown, self.choose_by, self.neighbours = rows, samples, choose_by, neighbours
        self.train = train
        self.search = {"beams": beams, "length_penalty": length_penalty}
        self.sampled = {"sample": True, "returned": candidates, "temperature": temperature}
        self.training = [train.captions(i)[0] for i in range(len(train))]
        self.pool = list(dict.fromkeys(text for captions in self.training for text in captions))
        training = [(captions, "") for captions in self.training]
        self.trivial = blind.captions(training, [""] * len(self.examples), recipe.config.seed)
        try:
            self.synonyms = wordnet_senses(wordnet_folder())
        except UserError:
            self.synonyms = None

    def run(self, predictor):
        captions = {"score": self.best, "consensus": self.consensus, "retrieve": self.nearest}[self.choose_by](predictor)
        results = {f"captioning/{name}": value for name, value in self.scores(captions).items()}
        for kind, texts in self.trivial.items():
            found = self.scores(texts)
            results |= {f"captioning/{kind}/{name}": found[name] for name in ("bleu4", "rougeL", "ciderD")}
        results["captioning/words"] = float(np.mean([len(text.split()) for text in captions]))
        samples = []
        for example, text in list(zip(self.examples, captions, strict=True))[: self.shown]:
            about = {"image": example["image"], "references": example["captions"], "lang": example["lang"], "id": example["id"]}
            samples.append(Sample("caption", answer=text, heat=self.heat(predictor, example, text), **about))
        return results, samples

    def heat(self, predictor, example, text):
        """[(word, weights over the image)] of the words, where the decoder sees more than one vector."""
        if self.choose_by == "retrieve" or "look" not in predictor.more:
            return ()
        words, weights = predictor.look(example, text)
        return list(zip(words[:-1], weights, strict=False)) if weights.shape[1] > 1 else ()

    def scores(self, captions):
        return caption_scores(captions, self.references, synonyms=self.synonyms)

    def best(self, predictor):
        """The best hypothesis of a beam search for each picture."""
        return [text for part in parts(self.examples, self.rows) for text in predictor.caption(part, **self.search)]

    def consensus(self, predictor):
        """For each picture the candidate with the highest mean CIDEr-D against all candidates."""
        found, alike = [], self.alike(predictor) if self.neighbours else [()] * len(self.examples)
        beams = {**self.search, "returned": self.search["beams"]}
        for number, part in enumerate(parts(self.examples, self.rows)):
            searched = predictor.candidates(part, **beams)
            sampled = predictor.candidates(part, seed=number, **self.sampled)
            seen = alike[len(found) : len(found) + len(part)]
            found += [[*a, *b, *c] for (a, _), (b, _), c in zip(searched, sampled, seen, strict=True)]
            logging.info("consensus: candidates of %d of %d pictures", len(found), len(self.examples))
        judge = CiderD([[caption_tokens(text) for text in captions] for captions in self.training])
        return [texts[int(judge.similarities([caption_tokens(t) for t in texts]).mean(1).argmax())] for texts in found]

    def alike(self, predictor):
        """For each picture all captions of the `neighbours` training pictures with the nearest features."""
        numbers = range(len(self.train))
        known = np.concatenate([predictor.features([self.train[i] for i in part]) for part in parts(numbers, self.rows)])
        logging.info("consensus: features of %d training pictures", len(known))
        features = np.concatenate([predictor.features(part) for part in parts(self.examples, self.rows)])
        nearest = np.argsort(-features @ known.T, axis=1)[:, : self.neighbours]
        return [[text for i in row for text in self.training[int(i)]] for row in nearest]

    def nearest(self, predictor):
        """The training caption whose vector is nearest to each picture's."""
        images = np.concatenate([predictor.pooled(seconds=part)[0] for part in parts(self.examples, self.rows)])
        texts = np.concatenate([predictor.pooled(texts=part)[1] for part in parts(self.pool, 4 * self.rows)])
        return [self.pool[int(i)] for i in (images @ texts.T).argmax(1)]

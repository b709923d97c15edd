"""What a model whose texts and pictures meet in its layers does with them, beside giving them vectors where it has these."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from xmodal_jax.data.patch_codes import drawn
from xmodal_jax.data.writing import PROMPTS
from xmodal_jax.decoding import painting
from xmodal_jax.decoding.generation import generate
from xmodal_jax.decoding.predictor import BLANK, paired, refuse
from xmodal_jax.decoding.vectors import VectorPredictor
from xmodal_jax.decoding.writing import Writer, numbers_of
from xmodal_jax.errors import UserError


class PairPredictor(Writer, VectorPredictor):
    """A composed model's predictor.

    `fill`, of models with the head "words": the likeliest word in the place of a blank. `match`, of models with the head
    "match": the probability that a text and a picture are a pair, which puts the best of a search in order. `caption`, of
    models whose decoder learned captions or the rest of them, or whose own layers learned each next word or to fill one mask
    after the other; `answer`, of models whose decoder learned answers, or with the head "answers", which chooses among those of
    its training; `draw`, of models that learned the numbers of patches from texts.
    """

    @property
    def verbs(self):
        fills = self.model.interaction and "words" in self.model.predicts and self.maker.tokenizer.mask_token_id is not None
        answers = "answers" in self.model.predicts or (self.model.decoder is not None and "answer" in self.kinds)
        captions = self.writes is not None
        return ("caption",) * captions + ("answer",) * answers + super().verbs + ("fill",) * bool(fills)

    @property
    def kinds(self):
        """Of what its decoder learned to write."""
        return set(self.maker.config.kinds)

    @property
    def writes(self):
        """What writes captions: "decoder", "stream", "masks" of the stream (Unified VLP, Zhou et al., 2020), or None."""
        if self.model.decoder is not None and {"caption", "prefix"} & self.kinds:
            return "decoder"
        if self.objectives.get("next_words", {"mode": ""}).get("mode", "causal") == "causal":
            return "stream"
        return "masks" if self.maker.config.mask_end and self.maker.config.causal else None

    @property
    def more(self):
        return super().more + ("match",) * ("match" in self.model.predicts) + ("draw",) * (self.paints is not None)

    @property
    def paints(self):
        """How it draws pictures, of `painting.WAYS`, or None."""
        return next((way for name, way in painting.WAYS.items() if name in self.objectives), None)

    def draw(self, texts, seed=0, temperature=1.0, steps=None):
        """Pictures of what texts say, uint8 [B, H, H, 3], or [H, H, 3] of one text: of the patches that were found among the
        training pictures.

        seed: of the draw, which for one text does not depend on those beside it; temperature: 0 takes the likeliest patches.
        steps: passes of models that tell all patches at once, by default as many as there are patches.
        """
        if self.paints is None:
            raise UserError(f"{self.title}: this model draws no pictures: train it with configs/zoo.py:dalle or x_lxmert.")
        if self.paints == "order" and steps is not None:
            raise UserError(f"{self.title}: this model draws patch by patch: it takes no steps.")
        given = [texts] if isinstance(texts, str) else list(texts)
        ids, lengths = self._stack_texts(given)
        found = self._painted(float(temperature), steps, self.params, ids, lengths, numbers_of(ids), seed)
        pictures = np.asarray(found)[: len(given)]
        return pictures[0] if isinstance(texts, str) else pictures

    @functools.cached_property
    def _painted(self):
        model, maker = self.model, self.maker
        centroids, patch = jnp.asarray(maker.centroids), maker.config.code_patch

        def run(temperature, steps, params, ids, lengths, numbers, seed):
            keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.PRNGKey(seed), numbers)
            given, size = (model, params, ids, lengths), maker.config.image_size
            N = (size // patch) ** 2
            if self.paints == "order":
                codes = painting.in_order(*given, jnp.zeros((len(ids), size, size, 3), jnp.uint8), N, keys, temperature)
            else:
                boxes = jnp.tile(maker.regions({}), (len(ids), 1, 1)) if maker.config.regions else None
                codes = painting.by_sureness(*given, boxes, N, centroids, patch, keys, temperature, steps or N)
            return drawn(codes, centroids, patch)

        return jax.jit(run, static_argnums=(0, 1))

    def match(self, pictures, texts):
        """Probabilities that each text and its picture are a pair, float32 [B], or a float of one of each."""
        if "match" not in self.model.predicts:
            raise UserError(f"{self.title}: this model does not tell pairs: train it with objectives.match or match_hard.")
        pictures, texts, one = paired(pictures, texts, "texts")
        ids, lengths = self._stack_texts(texts)
        logits = self._fused(self.params, *self._inputs(pictures), ids, lengths)[1]
        shares = np.asarray(jax.nn.softmax(logits))[: len(texts), 1]
        return float(shares[0]) if one else shares

    def fill_blanks(self, pictures, texts):
        tokenizer = self.maker.tokenizer
        ids, lengths = self._stack_texts([text.replace(BLANK, f" {tokenizer.mask_token} ", 1) for text in texts])
        masked = ids == tokenizer.mask_token_id
        if not masked.any(1).all():
            raise UserError(f"The blank stands behind the {self.maker.config.length} words that this model reads of a text.")
        logits = self._fused(self.params, *self._inputs(pictures), ids, lengths)[0]  # [B, T, V]
        own = np.asarray(jax.nn.log_softmax(logits))[np.arange(len(ids)), masked.argmax(1)]
        own[:, [tokenizer.mask_token_id, self.maker.end]] = -np.inf
        best = own.argmax(-1)
        return [(tokenizer.decode([word]).strip(), float(row[word])) for word, row in zip(best, own, strict=True)][: len(texts)]

    @functools.cached_property
    def _fused(self):
        def fused(model, pixels, more, ids, lengths):
            image = model.encode_image(pixels, more)
            pair = model.fuse(model.encode_text(ids, lengths), image)
            given = {"words": pair.text, "match": pair.pooled, "answers": pair.pooled}
            return tuple(model.predict(head, x) if head in model.predicts else None for head, x in given.items())

        return jax.jit(lambda params, *given: self.model.apply({"params": params}, *given, method=fused))

    @property
    def positions(self):
        """Of what writes: a decoder's, else those of the text that the stream writes in."""
        if self.writes not in ("stream", "masks") or "answer" in self.kinds:
            return super().positions
        return self.maker.config.length + 2 - (self.writes == "masks")

    def _written(self, settings, images, key, sources=None):
        """sources: ids of texts that are written from, without marks; None: captions, from nothing."""
        inputs = self._inputs(images)
        if self.writes in ("stream", "masks") and sources is None:
            return self._streamed(settings, self.params, *inputs, key, numbers_of(inputs[0]))
        made = [self.maker.framed(ids) for ids in sources or [[]] * len(images)]
        made += made[:1] * (len(inputs[0]) - len(made))
        ids, lengths = map(np.stack, zip(*made, strict=True))
        return self._decoded(settings, self.params, *inputs, ids, lengths, key, numbers_of(inputs[0]))

    def write_answers(self, pictures, questions, returned=1, **settings):
        """The likeliest answers to each picture's question, lists of strings."""
        if "answers" in self.model.predicts:
            refuse(settings, "chooses among the answers of its training")
            return [[answer for answer, _ in found] for found in self.answers(pictures, questions, returned)]
        prompt = self.maker.ids(PROMPTS["answer"])
        asked = [(prompt + self.maker.ids(question))[: self.maker.config.length] for question in questions]
        found = self._written(self.settings(returned=returned, **settings), pictures, jax.random.PRNGKey(0), asked)
        return [texts for texts, _ in self.texts_of(found, len(pictures))]

    def answers(self, pictures, questions, count=5):
        """For each picture and its question the likeliest answers of its training: [(answer, probability), ...]."""
        ids, lengths = self._stack_texts(questions)
        logits = self._fused(self.params, *self._inputs(pictures), ids, lengths)[2]
        shares, best = jax.lax.top_k(jax.nn.softmax(logits[: len(questions)]), min(count, len(self.maker.answers)))
        rows = (zip(*row, strict=True) for row in zip(np.asarray(best), np.asarray(shares), strict=True))
        return [[(self.maker.answers[i], float(p)) for i, p in row] for row in rows]

    @functools.cached_property
    def _decoded(self):
        model = self.model

        def run(settings, params, pixels, more, ids, lengths, key, numbers):
            def call(method, *args):
                return model.apply({"params": params}, *args, method=method)

            image = call("encode_image", pixels, more)
            context, seen = call("written_context", call("fuse", call("encode_text", ids, lengths), image))

            def step(ids, cache, index):
                return call("step", ids, cache, index, context, seen)

            prompt = jnp.full((len(pixels), 1), self.maker.begin, jnp.int32)
            return generate(step, call("cache", len(pixels), 1 + settings.length), prompt, settings, key, numbers)

        return jax.jit(run, static_argnums=0)

    @functools.cached_property
    def _streamed(self):
        """Every word by a pass of its own over all of the text: in an encoder's layers nothing is kept from word to word. It is
        told by the word before it, or by a mask in its place."""
        model, mask = self.model, self.maker.tokenizer.mask_token_id
        ahead = int(self.writes == "masks")

        def run(settings, params, pixels, more, key, numbers):
            def call(method, *args):
                return model.apply({"params": params}, *args, method=method)

            image = call("encode_image", pixels, more)

            def step(ids, cache, index):
                rows, count = ids.shape
                written = jax.lax.dynamic_update_slice(cache[0], ids, (0, index))  # [R, T]
                shown, last = written, index + count - 1
                if ahead:
                    shown = jax.lax.dynamic_update_slice(written, jnp.full((rows, 1), mask, jnp.int32), (0, last + 1))
                seen = jax.tree.map(lambda x: jnp.repeat(x, rows // len(pixels), axis=0), image)
                text = call("encode_text", shown, jnp.full(rows, last + ahead))
                logits = call("predict", "words", call("fuse", text, seen, "causal").text)
                return jax.lax.dynamic_slice_in_dim(logits, index + ahead, count, axis=1), written[None]

            prompt = jnp.full((len(pixels), 1), self.maker.begin, jnp.int32)
            empty = jnp.full((1, len(pixels), 1 + settings.length + ahead), self.maker.end, jnp.int32)
            return generate(step, empty, prompt, settings, key, numbers)

        return jax.jit(run, static_argnums=0)

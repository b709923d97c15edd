"""What composed models write, word by word, against the logits that their objectives were trained by."""

import numpy as np
import pytest

from tests.conftest import random_params
from tests.test_zoo_run import small
from xmodal_jax.data.writing import PROMPTS
from xmodal_jax.errors import UserError
from xmodal_jax.systems import recipe


def predictor(row):
    parts = recipe.make(small(f"{row},debug,image_size=32"))
    return parts.predictor(random_params(parts.model, parts.example_batch(1))), [parts.held_out[i] for i in range(3)]


@pytest.fixture
def verbs(call):
    """verbs(predictor)("encode_text", ids, ...): the model's verb, compiled."""
    return lambda model: lambda verb, *args: call(model.model, verb, model.params, *args)


def inputs(model, pictures):
    pixels, more = model._inputs(pictures)
    return (pixels,) if more is None else (pixels, more)


def greedy(model, next_logits, rows, steps):
    """Words by the argmax of logits(ids [rows, T], place of the last word) [rows, V], which must not be unknown or a mask."""
    tokenizer, T = model.maker.tokenizer, model.maker.config.length + 2
    ids = np.full((rows, T), model.maker.end, np.int32)
    ids[:, 0] = model.maker.begin
    done = np.zeros(rows, bool)
    for place in range(steps):
        logits = np.array(next_logits(ids, place))
        logits[
            :, [i for i in (tokenizer.unk_token_id, tokenizer.mask_token_id) if i is not None and i != model.maker.end]
        ] = -np.inf
        ids[:, place + 1] = np.where(done, model.maker.end, logits.argmax(-1))
        done |= ids[:, place + 1] == model.maker.end
    return [model.maker.text(row[1:]) for row in ids]


WRITES = {"simvlm": "decoder", "coca": "stream", "unified_vlp": "masks"}


@pytest.mark.parametrize("row", ["simvlm", "unified_vlp", pytest.param("coca", marks=pytest.mark.slow)])
def test_captions(row, verbs):
    """By a decoder, and by the layers that fuse, which tell the next word, or the one that a mask stands for."""
    model, pictures = predictor(row)
    assert "caption" in model.verbs and model.writes == WRITES[row]
    verb, given = verbs(model), inputs(model, pictures)
    rows, steps = len(given[0]), 6
    image = verb("encode_image", *given)
    nothing = np.tile(model.maker.framed([])[0], (rows, 1)), np.ones(rows, np.int32)

    def next_logits(ids, place):
        length = np.full(rows, place, np.int32)
        if row == "unified_vlp":
            ids, length = ids.copy(), length + 1
            ids[:, place + 1] = model.maker.tokenizer.mask_token_id
            pair = verb("fuse", verb("encode_text", ids, length), image, "causal")
            return verb("predict", "words", pair.text)[:, place + 1]
        if row == "coca":
            pair = verb("fuse", verb("encode_text", ids, length), image, "causal")
            return verb("predict", "words", pair.text)[:, place]
        return verb("decode", ids, length, verb("fuse", verb("encode_text", *nothing), image, "both"))[:, place]

    expected = greedy(model, next_logits, rows, steps)[: len(pictures)]
    assert model.caption(pictures, length=steps) == expected
    assert 0 <= model.settings().length - model.maker.config.length <= 1  # as long as the texts of its training
    (best, scores), *_ = model.candidates(pictures, beams=3, returned=3, length=steps)
    assert len(set(best)) == 3 and np.all(np.diff(scores) <= 1e-6)
    with pytest.raises(UserError, match="takes no lang"):
        model.caption(pictures[0], lang="ko")


@pytest.mark.slow
def test_answers_that_are_written(verbs):
    model, pictures = predictor("vl_t5")
    assert "answer" in model.verbs and "caption" not in model.verbs
    verb, given = verbs(model), inputs(model, pictures)
    rows, question = len(given[0]), "what color is the dog ?"
    source, length = model.maker.framed((model.maker.ids(PROMPTS["answer"]) + model.maker.ids(question))[:10])
    text = verb("encode_text", np.tile(source, (rows, 1)), np.full(rows, length, np.int32))
    pair = verb("fuse", text, verb("encode_image", *given), "both")

    def next_logits(ids, place):
        return verb("decode", ids, np.full(rows, place, np.int32), pair)[:, place]

    assert model.answer(pictures, question, length=4) == greedy(model, next_logits, rows, 4)[: len(pictures)]


def test_answers_that_are_chosen(verbs):
    model, pictures = predictor("gmu")
    verb, question = verbs(model), "what color is the dog ?"
    ids, length = model.maker.caption(question)
    for picture in pictures:
        pair = verb("fuse", verb("encode_text", ids[None], length[None]), verb("encode_image", picture["image"][None]), "both")
        logits = np.asarray(verb("predict", "answers", pair.pooled))[0]
        assert model.answer(picture, question) == model.maker.answers[logits.argmax()]
        (best, share), *_ = model.answers([picture], [question], 2)[0]
        assert best == model.maker.answers[logits.argmax()]
        assert share == pytest.approx(np.exp(logits.max()) / np.exp(logits).sum(), rel=1e-4)


def test_what_was_never_learned_is_not_offered():
    for row in ("vilt", "dalle"):
        model, pictures = predictor(row)
        with pytest.raises(UserError, match="has no caption"):
            model.caption(pictures[0])

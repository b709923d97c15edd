"""T5's blocks as parts: the encoder, the decoder and a single stream are those of `T5`, which is compared with PyTorch's."""

import jax
import numpy as np
import pytest

from tests.conftest import random_params
from xmodal_jax.errors import UserError
from xmodal_jax.models.backbones.encoded import Encoded
from xmodal_jax.models.backbones.gpt2 import causal
from xmodal_jax.models.backbones.t5 import NEW, T5, T5Decoder, T5Encoder
from xmodal_jax.models.interactions.single import Single

SIZE = {"width": 16, "heads": 2, "layers": 2}
V, M, T = 40, 7, 5


@pytest.fixture(scope="module")
def whole():
    """(a T5, its parameters, ids to read with their mask, ids to write)"""
    rng = np.random.default_rng(3)
    ids, inputs = rng.integers(3, V, (2, M)).astype(np.int32), rng.integers(3, V, (2, T)).astype(np.int32)
    mask = np.arange(M) < np.array([[M], [4]])
    model = T5(vocabulary=V, decoder_layers=2, style=NEW, **SIZE)
    return model, random_params(model, ids, inputs), ids, mask, inputs


def test_the_encoder(whole):
    model, params, ids, mask, _ = whole
    own = {"words": params["words"], "encoder": params["encoder"], "relations": params["encoder_relations"]}
    found = T5Encoder(vocabulary=V, **SIZE).apply({"params": own}, ids, mask)
    expected = model.apply({"params": params}, ids, mask, method="encode")
    np.testing.assert_allclose(found.x, expected.x, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.pooled[1], np.asarray(expected.x)[1, :4].mean(0), rtol=1e-5, atol=1e-5)
    words = T5Encoder(vocabulary=V, **SIZE | {"layers": 0}).apply({"params": {"words": own["words"]}}, ids, mask)
    np.testing.assert_array_equal(words.x, params["words"]["embedding"][ids])


def test_the_decoder(whole):
    """Of a whole text, and word by word with a cache and a context that was projected once."""
    model, params, ids, mask, inputs = whole
    encoded = model.apply({"params": params}, ids, mask, method="encode")
    expected, _ = model.apply({"params": params}, inputs, encoded, method="decode")
    own = {"words": params["words"], "decoder": params["decoder"], "relations": params["decoder_relations"]}
    part = T5Decoder(vocabulary=V, **SIZE)

    def states(module):
        return module.scores(module.states(inputs, 0, causal(np.ones((2, T), bool)), encoded.x, mask)[0])

    np.testing.assert_allclose(part.apply({"params": own}, method=states), expected, rtol=1e-4, atol=1e-5)
    context = part.apply({"params": own}, encoded.x, method="project_context")
    cache, told = part.cache(2, T), []
    for at in range(T):
        logits, cache = part.apply({"params": own}, inputs[:, at : at + 1], cache, at, context, mask, method="decode")
        told.append(logits)
    np.testing.assert_allclose(np.concatenate(told, 1), expected, rtol=1e-4, atol=1e-5)


def test_no_block_of_the_decoder_goes_without_the_context():
    with pytest.raises(UserError, match="are GPT-2's alone"):
        jax.eval_shape(
            lambda: T5Decoder(vocabulary=V, unimodal=1, **SIZE).init(jax.random.PRNGKey(0), np.ones((1, 3), np.int32))
        )


def test_a_single_stream(whole):
    """Words alone are the encoder's; behind them image tokens have no order."""
    model, params, ids, mask, _ = whole
    stream = Single(**SIZE, kinds=False, pool="none", blocks="t5")
    own = {"encoder": params["encoder"], "relations": params["encoder_relations"]}
    text = Encoded(params["words"]["embedding"][ids], mask)
    expected = model.apply({"params": params}, ids, mask, method="encode")
    np.testing.assert_allclose(stream.apply({"params": own}, text, None).text, expected.x, rtol=1e-5, atol=1e-5)
    places = np.random.default_rng(0).normal(size=(2, 6, 16)).astype(np.float32)
    order = np.random.default_rng(1).permutation(6)
    one, other = (stream.apply({"params": own}, text, Encoded(x, np.ones((2, 6), bool))) for x in (places, places[:, order]))
    np.testing.assert_allclose(one.text, other.text, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.asarray(one.image)[:, order], other.image, rtol=1e-5, atol=1e-5)
    assert np.abs(np.asarray(one.text) - expected.x).max() > 1e-3
    with pytest.raises(UserError, match="must be bert or t5"):
        jax.eval_shape(lambda: Single(**SIZE, blocks="bart").init(jax.random.PRNGKey(0), text, None))

"""The composed model's ways to one vector, against float64 transcriptions, on towers that give what they are given."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import random_params
from xmodal_jax.models import Composed
from xmodal_jax.models.backbones.encoded import Encoded, mask_of
from xmodal_jax.train.gradient import loss_and_gradient

B, T, V, D, P = 3, 6, 11, 12, 5


class Pixels(nn.Module):
    """[B, 4, 4, 3] -> four rows as tokens [B, 4, D]; pooled is their largest."""

    def __call__(self, images, train=False):
        x = images.reshape(len(images), 4, D)
        return Encoded(x, mask_of(x), x.max(1))


class Words(nn.Module):
    """ids -> their vectors [B, T, D]; pooled is the second."""

    @nn.compact
    def __call__(self, ids, mask, train=False):
        x = self.param("embedding", nn.initializers.normal(1.0), (V, D))[ids]
        return Encoded(x, mask, x[:, 1])


def softmax(scores):
    shares = np.exp(scores - scores.max())
    return shares / shares.sum()


def vector(aggregate, tokens, pooled, params, modality):
    """One row's, by hand: tokens [n, D] that the mask shows -> [P]."""
    kernel = np.float64(params[f"to_shared_{modality}"]["kernel"])
    x = tokens @ kernel  # [n, P]
    if aggregate == "weighted":
        x = softmax((x @ np.float64(params[f"weigh_{modality}"]["kernel"]))[:, 0]) @ x
    else:
        x = pooled @ kernel if aggregate == "first" else x.mean(0)
    return x / np.linalg.norm(x)


@pytest.mark.parametrize("aggregate", ["first", "mean", "weighted"])
def test_a_modalitys_vector(call, rng, aggregate):
    model = Composed(Pixels(), Words(), aggregate=aggregate, shared_width=P, names=V, mean=(0.4, 0.5, 0.6), std=0.2)
    images, ids = rng.integers(0, 256, (B, 4, 4, 3)).astype(np.uint8), rng.integers(0, V, (B, T)).astype(np.int32)
    length = np.array([T - 1, 1, 3], np.int32)  # of places up to the closing mark: two words to six
    params = random_params(model, {"image": images, "caption": ids, "caption_length": length})
    seen, told = call(model, "encode_image", params, images), call(model, "encode_text", params, ids, length)
    pixels = ((images / 255 - np.array([0.4, 0.5, 0.6])) / 0.2).reshape(B, 4, D)
    words = np.float64(params["text"]["embedding"])[ids]
    for row in range(B):
        expected = vector(aggregate, pixels[row], pixels[row].max(0), params, "image")
        np.testing.assert_allclose(seen.pooled[row], expected, atol=1e-5)
        expected = vector(aggregate, words[row, : length[row] + 1], words[row, 1], params, "text")
        np.testing.assert_allclose(told.pooled[row], expected, atol=1e-5)
    np.testing.assert_allclose(told.x, words @ params["to_shared_text"]["kernel"], rtol=1e-4, atol=1e-4)
    logits = pixels.mean(1) @ params["to_names"]["kernel"] + params["to_names"]["bias"]
    np.testing.assert_allclose(seen.names, logits, rtol=1e-4, atol=1e-4)
    assert seen.pooled.dtype == jnp.float32 and np.array_equal(told.mask.sum(1), length + 1)
    assert call(model, "scale", {**params, "log_scale": jnp.float32(9.0)}) == pytest.approx(100, rel=1e-5)


@pytest.mark.parametrize("loss", ["infonce", "triplet"])
def test_words_and_regions_are_compared_exactly_in_microbatches(rng, loss):
    """The attended objective over the whole batch, equal captions left out of the negatives, at once and in four parts."""
    model, rows = Composed(Pixels(), Words(), attended=True, shared_width=P), 8
    batch = {
        "image": rng.integers(0, 256, (rows, 4, 4, 3)).astype(np.uint8),
        "caption": rng.integers(0, V, (rows, T)).astype(np.int32),
        "caption_length": rng.integers(1, T, rows).astype(np.int32),
    }
    batch["caption"][5], batch["caption_length"][5] = batch["caption"][2], batch["caption_length"][2]
    params = jax.tree.map(jnp.asarray, random_params(model, batch))
    config = {"loss": loss, "equal": True, "margin": 0.5, "negatives": "semi-hard"}

    def gradient(parts, **other):
        objectives = {"contrastive": config | other, "attended": config | other}
        return jax.jit(lambda params: loss_and_gradient(model, objectives, params, batch, jax.random.PRNGKey(0), parts))(params)

    (one, sums, grads), (other, _, other_grads) = gradient(1), gradient(4)
    np.testing.assert_allclose(other, one, rtol=1e-5)
    assert set(sums[1]) == {"contrastive_right", "attended_right"}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-5), grads, other_grads)
    used = {"log_scale", "log_scale_attended"} if loss == "infonce" else set()
    for name in {"log_sharpness"} | used:
        assert abs(grads[name]) > 1e-6, name
    if loss == "infonce":
        assert float(gradient(1, equal=False)[0]) > float(one) + 1e-4
    words, importance = (np.float64(x) for x in model.apply({"params": params}, batch, method=told_words))
    np.testing.assert_allclose(np.linalg.norm(words, axis=-1), 1, rtol=1e-5)
    np.testing.assert_allclose(importance.sum(-1), 1, rtol=1e-5)
    assert not importance[np.arange(T)[None] > batch["caption_length"][:, None]].any()


def told_words(model, batch):
    return model.words(model.encode_text(batch["caption"], batch["caption_length"]))

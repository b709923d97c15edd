"""The captioner's latents, its three sources of a caption's vector, and its search context, on tiny random models."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import random_params
from xmodal_jax.errors import UserError
from xmodal_jax.models import Captioner, CrossmodalBytes
from xmodal_jax.models.backbones.convit import ConvViT
from xmodal_jax.models.backbones.gpt2 import GPT2
from xmodal_jax.models.backbones.vit import ViT
from xmodal_jax.models.captioner import EOS_SOURCES
from xmodal_jax.models.verbs import Verbs
from xmodal_jax.train.gradient import loss_and_gradient

V, T, B = 13, 8, 3
CONV = ConvViT(stem=2, widths=(8, 12), depths=(0, 1), layers=1, heads=2)
BASELINE = {"captioning": {"weight": 1.0}}


def make(image=CONV, unimodal=0, **settings):
    decoder = GPT2(vocabulary=V, positions=T, width=16, heads=2, layers=2, cross=True, unimodal=unimodal)
    return Captioner(image, decoder, latent_size=6, shared_width=5, **settings)


@pytest.fixture
def batch(rng):
    length = np.array([T - 1, 3, 5], np.int32)
    caption = np.where(np.arange(T)[None] < length[:, None], rng.integers(1, V, (B, T)), 0).astype(np.int32)
    caption[:, 0] = 0
    return {"image": rng.integers(0, 256, (B, 16, 16, 3)).astype(np.uint8), "caption": caption, "caption_length": length}


@pytest.mark.parametrize("image", [CONV, ViT(width=12, heads=2, layers=1, patch=4, grid=(4, 4))], ids=["convit", "vit"])
@pytest.mark.parametrize(("latent", "count"), [("none", None), ("cls", 1), ("patch", "N"), ("patch_concat", 1)])
def test_equation_1_each_latent_gives_the_decoder_its_context(call, batch, image, latent, count):
    model = make(image, latent=latent)
    seen = call(model, "encode_image", random_params(model, batch), batch["image"])
    tokens = seen.x.shape[1]
    if count is None:
        assert seen.latents is None and seen.context.shape == (B, tokens, 16)
        return
    assert seen.latents.mu.shape == (B, tokens if count == "N" else count, 6)
    assert seen.context.shape == (*seen.latents.mu.shape[:2], 16)
    np.testing.assert_array_equal(seen.latents.z, seen.latents.mu)  # at evaluation


def test_draws_have_the_moments_that_are_given_and_share_no_noise(batch):
    model = make(contrast_on="latent")
    params = random_params(model, batch)

    def draw(key):
        seen = Verbs(model, params, key, train=True).encode_image(batch["image"])
        return seen.latents, seen.pooled

    found, pooled = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.PRNGKey(1), 2000))
    mu, deviation = found.mu[0], np.exp(found.log_variance[0] / 2)
    assert (np.abs(found.z.mean(0) - mu) < 6 * deviation / 2000**0.5).all()
    np.testing.assert_allclose(found.z.std(0), deviation, rtol=0.12)
    between = np.corrcoef(found.z.reshape(2000, -1), rowvar=False)  # of all components of all tokens of all pictures
    assert len(between) == mu.size > B * 6 and np.abs(between - np.eye(len(between))).max() < 7 / 2000**0.5
    np.testing.assert_allclose(pooled, np.broadcast_to(pooled[0], pooled.shape), atol=1e-6)  # of the means, not of a draw


def test_a_pictures_vector_is_of_the_encoders_output_or_of_the_latents_means(call, batch):
    for source in ("encoder", "latent"):
        model = make(contrast_on=source)
        params = random_params(model, batch)
        seen = call(model, "encode_image", params, batch["image"])
        pixels = (batch["image"].astype(np.float32) / 255 - 0.5) / 0.25
        whole = call(CONV, "__call__", params["image"], pixels).pooled if source == "encoder" else seen.latents.mu.mean(1)
        shared = np.asarray(whole) @ params["to_shared_image"]["kernel"]
        np.testing.assert_allclose(seen.pooled, shared / np.linalg.norm(shared, axis=1, keepdims=True), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model", [make(), CrossmodalBytes()], ids=["captioner", "crossmodal_bytes"])
def test_the_temperature_starts_at_007_and_stays_above_001(model):
    def scale(params):
        return float(model.apply({"params": params}, method="scale"))

    params = model.init(jax.random.PRNGKey(0), method="scale")["params"]
    assert scale(params) == pytest.approx(1 / 0.07, rel=1e-3)
    found = [scale(params | {"log_scale": jnp.log(value)}) for value in (3.0, 99.0, 101.0, 1e4)]
    np.testing.assert_allclose(found, [3, 99, 100, 100], rtol=1e-5)


def test_evaluation_is_deterministic_and_training_is_not(batch):
    model = make()
    params = random_params(model, batch)

    @functools.partial(jax.jit, static_argnums=1)
    def logits(seed, train):
        verbs = Verbs(model, params, jax.random.PRNGKey(seed), train)
        seen = verbs.encode_image(batch["image"])
        return verbs.decode(batch["caption"], batch["caption_length"], seen).logits

    assert (logits(0, False) == logits(1, False)).all() and not (logits(0, True) == logits(1, True)).all()


def gradient(model, objectives, params, batch):
    """(loss, sums, gradient) of a step with a fixed key."""
    return jax.jit(lambda p, b: loss_and_gradient(model, objectives, p, b, jax.random.PRNGKey(0), 1))(params, batch)


def test_weights_of_zero_and_no_latent_are_the_baseline_exactly(batch):
    """beta = gamma = 0: the same loss and gradients, bit for bit, as the encoder-decoder alone."""
    model = make(latent="none")
    params = random_params(model, batch)
    zero = {"kl": {"weight": 0.0}, "contrastive": {"weight": 0.0}}
    ours, theirs = (gradient(model, o, params, batch) for o in (BASELINE | zero, BASELINE))
    assert ours[0] == theirs[0]
    jax.tree.map(np.testing.assert_array_equal, ours[2], theirs[2])


def test_alpha_scales_the_whole_gradient(batch):
    model = make()
    params = random_params(model, batch)
    halved, whole = (gradient(model, {"captioning": {"weight": w}}, params, batch)[2] for w in (0.5, 1.0))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b / 2, rtol=1e-5, atol=1e-7), halved, whole)


def test_a_captions_vector_sees_the_image_in_the_papers_words_alone(call, batch):
    for source, sees in {"text_only": False, "decoder_final": True, "unimodal_half": False}.items():
        model = make(unimodal=int(source == "unimodal_half"), eos_source=source)
        params = random_params(model, batch)

        def vectors(images, model=model, params=params):
            seen = call(model, "encode_image", params, images)
            return call(model, "encode_text", params, batch["caption"], batch["caption_length"], seen).pooled

        moved = np.abs(vectors(batch["image"]) - vectors(batch["image"][::-1])).max() > 1e-4
        assert moved == sees, source


def test_a_captions_vector_is_that_of_its_closing_end_mark(call, batch):
    for source in EOS_SOURCES:
        model = make(unimodal=int(source == "unimodal_half"), eos_source=source)
        params = random_params(model, batch)
        seen = call(model, "encode_image", params, batch["image"])

        def vectors(ids, model=model, params=params, seen=seen):
            return call(model, "encode_text", params, ids, batch["caption_length"], seen).pooled

        for place in range(2, T):  # row 1 ends at 3: the word before, the mark itself, and what stands behind
            moved = 0.0  # the most that another word does: with random weights a single one may do next to nothing
            for other in range(1, V, 3):
                changed = batch["caption"].copy()
                changed[1, place] = (changed[1, place] + other) % V
                moved = max(moved, np.abs(vectors(batch["caption"]) - vectors(changed))[1].max())
            assert moved > 1e-4 if place <= 3 else moved < 1e-6, (source, place)


@pytest.mark.parametrize("unimodal", [0, 1])
def test_a_context_projected_once_serves_all_hypotheses_of_a_search(call, rng, unimodal):
    decoder = GPT2(vocabulary=V, positions=T, width=16, heads=2, layers=3, cross=True, unimodal=unimodal)
    ids, context = rng.integers(0, V, (6, 5)), rng.normal(size=(2, 7, 16)).astype(np.float32)
    mask = np.arange(7)[None] < np.array([[7], [4]])
    params = random_params(decoder, jnp.asarray(ids), None, jnp.repeat(context, 3, 0))
    plain = call(decoder, "__call__", params, ids, None, np.repeat(context, 3, 0), np.repeat(mask, 3, 0)).logits
    projected, close = (
        call(decoder, "project_context", params, context),
        1e-5 * np.abs(plain).max(),
    )  # sums of terms of that size
    np.testing.assert_allclose(
        call(decoder, "__call__", params, ids, None, projected, mask).logits, plain, rtol=1e-5, atol=close
    )
    cache, written = decoder.apply({"params": params}, 6, T, method="cache"), []
    for start, end in ((0, 2), (2, 3), (3, 5)):
        logits, cache = call(decoder, "decode", params, ids[:, start:end], cache, start, projected, mask)
        written.append(logits)
    np.testing.assert_allclose(np.concatenate(written, 1), plain, rtol=1e-5, atol=close)


def test_settings_that_do_not_go_together_are_refused(batch):
    for settings, told in (
        ({"latent": "patches"}, "latent.*patch_concat"),
        ({"eos_source": "eos"}, "eos_source.*text_only"),
        ({"eos_source": "unimodal_half"}, "unimodal"),
        ({"latent": "none", "contrast_on": "latent"}, "contrast_on"),
    ):
        with pytest.raises(UserError, match=told):
            jax.eval_shape(lambda settings=settings: make(**settings).init(jax.random.PRNGKey(0), batch))
    model = make(eos_source="decoder_final")
    with pytest.raises(UserError, match="beside an image"):
        model.apply({"params": random_params(model, batch)}, batch["caption"], batch["caption_length"], method="encode_text")

"""A mix of layers is the weighted sum of what goes in and of what each block gives."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tests.conftest import random_params
from xmodal_jax.models.backbones.recurrent import Recurrent
from xmodal_jax.models.backbones.vit import ViT
from xmodal_jax.models.mixing import LayerMix

VIT = ViT(width=8, heads=2, layers=2, patch=4, grid=(2, 2))


class Whole(nn.Module):
    encoder: nn.Module

    def setup(self):
        self.mix = LayerMix()

    def __call__(self, x, train=False):
        return self.mix(self.encoder, x, train=train)


def test_the_mix_is_elmos_sum_and_its_gradients_reach_all_layers(rng):
    images = rng.normal(size=(2, 8, 8, 3)).astype(np.float32)
    params = random_params(Whole(VIT), images)
    params["mix"]["gamma"] = jnp.asarray(1.7)
    found, kept = Whole(VIT).apply({"params": params}, images, mutable="intermediates")
    _, alone = VIT.apply({"params": params["encoder"]}, images, mutable="intermediates")
    layers = [alone["intermediates"]["encoder"]["input"][0], *alone["intermediates"]["encoder"]["layers"]["hidden"][0]]
    shares = np.exp(np.asarray(params["mix"]["shares"], np.float64))
    wanted = 1.7 * sum(share / shares.sum() * np.asarray(layer) for share, layer in zip(shares, layers, strict=True))
    np.testing.assert_allclose(found.x, wanted, atol=1e-5)
    np.testing.assert_array_equal(kept["intermediates"]["encoder"]["encoder"]["input"][0], layers[0])  # for Grad-CAM
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(Whole(VIT).apply({"params": p}, images).x ** 2)))(params)
    assert np.abs(gradient["mix"]["shares"]).min() > 0
    assert np.abs(gradient["encoder"]["patch_embed"]["projection"]["kernel"]).max() > 0


def test_an_encoder_without_blocks_stays_as_it_is(rng):
    encoder, x = Recurrent("gru", width=4, layers=1), rng.normal(size=(2, 3, 5)).astype(np.float32)
    params = random_params(Whole(encoder), x)
    found = Whole(encoder).apply({"params": params}, x)
    np.testing.assert_array_equal(found.x, encoder.apply({"params": params["encoder"]}, x).x)


class Twice(Whole):
    def __call__(self, x, y):
        return self.mix(self.encoder, x).x, self.mix(self.encoder, y).x


def test_an_encoder_called_twice_mixes_the_layers_of_each_call(rng):
    x, y = rng.normal(size=(2, 2, 8, 8, 3)).astype(np.float32)
    params = {"params": random_params(Whole(VIT), x)}
    found, _ = Twice(VIT).apply(params, x, y, mutable="intermediates")  # as Grad-CAM does, where a third modality is a text too
    np.testing.assert_array_equal(found[0], Whole(VIT).apply(params, x).x)
    np.testing.assert_array_equal(found[1], Whole(VIT).apply(params, y).x)

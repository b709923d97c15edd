"""The variational bottleneck between an image encoder and a text decoder (Transformer-VAE-CL, equation 1).

Letters: B batch, N image tokens, n latents, D width, Z size of a latent.
"""

from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp

from xmodal_jax.config import choose
from xmodal_jax.models.dense import Dense

# What each kind of latent is made from: (tokens [B, N, D], one vector for all [B, D]) -> [B, n, what W_im takes]
LATENTS = {
    "cls": lambda x, pooled: pooled[:, None],
    "patch": lambda x, pooled: x,
    "patch_concat": lambda x, pooled: x.reshape(x.shape[0], 1, -1),
}


@flax.struct.dataclass
class Latents:
    """z, mu, log_variance, each [B, n, Z]; z is mu where nothing is drawn."""

    z: Any
    mu: Any
    log_variance: Any


class GaussianLatent(nn.Module):
    """A feed-forward layer W_im, b gives mu and log sigma^2; z = mu + sigma eps, eps ~ N(0, I) (Kingma and Welling, 2014).

    kind: "cls": one latent of the image's single vector (cross-attention over it is a softmax over one key: every word gets
    the same); "patch": one a token, shared weights; "patch_concat": one of all tokens side by side.
    size: Z. Draws where the rng stream "latent" is given and train is set, else z = mu.
    """

    kind: str = "patch"
    size: int = 128
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, pooled, train=False):
        """x [B, N, D], pooled [B, D] -> Latents with n = N or 1, float32."""
        x = choose(LATENTS, self.kind, "config.model.latent")(x, pooled)
        y = Dense((2, self.size), dtype=self.dtype, name="moments")(x).astype(jnp.float32)  # [B, n, 2, Z]
        mu, log_variance = y[..., 0, :], jnp.clip(y[..., 1, :], -20.0, 20.0)
        if not train or not self.has_rng("latent"):
            return Latents(mu, mu, log_variance)
        noise = jax.random.normal(self.make_rng("latent"), mu.shape)
        return Latents(mu + jnp.exp(log_variance / 2) * noise, mu, log_variance)

"""A learned mix of an encoder's layers in place of its last (ELMo's, Peters et al., 2018, equation 1)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmodal_jax.models.stacks import sown


class LayerMix(nn.Module):
    """x = gamma sum_k softmax(s)_k h^k over what goes into the encoder's blocks and what each gives.

    An encoder without transformer blocks stays as it is.
    """

    @nn.compact
    def __call__(self, encoder, *args, train=False):
        """encoder: a bound module that gives `Encoded`, called with args -> Encoded, its x [B, N, D] mixed."""
        if self.is_initializing():
            encoder(*args, train=train)  # makes its parameters
        variables, rngs = encoder.variables, None
        if train and self.has_rng("dropout"):
            rngs = {"dropout": self.make_rng("dropout")}
        alone = encoder.clone(parent=None, name=None)
        encoded, kept = alone.apply(variables, *args, train=train, rngs=rngs, mutable="intermediates")
        kept = kept.get("intermediates", {})
        if self.is_mutable_collection("intermediates"):  # for whoever asked for them
            for name, value in kept.items():
                encoder.put_variable("intermediates", name, value)
        blocks = kept.get("encoder", {})
        if "layers" not in blocks:
            return encoded
        # An encoder of two texts is called twice where intermediates are asked for: the last call is this one.
        layers = jnp.concatenate([blocks["input"][-1][None], sown(blocks["layers"], "hidden")])  # [L + 1, B, N, D]
        shares = jax.nn.softmax(self.param("shares", nn.initializers.zeros, (len(layers),)))
        gamma = self.param("gamma", nn.initializers.ones, ())
        return encoded.replace(x=jnp.einsum("l,lbnd->bnd", (gamma * shares).astype(layers.dtype), layers))

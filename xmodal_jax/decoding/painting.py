"""Pictures from texts, by models whose patches have numbers: one patch after the other (DALL-E, Ramesh et al., 2021), or all
at once and the least sure ones again (mask-predict, Ghazvininejad et al., 2019; X-LXMERT, Cho et al., 2020).

Letters: B texts, T words, N patches of a picture, K numbers that they can have, H pixels of a picture's side.
"""

import jax
import jax.numpy as jnp

from xmodal_jax.data.patch_codes import drawn
from xmodal_jax.models.pixels import grey
from xmodal_jax.models.vectors import at
from xmodal_jax.models.verbs import Verbs

WAYS = {"next_codes": "order", "codes": "sureness"}  # of the objectives that teach it


def chosen(logits, keys, temperature):
    """Logits [B, ..., K], a key a row -> numbers int32 [B, ...]: drawn, or with temperature 0 the likeliest."""
    if not temperature:
        return logits.argmax(-1).astype(jnp.int32)
    return jax.vmap(jax.random.categorical)(keys, logits / temperature).astype(jnp.int32)


def keys_of(keys, step):
    """Keys [B] of one step."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, step)


def in_order(model, params, ids, lengths, pixels, N, keys, temperature):
    """ids int32 [B, T], lengths [B], pictures of any pixels [B, H, H, 3], keys [B] -> numbers int32 [B, N], each patch told
    from the text and those before it, by a pass over the whole sequence."""

    def step(n, codes):
        verbs = Verbs(model, params)
        pair = verbs.fuse(verbs.encode_text(ids, lengths), verbs.encode_image(pixels, {"codes": codes}), "sequence")
        before = jnp.concatenate([at(pair.text, lengths)[:, None], pair.image], axis=1)  # [B, 1 + N, D]
        x = jax.lax.dynamic_index_in_dim(before, n, axis=1, keepdims=False)
        return codes.at[:, n].set(chosen(verbs.predict("codes", x), keys_of(keys, n), temperature))

    return jax.lax.fori_loop(0, N, step, jnp.zeros((len(ids), N), jnp.int32))


def by_sureness(model, params, ids, lengths, boxes, N, centroids, patch, keys, temperature, steps):
    """The same in `steps` passes: each tells all hidden patches, of which those told most surely stay, so that after pass s of
    S floor(N (S - s) / S) are hidden. boxes [B, N, 4]: of models of regions, the patches; else None."""

    def step(s, state):
        codes, sure, hidden = state
        verbs = Verbs(model, params)
        more = () if boxes is None else ({"boxes": boxes, "there": jnp.ones_like(hidden), "hidden": hidden},)
        seen = verbs.encode_image(grey(drawn(codes, centroids, patch), hidden), *more)
        tokens = verbs.fuse(verbs.encode_text(ids, lengths), seen, "both").image[:, seen.class_tokens :]
        told = jax.nn.log_softmax(verbs.predict("codes", tokens))  # [B, N, K]
        found = chosen(told, keys_of(keys, s), temperature)
        codes = jnp.where(hidden, found, codes)
        sure = jnp.where(hidden, jnp.take_along_axis(told, found[..., None], axis=-1)[..., 0], sure)
        rank = jnp.argsort(jnp.argsort(sure, axis=1), axis=1)
        return codes, sure, rank < N * (steps - 1 - s) // steps

    empty = jnp.zeros((len(ids), N), jnp.int32), jnp.zeros((len(ids), N)), jnp.ones((len(ids), N), bool)
    return jax.lax.fori_loop(0, steps, step, empty)[0]

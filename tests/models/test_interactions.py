"""Interactions: against a model with PyTorch's figures, and who sees whom in each mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import random_params
from xmodal_jax.errors import UserError
from xmodal_jax.models.backbones.bert import BERT
from xmodal_jax.models.backbones.encoded import Encoded, mask_of
from xmodal_jax.models.backbones.vilt import ViLT
from xmodal_jax.models.backbones.vit import LinearPatches
from xmodal_jax.models.interactions import Single

B, T, D, SIDE, V = 2, 5, 12, 3, 20
SIZES = {"width": D, "heads": 3, "layers": 2}


def test_a_single_stream_of_vilts_parts_is_vilt(rng):
    """Whose own figures are PyTorch's (tests/interop)."""
    ids = rng.integers(0, V, (B, T)).astype(np.int32)
    mask = np.arange(T)[None] < np.array([[T], [3]])
    images = rng.normal(size=(B, SIDE * 4, SIDE * 4, 3)).astype(np.float32)
    whole = ViLT(vocabulary=V, positions=T, patch=4, grid=SIDE, pooler=True, **SIZES)
    params = random_params(whole, ids, images)
    expected = whole.apply({"params": params}, ids, images, mask)
    patches = LinearPatches(width=D, patch=4, grid=(SIDE, SIDE))
    words = BERT(vocabulary=V, positions=T, width=D, layers=0)
    image = patches.apply({"params": {name: params[name] for name in ("patch_embed", "class_token", "position_table")}}, images)
    text = words.apply({"params": {"embed": params["text_embed"]}}, ids, mask)
    own = {"encoder": params["encoder"], "pooler": params["pooler"], "modality": params["kind_table"]}
    fused = Single(**SIZES).apply({"params": own}, text, image)
    np.testing.assert_allclose(np.concatenate([fused.text, fused.image], 1), expected.x, atol=1e-5)
    np.testing.assert_allclose(fused.pooled, expected.pooled, atol=1e-5)


@pytest.mark.parametrize("post_norm", [False, True])
@pytest.mark.parametrize("mode", ["both", "prefix", "causal"])
def test_who_sees_whom(mode, post_norm, rng):
    """A changed token changes those that may see it, and no other; the last word and the last place are padding."""
    N = 4
    words, places = (rng.normal(size=(1, count, D)).astype(np.float32) for count in (T, N))
    masks = np.arange(T)[None] < T - 1, np.arange(N)[None] < N - 1
    model = Single(post_norm=post_norm, **SIZES)
    encoded = [Encoded(x, mask) for x, mask in zip((words, places), masks, strict=True)]
    params = random_params(model, *encoded)

    @jax.jit
    def run(words, places):
        fused = model.apply({"params": params}, Encoded(words, masks[0]), Encoded(places, masks[1]), mode)
        return jnp.concatenate([fused.text, fused.image], 1)

    plain = run(words, places)
    for changed in range(T + N):
        x = np.concatenate([words, places], 1)
        x[0, changed] += rng.normal(size=D)
        moved = {*np.flatnonzero(np.abs(np.asarray(run(x[:, :T], x[:, T:]) - plain)[0]).max(-1) > 1e-4).tolist()}
        if changed in (T - 1, T + N - 1):
            expected = {changed}
        elif changed >= T:
            expected = {*range(T + N)}
        else:
            expected = {*range(T + N if mode == "both" else T)} - ({*range(changed)} if mode == "causal" else set())
        assert moved == expected, changed


def test_widths_and_modes_that_do_not_fit_are_named():
    x = np.zeros((1, 2, D), np.float32)
    with pytest.raises(UserError, match="give all three one width"):
        Single(width=16, heads=2, layers=1).init(jax.random.PRNGKey(0), Encoded(x, mask_of(x)), Encoded(x, mask_of(x)))
    with pytest.raises(UserError, match="mode='half'"):
        Single(**SIZES).init(jax.random.PRNGKey(0), Encoded(x, mask_of(x)), Encoded(x, mask_of(x)), "half")
